// Points that can be picked, with the line along those that no other one beats.

import { el, put, svg, uid } from "./dom.js";
import { linePath, significant } from "./maths.js";
import { createAxes, drawingOf, plotOf } from "./axes.js";

const PLACE = plotOf(460, 260, 52, 18, 14, 40);
const [RADIUS, GAP] = [9, 23]; // of a circle; between two middles

/** Bounds with room around the points; logarithmic where they span more than a factor of four. */
export function bounds(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const log = low > 0 && high / low > 4;
  if (log) { const room = (high / low) ** 0.08; return { low: low / room, high: high * room, log }; }
  const room = (high - low || Math.abs(high) || 1) * 0.1;
  return { low: low - room, high: high + room, log };
}

/**
 * Places for circles that must not cover each other: those nearer than `gap` are moved apart, as little as it takes, inside
 * of `box`, {left, right, top, bottom}. Places are [x, y].
 */
export function apart(places, gap, box) {
  const found = places.map(([x, y]) => [x, y]);
  const inside = ([x, y]) => [Math.min(box.right, Math.max(box.left, x)), Math.min(box.bottom, Math.max(box.top, y))];
  for (let round = 0, moved = true; moved && round < 200; round++) {
    moved = false;
    for (let i = 0; i < found.length; i++) for (let j = i + 1; j < found.length; j++) {
      let [dx, dy] = [found[j][0] - found[i][0], found[j][1] - found[i][1]];
      const distance = Math.hypot(dx, dy);
      if (distance >= gap - 0.01) continue;
      [dx, dy] = distance > 0.5 ? [dx / distance, dy / distance] : [Math.cos(i + 2 * j), Math.sin(i + 2 * j)];
      const push = (gap - distance) / 2 + 0.01;
      found[i] = inside([found[i][0] - dx * push, found[i][1] - dy * push]);
      found[j] = inside([found[j][0] + dx * push, found[j][1] + dy * push]);
      moved = true;
    }
  }
  return found;
}

/** A picture; `update({points: [{id, name, x, y, low, high, best}], chosen})` draws it, `pick(id)` hears of the one chosen. */
export function createScatter({ title, xLabel, yLabel, pick }) {
  const named = uid("scatter");
  const heading = svg("title", { id: named, text: title });
  const [grid, front, under] = Array.from({ length: 3 }, () => svg("g", { "aria-hidden": "true" }));
  const group = svg("g", { role: "radiogroup", "aria-label": `${title}: models` });
  const drawing = drawingOf(PLACE, { class: "wb-scatter", role: "group", "aria-labelledby": named }, heading, grid, front, under, group);
  const nothing = el("p", { class: "wb-faint", text: "Nothing was measured yet." });
  const note = el("p", { class: "wb-faint" });
  const element = el("figure", { class: "wb-scattered" }, el("figcaption", { text: title }), drawing, note, nothing);
  const short = (v) => significant(v).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");

  /** Its 95 % interval, and where a circle belongs that had to make room. */
  function beneath(p, [cx, cy], x, y) {
    const [px, py] = [x(p.x), y(p.y)];
    const known = Number.isFinite(p.low) && Number.isFinite(p.high) && p.high > p.low;
    const moved = Math.hypot(cx - px, cy - py) > 1;
    return [known ? svg("path", { class: "wb-spread", d: `M${px - 4} ${y(p.low)}h8m-4 0V${y(p.high)}m-4 0h8` }) : null,
      ...(moved ? [svg("path", { class: "wb-lead", d: `M${px} ${py}L${cx} ${cy}` }), svg("circle", { class: "wb-true", cx: px, cy: py, r: 2.5 })] : [])];
  }
  function point(p, chosen, reachable, [cx, cy]) {
    const on = p.id === chosen;
    const words = `${p.name}: ${xLabel} ${significant(p.x)}, ${yLabel} ${significant(p.y)}${p.best ? ", not beaten" : ""}`;
    return svg("g", { class: `wb-spot${p.best ? " wb-best" : ""}${on ? " wb-on" : ""}`, role: "radio", "aria-checked": String(on), "aria-label": words, "data-id": p.id,
      tabindex: on || (p.id === reachable) ? "0" : "-1", transform: `translate(${cx.toFixed(1)} ${cy.toFixed(1)})`, onclick: () => pick(p.id) },
    svg("title", { text: words }), svg("circle", { r: on ? RADIUS + 2 : RADIUS }), svg("text", { y: 3.5, "text-anchor": "middle", text: p.id === 0 ? "D" : String(p.id) }));
  }
  function update({ points, chosen }) {
    const known = points.filter((p) => Number.isFinite(p.x) && Number.isFinite(p.y));
    nothing.hidden = known.length > 0;
    note.hidden = !known.length;
    drawing.toggleAttribute("hidden", !known.length);
    if (!known.length) return;
    const [across, up] = [bounds(known.map((p) => p.x)), bounds(known.flatMap((p) => [p.y, p.low, p.high].filter(Number.isFinite)))];
    const { x, y, nodes } = createAxes(PLACE, { ...across, count: 5, text: short, name: xLabel, lines: true }, { ...up, count: up.log ? 7 : 4, text: short, name: yLabel });
    put(grid, nodes);
    const best = known.filter((p) => p.best).sort((a, b) => a.x - b.x);
    put(front, svg("path", { class: "wb-front", d: linePath(best.map((p) => [x(p.x), y(p.y)])) }));
    const focused = group.contains(document.activeElement);
    const reachable = known.some((p) => p.id === chosen) ? null : known[0].id;
    const edge = RADIUS + 2;
    const room = { left: PLACE.left + edge, right: PLACE.width - edge, top: edge, bottom: PLACE.bottom - edge };
    const places = new Map(apart(known.map((p) => [x(p.x), y(p.y)]), GAP, room).map((place, i) => [known[i].id, place]));
    put(under, known.flatMap((p) => beneath(p, places.get(p.id), x, y)));
    put(group, [...known].sort((a, b) => (a.id === chosen) - (b.id === chosen)).map((p) => point(p, chosen, reachable, places.get(p.id))));
    note.textContent = `D is dense. ${known.length > 1 ? "Upright lines: 95 % intervals; dashed: along those that no other one beats." : ""}`;
    if (focused) group.querySelector('[tabindex="0"]')?.focus();
  }
  group.addEventListener("keydown", (event) => {
    const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const all = [...group.children].map((g) => Number(g.dataset.id)).sort((a, b) => a - b);
    const at = all.indexOf(Number(document.activeElement?.dataset?.id));
    if (at < 0 || (!way && event.key !== " " && event.key !== "Enter")) return;
    event.preventDefault();
    pick(all[way ? (at + way + all.length) % all.length : at]);
  });
  return { element, update };
}
