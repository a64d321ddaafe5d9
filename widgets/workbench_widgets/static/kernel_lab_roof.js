// The roofline: GFLOP/s over FLOPs per byte, both logarithmic. A kernel's points at all numbers of tokens are joined.

import { put, svg } from "./dom.js";
import { linePath, scale, significant, ticks } from "./maths.js";
import { peaksOf, placeLabels, roofDomain, short, slopesOf } from "./kernel_lab_maths.js";

const ROOF = { width: 480, height: 320, left: 44, right: 12, top: 12, bottom: 38 };
const EDGES = { left: ROOF.left + 2, right: ROOF.width - ROOF.right, top: ROOF.top, bottom: ROOF.height - ROOF.bottom };

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

function axes(domain, x, y) {
  const columns = ticks(domain.x0, domain.x1, 5, true).map((v) => [
    svg("line", { class: "wb-grid", x1: x(v), x2: x(v), y1: EDGES.top, y2: EDGES.bottom }),
    svg("text", { class: "wb-tick", x: x(v), y: EDGES.bottom + 14, "text-anchor": "middle" }, short(v))]);
  const lines = ticks(domain.y0, domain.y1, 5, true).map((v) => [
    svg("line", { class: "wb-grid", x1: ROOF.left, x2: EDGES.right, y1: y(v), y2: y(v) }),
    svg("text", { class: "wb-tick", x: ROOF.left - 6, y: y(v) + 3.5, "text-anchor": "end" }, short(v))]);
  return [...columns.flat(), ...lines.flat(),
    svg("text", { class: "wb-tick", x: (ROOF.left + EDGES.right) / 2, y: ROOF.height - 6, "text-anchor": "middle" }, "FLOPs per byte moved"),
    svg("text", { class: "wb-tick", transform: `translate(11 ${(EDGES.top + EDGES.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, "GFLOP/s")];
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
  const element = svg("svg", { class: "wb-chart", viewBox: `0 0 ${ROOF.width} ${ROOF.height}`, role: "img", tabindex: "0", "aria-describedby": hint });
  listen(element);

  function update(rows, roof, tokens, style) {
    const domain = roofDomain(rows, roof);
    element.toggleAttribute("hidden", !domain);
    if (!domain) return;
    const x = scale(domain.x0, domain.x1, ROOF.left, EDGES.right, true);
    const y = scale(domain.y0, domain.y1, EDGES.bottom, EDGES.top, true);
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
    put(element, axes(domain, x, y), roofs(rows, roof, domain, x, y), paths, others, shown.map((r) => markOf(r.name, style(r), ...at(r), 5)), labels);
  }
  return { element, update };
}
