// Break-even: time relative to a dense layer over the sparsity; below the line at 1 a kernel pays.

import { el, put, svg } from "./dom.js";
import { linePath, percent } from "./maths.js";
import { createAxes, drawingOf, plotOf } from "./axes.js";
import { balanceText, fitPoints, short } from "./kernel_lab_maths.js";
import { markOf } from "./kernel_lab_roof.js";

const PLANE = plotOf(480, 230, 44, 12, 12, 36);

/** The chart with what it says; `update(found, tokens, style, why)` draws the kernels at so many tokens, or says why not. */
export function createBalance(listen) {
  const drawing = drawingOf(PLANE, { class: "wb-chart", role: "img" });
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
    const { x, y, nodes } = createAxes(PLANE, { low: 0, high: 1, values: [0, 0.25, 0.5, 0.75, 1], text: (v) => percent(v, 0), name: "share of zeros" },
      { low: 0, high, text: short, name: "time, dense = 1" });
    const inside = (v) => y(Math.min(high, Math.max(0, v)));
    const peer = found.peer === "torch" ? "torch fp32" : "our dense kernel";
    const lines = rows.map((r) => svg("path", { class: `wb-lab-fit wb-lab-c${style(r).colour}`, "data-name": r.name,
      d: linePath(fitPoints(r, high).map(([s, time]) => [x(s), y(time)])) }));
    const points = rows.flatMap((r) => r.densities.map((d, i) => markOf(r.name, style(r), x(1 - d), inside(r.times[i]), 3.2)));
    const words = rows.map((r) => [r.name, balanceText(r.sparsity)]);
    drawing.setAttribute("aria-label", `Faster than ${peer}: ${words.map((w) => w.join(" ")).join("; ")}`);
    put(drawing, nodes, svg("line", { class: "wb-lab-even", x1: PLANE.left, x2: PLANE.right, y1: y(1), y2: y(1) }),
      svg("text", { class: "wb-tick", x: PLANE.right - 3, y: y(1) - 4, "text-anchor": "end" }, `as fast as ${peer}`), lines, points);
    put(list, rows.map((r, i) => el("div", { "data-name": r.name }, el("dt", null,
      el("span", { class: `wb-lab-swatch wb-lab-dot wb-lab-c${style(r).colour}${style(r).hollow ? " wb-lab-hollow" : ""}` }), r.name), el("dd", { text: words[i][1] }))));
  }
  return { element, update };
}
