// Line charts whose points can be reached by keys; every line has a colour, a dash and a marker of its own.

import { el, put, svg, uid } from "./dom.js";
import { linePath } from "./maths.js";
import { createAxes, drawingOf, plotOf } from "./axes.js";

const PLOT = plotOf(560, 270, 66, 14, 10, 40);
const DASHES = ["", "6 3", "2 3", "8 3 2 3", "12 4", "4 2", "1 2", "10 2 2 2 2 2"];
const MARKS = [
  "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0", "M-3.5-3.5h7v7h-7z", "M0-4.5L4.5 3.5H-4.5z", "M0-5L5 0L0 5L-5 0z", "M0 4.5L4.5-3.5H-4.5z",
  "M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z", "M-4.5-3L-3-4.5L0-1.5L3-4.5L4.5-3L1.5 0L4.5 3L3 4.5L0 1.5L-3 4.5L-4.5 3L-1.5 0z", "M-4 2V-2L0-5L4-2V2L0 5z",
];

/** The look of a line: a class of colour, a dash and a marker. */
export function look(n) {
  return { colour: `wb-ln-s${n % 8}`, dash: DASHES[(n + Math.floor(n / 8)) % 8], mark: MARKS[(n + 3 * Math.floor(n / 8)) % 8] };
}

/** A line's sample for a legend. */
export function swatch(n) {
  const { colour, dash, mark } = look(n);
  return svg("svg", { class: `wb-ln-swatch ${colour}`, viewBox: "-14 -6 28 12", width: 28, height: 12, "aria-hidden": "true" },
    svg("path", { class: "wb-ln-line", d: "M-13 0H13", "stroke-dasharray": dash }), svg("path", { class: "wb-ln-mark", d: mark }));
}

/**
 * A chart. `update({lines: [{name, look, solid, faint, points: [[x, y, id?], ...]}], chosen})` draws it; points with an id are
 * radio buttons of one group, `pick(id)` hears of the one chosen, `describe(id)` names it.
 */
export function createChart({ title, xLabel, yLabel, format, pick = null, describe = null, high = null, wide = 0, least = 0, zero = true }) {
  const group = svg("g", pick ? { role: "radiogroup", "aria-label": `${title}: points` } : {});
  const [grid, lines] = [svg("g"), svg("g")];
  const named = uid("chart");
  const heading = svg("title", { id: named, text: title });
  const node = drawingOf(PLOT, { class: "wb-ln-chart", role: pick ? "group" : "img", "aria-labelledby": named }, heading, grid, lines, group);
  const legend = el("ul", { class: "wb-ln-legend" });
  const element = el("figure", { class: "wb-ln-figure" }, node, legend);

  function radio(at, point, line, chosen, any, first) {
    const { colour, mark } = look(line.look);
    const mine = point[2] === chosen;
    return svg("path", { class: `wb-ln-point ${colour}${mine ? " wb-ln-on" : ""}`, d: mark, transform: `translate(${at[0].toFixed(1)} ${at[1].toFixed(1)})${mine ? " scale(1.6)" : ""}`, role: "radio",
      "aria-checked": String(mine), "aria-label": describe(point[2]), tabindex: mine || (!any && first) ? "0" : "-1", "data-id": point[2], onclick: () => pick(point[2]) }, svg("title", { text: describe(point[2]) }));
  }
  function update({ lines: given, chosen = null, told = "" }) {
    const shownLines = given.map((line) => ({ ...line, points: line.points.filter((p) => Number.isFinite(p[1])) })).filter((line) => line.points.length);
    const points = shownLines.flatMap((line) => line.points);
    const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
    const [x0, x1] = [Math.min(0, ...xs), Math.max(...xs, wide, 1e-9)];
    const low = Math.min(...ys);
    const [y0, y1] = [zero || !ys.length ? Math.min(0, ...ys) : Math.floor(low * 10 - 0.3) / 10, high ?? (Math.max(...ys, least, 0) * 1.04 || 1)];
    const { x, y, nodes } = createAxes(PLOT, { low: x0, high: x1, count: 6, text: format.x, name: xLabel }, { low: y0, high: y1, count: 5, text: format.y, name: yLabel });
    put(grid, nodes);
    put(lines, shownLines.map((line) => svg("path", { class: `wb-ln-line ${look(line.look).colour}${line.faint ? " wb-ln-faint" : ""}`, d: linePath(line.points.map((p) => [x(p[0]), y(p[1])])), "stroke-dasharray": line.solid ? "" : look(line.look).dash })));
    const focused = group.contains(document.activeElement);
    const any = points.some((p) => p[2] === chosen);
    let first = true;
    put(group, pick ? shownLines.flatMap((line) => line.points.map((p) => { const made = radio([x(p[0]), y(p[1])], p, line, chosen, any, first); first = false; return made; })) : []);
    if (focused) group.querySelector('[tabindex="0"]')?.focus();
    put(legend, shownLines.map((line) => el("li", line.faint ? { class: "wb-ln-faint" } : null, swatch(line.look), line.name)));
    heading.textContent = told ? `${title}. ${told}` : title;
  }
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const all = [...group.children];
    const at = all.indexOf(document.activeElement);
    if (event.key === " " || event.key === "Enter") pick(Number(all[at].dataset.id));
    else if (step) pick(Number(all[(at + step + all.length) % all.length].dataset.id));
    else return;
    event.preventDefault();
  });
  return { element, update };
}
