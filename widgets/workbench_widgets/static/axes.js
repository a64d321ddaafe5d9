// What charts stand on: a plot's edges, scales over them, grid, ticks and names of the axes.

import { svg } from "./dom.js";
import { scale, ticks } from "./maths.js";

/** The edges of a plot inside a drawing: {width, height, left, right, top, bottom}, margins turned into coordinates. */
export function plotOf(width, height, left, right, top, bottom) {
  return { width, height, left, right: width - right, top, bottom: height - bottom };
}

/** The drawing of a plot. */
export function drawingOf(plot, attributes, ...children) {
  return svg("svg", { viewBox: `0 0 ${plot.width} ${plot.height}`, ...attributes }, ...children);
}

/**
 * Scales and axes. An axis is {low, high, log, count, text, name, values, lines}: its ends, about how many ticks, what is written at one, its
 * name, ticks other than round ones, and whether lines cross the plot at them (they do for `y`). Gives functions x and y to pixels, and
 * `nodes` to draw.
 */
export function createAxes(plot, x, y) {
  const over = (axis, from, to) => scale(axis.low, axis.high, from, to, axis.log);
  const [across, up] = [over(x, plot.left, plot.right), over(y, plot.bottom, plot.top)];
  const values = (axis) => axis.values ?? ticks(axis.low, axis.high, axis.count ?? 4, axis.log).filter((v) => v >= axis.low && v <= axis.high * (1 + 1e-9));
  const text = (words, attributes) => svg("text", { class: "wb-tick", ...attributes, text: words });
  const [tall, wide] = [`M0 ${plot.top}V${plot.bottom}`, `M${plot.left} 0H${plot.right}`];
  const line = (d, dx, dy) => svg("path", { class: "wb-grid", d, transform: `translate(${dx} ${dy})` });
  const nodes = [
    ...values(y).flatMap((v) => [line(wide, 0, up(v)), text((y.text ?? String)(v), { x: plot.left - 6, y: up(v) + 3.5, "text-anchor": "end" })]),
    ...values(x).flatMap((v) => [x.lines ? line(tall, across(v), 0) : null, text((x.text ?? String)(v), { x: across(v), y: plot.bottom + 15, "text-anchor": "middle" })]),
    x.name ? text(x.name, { x: (plot.left + plot.right) / 2, y: plot.height - 6, "text-anchor": "middle" }) : null,
    y.name ? text(y.name, { transform: `translate(12 ${(plot.top + plot.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }) : null,
  ];
  return { x: across, y: up, nodes };
}
