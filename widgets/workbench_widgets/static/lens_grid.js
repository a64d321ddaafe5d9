// A canvas of cells with a cursor: layers by heads, positions by methods. Cells are colours of values in [0, 1].

import { el, put, uid } from "./dom.js";
import { createReadout } from "./primitives.js";
import { cividis, shade } from "./maths.js";
import { stepInGrid } from "./lens_maths.js";

const TABLE = cividis();

/** A titled part of a panel. */
export function part(title, ...children) {
  const id = uid("part");
  return el("section", { class: "wb-ln-part", "aria-labelledby": id }, el("h4", { id, text: title }), ...children);
}

/** What dark and bright stand for; `update(low, high)`. */
export function createScale() {
  const bar = el("span", { class: "wb-legend-bar", style: `background: linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map((v) => shade(TABLE, v)).join(", ")})` });
  const element = el("div", { class: "wb-legend", "aria-hidden": "true" });
  return { element, update: (low, high) => put(element, low, bar, high) };
}

/** Fill a canvas, one pixel a cell; NaN stays empty. */
export function paintCells(canvas, columns, rows, value) {
  [canvas.width, canvas.height] = [columns, rows];
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(columns, rows);
  for (let at = 0; at < columns * rows; at++) {
    const share = value(at % columns, Math.floor(at / columns));
    if (!Number.isFinite(share)) continue;
    const i = Math.round(Math.min(1, Math.max(0, share)) * 255) * 3;
    image.data.set([TABLE[i], TABLE[i + 1], TABLE[i + 2], 255], at * 4);
  }
  pen.putImageData(image, 0, 0);
}

/**
 * The grid. `describe(column, row)` is spoken when the cursor comes there, `act(column, row)` happens on Enter and click.
 * `update({columns, rows, value, label, height})` draws it.
 */
export function createGrid({ describe, act = null }) {
  const canvas = el("canvas", { class: "wb-ln-grid", role: act ? "application" : "img", tabindex: "0" });
  const spot = el("div", { class: "wb-ln-spot", "aria-hidden": "true", hidden: true });
  const spoken = createReadout();
  const stage = el("div", { class: "wb-ln-grid-stage" }, canvas, spot);
  let [columns, rows, place] = [1, 1, 0];

  function point(at) {
    place = at;
    const [column, row] = [at % columns, Math.floor(at / columns)];
    spot.hidden = false;
    Object.assign(spot.style, { left: `${(100 * column) / columns}%`, top: `${(100 * row) / rows}%`, width: `${100 / columns}%`, height: `${100 / rows}%` });
    spoken.textContent = describe(column, row);
  }
  function update({ value, label, height, ...shape }) {
    if (shape.columns !== columns || shape.rows !== rows) { place = 0; spot.hidden = true; }
    ({ columns, rows } = shape);
    stage.style.height = `${height}px`;
    paintCells(canvas, columns, rows, value);
    canvas.setAttribute("aria-label", label);
    if (!spot.hidden) point(place);
  }
  const under = (event) => {
    const box = canvas.getBoundingClientRect();
    const held = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
    return held((event.clientY - box.top) / box.height, rows) * columns + held((event.clientX - box.left) / box.width, columns);
  };
  canvas.addEventListener("pointermove", (event) => point(under(event)));
  canvas.addEventListener("focus", () => point(place));
  canvas.addEventListener("click", (event) => { point(under(event)); act?.(place % columns, Math.floor(place / columns)); });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const wide = columns > 200 && ["ArrowLeft", "ArrowRight"].includes(event.key);
    const next = stepInGrid(place, event.key, columns, columns * rows);
    if (event.key === "Enter" && act) act(place % columns, Math.floor(place / columns));
    else if (next === null) return;
    else if (wide && event.shiftKey) point(Math.min(columns * rows - 1, Math.max(0, place + (next - place) * 16)));
    else point(next);
    event.preventDefault();
  });
  return { element: stage, spoken, update };
}
