// All heads as small maps on one canvas: found by eye, by keys, or sorted by a metric.

import { button, el, field, fillSelect, put, select } from "./dom.js";
import { createFallback } from "./primitives.js";
import { cividis } from "./maths.js";
import { createCanvasMap } from "./canvas_map.js";
import { colourTable, orderBy, shrink } from "./lens_maths.js";
import { createAtlas } from "./lens_tiles.js";

const LARGEST = 96; // pixels of a small map

/** The panel; `app` has study, head and open(n). */
export function createHeads(app) {
  const { study } = app;
  const atlas = createAtlas(study, shrink, colourTable(cividis(), 255, study.floor, 1, true));
  const columns = study.layers;
  const map = createCanvasMap({ name: "wb-ln-heads", role: "application", stage: "wb-ln-heads-stage", most: 0, describe: (x, y) => told(headAt(y * columns + x)),
    act: (x, y) => app.open(headAt(y * columns + x)), paint,
    size: (width) => { const side = Math.min(LARGEST, width / columns); return [side * columns, side * study.heads]; } });
  const axis = el("p", { class: "wb-faint" });
  const sort = select((name) => { sorted = name; arrange(); });
  const chips = el("div", { class: "wb-ln-chips", role: "group", "aria-label": "Kinds of heads to point out" });
  const fallback = createFallback("Heads, as a table", tabulate, "wb-ln-table");
  const element = el("div", { class: "wb-ln-panel" },
    el("div", { class: "wb-ln-bar" }, field("Order", sort), chips), map.element,
    el("div", { class: "wb-ln-foot" }, map.spoken, axis), fallback.toggle, fallback.holder);
  let [sorted, order, only] = [null, [], null];
  fillSelect(sort, [[null, "layers across, heads down"], ...study.metrics.map(([name]) => [name, `by ${name}`])], null);

  const told = (n) => study.told(n, sorted ? [sorted, "effective keys", "sink", "local"] : undefined);
  /** The head in a place of the grid, and the other way round. */
  const headAt = (at) => (sorted ? order[at] : (at % study.layers) * study.heads + Math.floor(at / study.layers));
  const placeOf = (n) => (sorted ? order.indexOf(n) : (n % study.heads) * study.layers + Math.floor(n / study.heads));

  function arrange() {
    order = orderBy(sorted && study.metric(sorted), study.count);
    axis.textContent = sorted ? `Sorted by ${sorted}: ${study.metrics.find(([m]) => m === sorted)[1]}; the largest first.`
      : `Layer 0 to ${study.layers - 1} from left to right, head 0 to ${study.heads - 1} from top to bottom. Queries down, keys across; bright is much, logarithmic.`;
    const place = placeOf(app.head);
    map.update({ columns, rows: study.heads, count: study.count, label: `${study.layers} layers by ${study.heads} heads as small maps` });
    map.point({ x: place % columns, y: Math.floor(place / columns) });
    fallback.update();
  }
  function paint(pen, { sx: size }) {
    const style = getComputedStyle(element);
    const [ink, paper] = [style.getPropertyValue("--wb-ink"), style.getPropertyValue("--wb-bg")];
    const font = Math.max(8, Math.min(13, size * 0.28));
    for (let at = 0; at < study.count; at++) {
      const n = headAt(at);
      const [, letter, colour] = study.kindOf(n);
      const [x, y] = [(at % columns) * size, Math.floor(at / columns) * size];
      pen.globalAlpha = only === null || study.kindOf(n)[0] === only ? 1 : 0.18;
      pen.fillStyle = colour;
      pen.fillRect(x + 1, y + 1, size - 2, size - 2);
      pen.fillStyle = paper;
      pen.fillRect(x + 2.5, y + 2.5, size - 5, size - 5);
      const [ax, ay] = atlas.place(n);
      pen.imageSmoothingEnabled = size - 5 < atlas.side;
      pen.drawImage(atlas.canvas, ax, ay, atlas.side, atlas.side, x + 2.5, y + 2.5, size - 5, size - 5);
      if (size < 16) continue;
      pen.fillStyle = ink;
      pen.font = `600 ${font}px system-ui, sans-serif`;
      pen.textAlign = "right";
      pen.textBaseline = "top";
      pen.fillText(letter, x + size - 5, y + 4.5);
    }
    pen.globalAlpha = 1;
  }
  function tabulate(holder) {
    const names = study.metrics.map(([name]) => name);
    const values = names.map((name) => study.metric(name));
    const rows = order.map((n) => el("tr", null, el("th", { scope: "row" }, button(study.nameOf(n), () => app.open(n), { class: "wb-button wb-quiet", "aria-label": `Open head ${study.nameOf(n)}` })),
      el("td", { text: study.kindOf(n)[0] }), names.map((name, i) => el("td", { text: study.figure(name, values[i][n]) }))));
    put(holder, el("table", { class: "wb-table" }, el("thead", null, el("tr", null, el("th", { scope: "col", text: "head" }), el("th", { scope: "col", text: "kind" }), names.map((m) => el("th", { scope: "col", text: m })))), el("tbody", null, rows)));
  }
  function chip([name, letter, colour], i) {
    const mine = Array.from({ length: study.count }, (_, n) => n).filter((n) => study.kindOf(n) === study.kinds[i]).length;
    const node = el("button", { type: "button", class: "wb-ln-chip", "aria-pressed": "false", disabled: mine === 0, onclick: () => {
      only = only === name ? null : name;
      for (const other of chips.children) other.setAttribute("aria-pressed", String(other === node && only !== null));
      map.draw();
    } }, el("span", { class: "wb-ln-letter", style: `border-color: ${colour}`, text: letter }), `${name} ${mine}`);
    return node;
  }
  put(chips, study.kinds.map(chip));
  return { element, update: arrange, close: map.close };
}
