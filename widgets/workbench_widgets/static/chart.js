// Perplexity while it converges: two lines with their 95 % intervals, over the tokens read so far.

import { bandPath, chartDomain, compact, linePath, separate, significant } from "./maths.js";
import { el, put, svg } from "./dom.js";
import { createAxes, drawingOf, plotOf } from "./axes.js";

const PLOT = plotOf(340, 170, 40, 66, 10, 26);
const LINES = [["before", "dense"], ["after", "pruned"]];

function line(kind, curve, x, y, domain) {
  const inside = (v) => y(Math.min(domain.high, Math.max(domain.low, v)));
  const known = curve.filter((p) => Number.isFinite(p[2]) && Number.isFinite(p[3]));
  const band = bandPath(known.map((p) => [x(p[0]), inside(p[3])]), known.map((p) => [x(p[0]), inside(p[2])]));
  const last = curve[curve.length - 1];
  return [svg("path", { class: `wb-band wb-${kind}`, d: band }),
    svg("path", { class: `wb-line wb-${kind}`, d: linePath(curve.map((p) => [x(p[0]), y(p[1])])) }),
    svg("circle", { class: `wb-dot wb-${kind}`, cx: x(last[0]), cy: y(last[1]), r: 3 })];
}

function names(drawn, x, y) {
  const heights = drawn.map(([, , curve]) => y(curve[curve.length - 1][1]));
  const [a, b] = drawn.length === 2 ? separate(heights[0], heights[1], 27) : heights;
  return drawn.map(([kind, name, curve], i) => {
    const last = curve[curve.length - 1];
    const [left, top] = [x(last[0]) + 8, [a, b][i]];
    return svg("text", { class: `wb-end wb-${kind}`, x: left, y: top },
      svg("tspan", { class: "wb-end-value", x: left }, significant(last[1])), svg("tspan", { x: left, dy: 11 }, name));
  });
}

/** The chart; `update({before: {curve}, after: {curve}})` redraws it. */
export function createChart() {
  const drawing = drawingOf(PLOT, { class: "wb-chart", role: "img" });
  const element = el("div", { class: "wb-chart-holder" }, drawing);

  function update(quality) {
    const drawn = LINES.filter(([kind]) => quality[kind]?.curve?.length).map(([kind, name]) => [kind, name, quality[kind].curve]);
    const domain = chartDomain(drawn.map((d) => d[2]));
    element.hidden = !domain;
    if (!domain) return;
    const { x, y, nodes } = createAxes(PLOT, { low: 0, high: domain.tokens, count: 3, text: (v) => compact(v).replace(".00", "").replace(".0 ", " ") },
      { ...domain, text: (v) => significant(v).replace(/\.0+$/, "") });
    drawing.setAttribute("aria-label", `Perplexity over tokens read: ${drawn.map(([, name, c]) => `${name} ${significant(c[c.length - 1][1])}`).join(", ")}`);
    put(drawing, nodes, drawn.map(([kind, , curve]) => line(kind, curve, x, y, domain)).flat(), names(drawn, x, y),
      svg("text", { class: "wb-tick", x: PLOT.right + 8, y: PLOT.bottom + 15 }, "tokens"));
  }
  return { element, update };
}
