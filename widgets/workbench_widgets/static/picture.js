// The picture of what is kept: layers from left to right, modules from top to bottom, one tile per weight matrix.

import { mosaic, moduleMeans, percent } from "./maths.js";
import { el, put } from "./dom.js";
import { createFallback } from "./primitives.js";
import { labelled, seen } from "./canvas_view.js";
import { createCanvasMap, createScaleBar, INKS } from "./canvas_map.js";

const CLEAR = 7; // pixels from which on the cells of a matrix are pointed at one by one

/** What is said of a matrix, or of one of its cells: "layer 3 down_proj: 50.0 % kept". */
export function keptText(x, y, { names, tile, kept, cells }, whole) {
  const [layer, module, down, across] = [Math.floor(x / tile), Math.floor(y / tile), y % tile, x % tile];
  const matrix = layer * names.length + module;
  const [named, part] = [`layer ${layer} ${names[module]}`, (n) => `${percent(n / tile, 0).slice(0, -2)} to ${percent((n + 1) / tile, 0)}`];
  if (whole) return `${named}: ${percent(kept[matrix])} kept`;
  return `${named}, outputs ${part(down)}, inputs ${part(across)}: ${percent(cells[(matrix * tile + down) * tile + across] / 255)} kept`;
}

function table(names, layers, kept) {
  const head = el("tr", null, el("th", { scope: "col", text: "layer" }),
    names.map((n) => el("th", { scope: "col", text: n })));
  const rows = Array.from({ length: layers }, (_, layer) => el("tr", null,
    el("th", { scope: "row", text: String(layer) }),
    names.map((_, module) => el("td", { text: percent(kept[layer * names.length + module]) }))));
  return el("table", { class: "wb-table" }, el("caption", { text: "Share of the weights kept" }),
    el("thead", null, head), el("tbody", null, rows));
}

/** Draw the tiles that are seen, of whole pixels, with a gap between layers and modules. */
function paintTiles(pen, buffer, { layers, names, tile }, view, room) {
  const [w, h] = [tile * view.sx, tile * view.sy];
  const gap = Math.max(1, Math.min(3, Math.round(Math.min(w, h) * 0.08)));
  const [x, y] = [(layer) => Math.round(layer * w - view.x * view.sx), (module) => Math.round(module * h - view.y * view.sy)];
  pen.imageSmoothingEnabled = w - gap < tile;
  for (let layer = Math.floor(view.x / tile); layer < layers && x(layer) < room.width; layer++) {
    for (let module = Math.floor(view.y / tile); module < names.length && y(module) < room.height; module++) {
      pen.drawImage(buffer, layer * tile, module * tile, tile, tile, x(layer), y(module), x(layer + 1) - gap - x(layer), y(module + 1) - gap - y(module));
    }
  }
}

/** The picture with its labels, readout and table. `update(frame, cells, kept)` redraws it. */
export function createPicture() {
  const [labels, means, ticks] = ["wb-modules", "wb-means", "wb-ticks"].map((c) => el("div", { class: c, "aria-hidden": "true" }));
  const fallback = createFallback("Share kept, as a table", (holder) => { if (now) put(holder, table(now.names, now.layers, now.kept)); });
  const waiting = el("p", { class: "wb-waiting" });
  const buffer = document.createElement("canvas");
  let [now, image] = [null, null];
  const grain = (view) => (Math.min(view.sx, view.sy) < CLEAR ? [now.tile, now.tile] : [1, 1]);
  const map = createCanvasMap({ name: "wb-canvas", stage: "wb-stage", grain, describe: (x, y, size) => keptText(x, y, now, size > 1),
    paint: (pen, view, room) => paintTiles(pen, buffer, now, view, room), changed: align });
  map.element.append(waiting);
  const element = el("div", { class: "wb-picture" },
    el("div", { class: "wb-picture-grid" }, labels, map.element, means, el("span", { class: "wb-axis", "aria-hidden": "true", text: "layer" }), ticks),
    el("div", { class: "wb-picture-foot" }, map.spoken, createScaleBar("all gone", "all kept").element, map.buttons), fallback.toggle, fallback.holder);

  /** Names of modules and layers stand beside what is seen of them. */
  function align(view, room) {
    const { tile } = now;
    const high = now.names.map((_, module) => seen(module * tile, (module + 1) * tile, view.y, view.sy, room.height)[1]);
    for (const column of [labels, means]) {
      column.style.gridTemplateRows = high.map((h) => `${h}px`).join(" ");
      high.forEach((h, module) => { column.children[module].style.visibility = h < 12 ? "hidden" : ""; });
    }
    const layers = labelled(Math.floor(view.x / tile), room.width + tile * view.sx, view.sx * tile, now.layers, 40).tokens;
    const places = layers.map((layer) => [layer, ...seen(layer * tile, (layer + 1) * tile, view.x, view.sx, room.width)]).filter(([, , wide]) => wide >= Math.min(12, (tile * view.sx) / 2));
    put(ticks, places.map(([layer, left, wide]) => el("span", { style: `left: ${left + wide / 2}px`, text: String(layer) })));
  }
  function update(header, cells, kept) {
    const shape = (f) => f && [f.layers, f.tile, f.names].join();
    const changed = shape(now) !== shape(header);
    now = { ...header, cells, kept };
    const [columns, rows] = [now.layers * now.tile, now.names.length * now.tile];
    if (changed) {
      [buffer.width, buffer.height] = [columns, rows];
      image = new ImageData(columns, rows);
      put(labels, now.names.map((n) => el("span", { text: n })));
      put(means, now.names.map(() => el("span")));
      map.element.style.setProperty("--wb-rows", now.names.length);
    }
    mosaic(cells, now.layers, now.names.length, now.tile, INKS, new Uint32Array(image.data.buffer));
    buffer.getContext("2d").putImageData(image, 0, 0);
    moduleMeans(kept, now.layers, now.names.length).forEach((mean, module) => { means.children[module].textContent = percent(mean, 0); });
    const total = now.total ? 1 - now.removed / now.total : NaN;
    map.update({ columns, rows, label: `${now.layers} layers by ${now.names.length} modules: ${percent(total)} of the weights kept` });
    fallback.update();
  }
  return {
    element, update, wait: (text) => { waiting.textContent = text; waiting.hidden = !text; map.element.classList.toggle("wb-stale", Boolean(text)); },
    close: map.close,
  };
}
