// The roofline: GFLOP/s over FLOPs per byte, both logarithmic. A kernel's points at all numbers of tokens are joined.

import { put, svg } from "./dom.js";
import { linePath, significant } from "./maths.js";
import { createAxes, drawingOf, plotOf } from "./axes.js";
import { peaksOf, placeLabels, roofDomain, short, slopesOf } from "./kernel_lab_maths.js";

const EDGES = plotOf(480, 320, 44, 12, 12, 38);

/** SVG path of a mark around a point. */
export function markPath(kind, x, y, r) {
  const p = (dx, dy) => `${(x + dx).toFixed(1)} ${(y + dy).toFixed(1)}`;
  if (kind === "square") return `M${p(-r, -r)}L${p(r, -r)}L${p(r, r)}L${p(-r, r)}Z`;
  if (kind === "triangle") return `M${p(0, -1.2 * r)}L${p(1.15 * r, 0.9 * r)}L${p(-1.15 * r, 0.9 * r)}Z`;
  return `M${p(-r, 0)}A${r} ${r} 0 1 1 ${p(r, 0)}A${r} ${r} 0 1 1 ${p(-r, 0)}Z`;
}

/** Marks as [name, style, x, y, size] in SVG; the same in the roofline and in the break-even chart. */
export function markOf(name, style, x, y, r, extra = "") {
  const looks = `wb-lab-mark wb-lab-c${style.colour}${style.hollow ? " wb-lab-hollow" : ""}${extra}`;
  return svg("path", { class: looks, d: markPath(style.mark, x, y, r), "data-name": name });
}

/** Where along its line the name of a roof stands. */
const NAMED_AT = 0.5;

function roofs(rows, roof, domain, x, y) {
  const flat = peaksOf(rows, roof).map(({ name, peak }) => [
    svg("line", { class: "wb-lab-roof", x1: x(Math.max(domain.x0, peak / (roof.cache_l2 || roof.dram))), x2: EDGES.right, y1: y(peak), y2: y(peak) }),
    svg("text", { class: "wb-tick", x: EDGES.right - 3, y: y(peak) - 4, "text-anchor": "end" }, `${name} peak ${significant(peak)}`)]);
  const slopes = slopesOf(rows, roof, domain).map(({ name, speed, from, to }) => {
    const [ax, ay, bx, by] = [x(from), y(from * speed), x(to), y(to * speed)];
    const turn = (Math.atan2(by - ay, bx - ax) * 180) / Math.PI;
    return [svg("line", { class: `wb-lab-roof${name === "memory" ? "" : " wb-lab-cache"}`, x1: ax, y1: ay, x2: bx, y2: by }),
      svg("text", { class: "wb-tick", transform: `translate(${ax + NAMED_AT * (bx - ax)} ${ay + NAMED_AT * (by - ay) - 4}) rotate(${turn})` }, name)];
  });
  return [...slopes.flat(), ...flat.flat()];
}

/** The chart; `update(rows, roof, tokens, style)` draws all rows, those at `tokens` with their names. */
export function createRoof(hint, listen) {
  const element = drawingOf(EDGES, { class: "wb-chart", role: "img", tabindex: "0", "aria-describedby": hint });
  listen(element);

  function update(rows, roof, tokens, style) {
    const domain = roofDomain(rows, roof);
    element.toggleAttribute("hidden", !domain);
    if (!domain) return;
    const { x, y, nodes } = createAxes(EDGES, { low: domain.x0, high: domain.x1, log: true, count: 5, text: short, name: "FLOPs per byte moved", lines: true },
      { low: domain.y0, high: domain.y1, log: true, count: 5, text: short, name: "GFLOP/s" });
    const at = (r) => [x(r.intensity), y(r.gflops)];
    const names = [...new Set(rows.map((r) => r.name))];
    const paths = names.map((name) => svg("path", { class: `wb-lab-trail wb-lab-c${style(rows.find((r) => r.name === name)).colour}`, "data-name": name,
      d: linePath(rows.filter((r) => r.name === name).sort((a, b) => a.tokens - b.tokens).map(at)) }));
    const shown = rows.filter((r) => r.tokens === tokens).sort((a, b) => a.ms - b.ms);
    const others = rows.filter((r) => r.tokens !== tokens).map((r) => markOf(r.name, style(r), ...at(r), 2.4, " wb-lab-other"));
    const blocked = slopesOf(rows, roof, domain).map(({ speed, from, to }) => {
      const middle = from * (to / from) ** NAMED_AT;
      return { x0: x(middle) - 2, x1: x(middle) + 50, y0: y(middle * speed) - 42, y1: y(middle * speed) };
    });
    const places = placeLabels(shown.map((r) => ({ x: at(r)[0], y: at(r)[1], text: r.name })), EDGES, blocked);
    const labels = shown.map((r, i) => places[i] && svg("text", { class: "wb-lab-label", x: places[i].x, y: places[i].y + 3.5, "data-name": r.name }, r.name));
    element.setAttribute("aria-label", `Roofline: ${shown.map((r) => `${r.name} ${significant(r.gflops)} GFLOP/s at ${significant(r.intensity)} FLOPs per byte`).join("; ")}`);
    put(element, nodes, roofs(rows, roof, domain, x, y), paths, others, shown.map((r) => markOf(r.name, style(r), ...at(r), 5)), labels);
  }
  return { element, update };
}
