// A titled part of a panel, and a map of values in [0, 1]: layers by heads, positions by methods.

import { el, uid } from "./dom.js";
import { createCanvasMap, inkOf, paintPixels, stretch } from "./canvas_map.js";

/** A titled part of a panel. */
export function part(title, ...children) {
  const id = uid("part");
  return el("section", { class: "wb-ln-part", "aria-labelledby": id }, el("h4", { id, text: title }), ...children);
}

/**
 * The map. `describe(column, row)` is said of a cell, `act(column, row)` happens on Enter and click.
 * `update({columns, rows, value, label, height})` draws it; a value that is not a number stays empty.
 */
export function createGrid({ describe, act = null }) {
  const cells = document.createElement("canvas");
  const map = createCanvasMap({ name: "wb-ln-grid", role: act ? "application" : "img", stage: "wb-ln-grid-stage", describe, act,
    paint: (pen, view, room) => stretch(pen, cells, view, room) });
  function update({ value, ...shape }) {
    const { columns, rows } = shape;
    paintPixels(cells, columns, rows, (pixels) => { for (let at = 0; at < columns * rows; at++) pixels[at] = inkOf(value(at % columns, Math.floor(at / columns))); });
    map.update(shape);
  }
  return { ...map, update };
}
