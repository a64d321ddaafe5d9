// Trees in SVG, for drafts and for searches: boxes by depth, walked with arrow keys.

import { el, put, svg } from "./dom.js";
import { createReadout } from "./primitives.js";
import { clipped, layoutTree, walkTree } from "./theatre_maths.js";

const BOX = { high: 36, gap: 8, between: 30, left: 6, top: 6 };

function nodeBox(node, x, y, wide, lines, i) {
  const [first, second] = lines(node);
  return svg("g", { class: `wb-th-node wb-th-is-${node.state}${node.best ? " wb-th-best" : ""}`, "data-node": i, transform: `translate(${x} ${y})` },
    svg("rect", { width: wide, height: BOX.high, rx: 5 }),
    svg("text", { class: "wb-th-node-text", x: wide / 2, y: 15, "text-anchor": "middle" }, first),
    svg("text", { class: "wb-th-node-figures", x: wide / 2, y: 29, "text-anchor": "middle" }, second));
}

/**
 * The picture; `update({nodes, root, columns})` draws. `lines(node)` gives the two lines of a box and `say(node)` the
 * sentence of a node that is pointed at; `wide` is the width of a box.
 */
export function createNodes({ lines, say, name, wide }) {
  const canvas = svg("svg", { class: "wb-th-tree", role: "img", tabindex: "0" });
  const readout = createReadout("wb-th-readout");
  const scroller = el("div", { class: "wb-th-scroll" }, canvas);
  const element = el("div", { class: "wb-th-trees" }, scroller, readout);
  let [nodes, y, at, hint] = [[], [], -1, ""];

  function choose(i) {
    canvas.querySelector(".wb-th-picked")?.classList.remove("wb-th-picked");
    at = i;
    const node = nodes[i];
    readout.textContent = node ? say(node) : hint;
    if (!node) return;
    const box = canvas.querySelector(`[data-node="${i}"]`);
    box.classList.add("wb-th-picked");
  }

  function update(next) {
    nodes = next.nodes;
    hint = next.hint;
    const layout = layoutTree(nodes);
    y = layout.y;
    const rooted = next.root !== undefined;
    const column = wide + BOX.between;
    const x = (node) => BOX.left + (node.depth + (rooted ? 1 : 0)) * column;
    const row = (v) => BOX.top + (next.columns ? 14 : 0) + v * (BOX.high + BOX.gap);
    const deep = nodes.reduce((most, n) => Math.max(most, n.depth + 1), 0) + (rooted ? 1 : 0);
    const tops = nodes.filter((n) => n.parent < 0).map((n) => y[nodes.indexOf(n)]);
    const rootY = tops.length ? (Math.min(...tops) + Math.max(...tops)) / 2 : 0;
    const [width, height] = [deep * column - BOX.between + 2 * BOX.left, row(layout.rows) + BOX.top - BOX.gap];
    const edge = (n, i) => {
      if (n.parent < 0 && !rooted) return n.cut ? svg("path", { class: "wb-th-edge wb-th-cut", d: `M${x(n) - 5} ${row(y[i]) + BOX.high / 2}h5` }) : null;
      const [ax, ay] = n.parent < 0 ? [BOX.left + wide, row(rootY)] : [x(nodes[n.parent]) + wide, row(y[n.parent])];
      const [bx, by] = [x(n), row(y[i])];
      const [from, to] = [ay + BOX.high / 2, by + BOX.high / 2];
      return svg("path", { class: `wb-th-edge wb-th-is-${n.state}`, d: `M${ax} ${from}C${(ax + bx) / 2} ${from} ${(ax + bx) / 2} ${to} ${bx} ${to}` });
    };
    canvas.setAttribute("viewBox", `0 0 ${Math.max(width, 10)} ${Math.max(height, 10)}`);
    canvas.setAttribute("width", Math.max(width, 10));
    canvas.setAttribute("height", Math.max(height, 10));
    canvas.setAttribute("aria-label", next.label ?? name);
    put(canvas, nodes.map(edge),
      (next.columns ?? []).map((text, i) => svg("text", { class: "wb-tick", x: BOX.left + i * column + wide / 2, y: 11, "text-anchor": "middle" }, text)),
      rooted ? svg("g", { class: "wb-th-node wb-th-is-root", transform: `translate(${BOX.left} ${row(rootY)})` }, svg("rect", { width: wide, height: BOX.high, rx: 5 }),
        svg("text", { class: "wb-th-node-text", x: wide / 2, y: 15, "text-anchor": "middle" }, clipped(next.root, 11)),
        svg("text", { class: "wb-th-node-figures", x: wide / 2, y: 29, "text-anchor": "middle" }, "text so far")) : null,
      nodes.map((n, i) => nodeBox(n, x(n), row(y[i]), wide, lines, i)));
    choose(-1);
    const best = nodes.findLastIndex((n) => n.best || n.state === "chosen");
    if (best >= 0) {
      scroller.scrollTop = row(y[best]) - scroller.clientHeight / 2;
      scroller.scrollLeft = width;
    }
  }

  canvas.addEventListener("keydown", (event) => {
    const to = walkTree(nodes, y, at, event.key);
    if (to === null) return;
    event.preventDefault();
    event.stopPropagation();
    choose(to);
    canvas.querySelector(".wb-th-picked")?.scrollIntoView?.({ block: "nearest", inline: "nearest" });
  });
  canvas.addEventListener("pointerover", (event) => {
    const i = event.target.closest("[data-node]")?.dataset.node;
    if (i !== undefined) choose(Number(i));
  });
  canvas.addEventListener("blur", () => choose(-1));
  return { element, update };
}
