// Perplexity while it converges: two lines with their 95 % intervals, over the tokens read so far.

import { bandPath, chartDomain, compact, linePath, scale, separate, significant, ticks } from "./maths.js";
import { el, put, svg } from "./dom.js";

const SIZE = { width: 340, height: 170, left: 40, right: 66, top: 10, bottom: 26 };
const LINES = [["before", "dense"], ["after", "pruned"]];

function grid(domain, x, y) {
  const right = SIZE.width - SIZE.right;
  const rows = ticks(domain.low, domain.high, 4, domain.log).map((v) => [
    svg("line", { class: "wb-grid", x1: SIZE.left, x2: right, y1: y(v), y2: y(v) }),
    svg("text", { class: "wb-tick", x: SIZE.left - 6, y: y(v) + 3.5, "text-anchor": "end" }, significant(v).replace(/\.0+$/, ""))]);
  const columns = ticks(0, domain.tokens, 3).map((v) =>
    svg("text", { class: "wb-tick", x: x(v), y: SIZE.height - 10, "text-anchor": "middle" }, compact(v).replace(".00", "").replace(".0 ", " ")));
  return [...rows.flat(), ...columns];
}

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
  const drawing = svg("svg", { class: "wb-chart", viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "img" });
  const element = el("div", { class: "wb-chart-holder" }, drawing);

  function update(quality) {
    const drawn = LINES.filter(([kind]) => quality[kind]?.curve?.length).map(([kind, name]) => [kind, name, quality[kind].curve]);
    const domain = chartDomain(drawn.map((d) => d[2]));
    element.hidden = !domain;
    if (!domain) return;
    const x = scale(0, domain.tokens, SIZE.left, SIZE.width - SIZE.right);
    const y = scale(domain.low, domain.high, SIZE.height - SIZE.bottom, SIZE.top, domain.log);
    drawing.setAttribute("aria-label", `Perplexity over tokens read: ${drawn.map(([, name, c]) => `${name} ${significant(c[c.length - 1][1])}`).join(", ")}`);
    put(drawing, grid(domain, x, y), drawn.map(([kind, , curve]) => line(kind, curve, x, y, domain)).flat(), names(drawn, x, y),
      svg("text", { class: "wb-tick", x: SIZE.width - SIZE.right + 8, y: SIZE.height - 10 }, "tokens"));
  }
  return { element, update };
}
