// Break-even: time relative to a dense layer over the sparsity; below the line at 1 a kernel pays.

import { el, put, svg } from "./dom.js";
import { linePath, percent, scale, ticks } from "./maths.js";
import { balanceText, fitPoints, short } from "./kernel_lab_maths.js";
import { markOf } from "./kernel_lab_roof.js";

const EVEN = { width: 480, height: 230, left: 44, right: 12, top: 12, bottom: 36 };

function frame(x, y, high, peer) {
  const [right, bottom] = [EVEN.width - EVEN.right, EVEN.height - EVEN.bottom];
  const lines = ticks(0, high, 4).map((v) => [svg("line", { class: "wb-grid", x1: EVEN.left, x2: right, y1: y(v), y2: y(v) }),
    svg("text", { class: "wb-tick", x: EVEN.left - 6, y: y(v) + 3.5, "text-anchor": "end" }, short(v))]);
  const columns = [0, 0.25, 0.5, 0.75, 1].map((v) => svg("text", { class: "wb-tick", x: x(v), y: bottom + 14, "text-anchor": "middle" }, percent(v, 0)));
  return [...lines.flat(), ...columns, svg("line", { class: "wb-lab-even", x1: EVEN.left, x2: right, y1: y(1), y2: y(1) }),
    svg("text", { class: "wb-tick", x: right - 3, y: y(1) - 4, "text-anchor": "end" }, `as fast as ${peer}`),
    svg("text", { class: "wb-tick", x: (EVEN.left + right) / 2, y: EVEN.height - 6, "text-anchor": "middle" }, "share of zeros"),
    svg("text", { class: "wb-tick", transform: `translate(11 ${(EVEN.top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, "time, dense = 1")];
}

/** The chart with what it says; `update(found, tokens, style, why)` draws the kernels at so many tokens, or says why not. */
export function createBalance(listen) {
  const drawing = svg("svg", { class: "wb-chart", viewBox: `0 0 ${EVEN.width} ${EVEN.height}`, role: "img" });
  const list = el("dl", { class: "wb-figures wb-lab-evens" });
  const note = el("p", { class: "wb-faint" });
  const element = el("div", null, drawing, list, note);
  listen(element);

  function update(found, tokens, style, why) {
    const rows = (found.rows ?? []).filter((r) => r.tokens === tokens);
    drawing.toggleAttribute("hidden", !rows.length);
    list.hidden = !rows.length;
    note.textContent = rows.length ? "" : why;
    if (!rows.length) return;
    const high = Math.min(4, Math.max(1.25, ...rows.flatMap((r) => r.times)) * 1.05);
    const x = scale(0, 1, EVEN.left, EVEN.width - EVEN.right);
    const y = scale(0, high, EVEN.height - EVEN.bottom, EVEN.top);
    const inside = (v) => y(Math.min(high, Math.max(0, v)));
    const peer = found.peer === "torch" ? "torch fp32" : "our dense kernel";
    const lines = rows.map((r) => svg("path", { class: `wb-lab-fit wb-lab-c${style(r).colour}`, "data-name": r.name,
      d: linePath(fitPoints(r, high).map(([s, time]) => [x(s), y(time)])) }));
    const points = rows.flatMap((r) => r.densities.map((d, i) => markOf(r.name, style(r), x(1 - d), inside(r.times[i]), 3.2)));
    const words = rows.map((r) => [r.name, balanceText(r.sparsity)]);
    drawing.setAttribute("aria-label", `Faster than ${peer}: ${words.map((w) => w.join(" ")).join("; ")}`);
    put(drawing, frame(x, y, high, peer), lines, points);
    put(list, rows.map((r, i) => el("div", { "data-name": r.name }, el("dt", null,
      el("span", { class: `wb-lab-swatch wb-lab-dot wb-lab-c${style(r).colour}${style(r).hollow ? " wb-lab-hollow" : ""}` }), r.name), el("dd", { text: words[i][1] }))));
  }
  return { element, update };
}
