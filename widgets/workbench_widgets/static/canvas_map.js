// A grid of cells on a canvas, for all views: cursor, keys, pointer, tooltip, line that is read out, zoom, pan, legend.

import { button, el, put, uid } from "./dom.js";
import { cividis, inks, shade } from "./maths.js";
import { createReadout } from "./primitives.js";
import { boxOf, following, hasZoom, heldView, isWhole, panned, placed, placeUnder, stepped, wholeView, zoomed } from "./canvas_view.js";

const SHADES = cividis();
export const INKS = inks(SHADES);

/** RGBA as one number of a share in [0, 1]; nothing where it is not a number. */
export function inkOf(share) {
  return Number.isFinite(share) ? INKS[Math.round(Math.min(1, Math.max(0, share)) * 255)] : 0;
}

/** Fill a canvas of one pixel a cell: `fill(pixels)` gets RGBA as one number each, row by row. */
export function paintPixels(canvas, columns, rows, fill) {
  if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(columns, rows);
  fill(new Uint32Array(image.data.buffer));
  pen.putImageData(image, 0, 0);
  return canvas;
}

const scratch = { canvas: null };

/**
 * A part of an image, halved along each axis until it has about so many columns and rows: [canvas, columns, rows]. A canvas smooths
 * along both axes or none, and what it smooths, from two pixels only.
 */
function averaged(image, left, top, wide, high, columns, rows) {
  scratch.canvas ??= document.createElement("canvas");
  const half = (count, least) => Math.max(Math.min(count, least), Math.ceil(count / 2));
  let [from, w, h] = [[image, left, top], wide, high];
  [scratch.canvas.width, scratch.canvas.height] = [half(w, columns), half(h, rows)];
  const pen = scratch.canvas.getContext("2d");
  pen.globalCompositeOperation = "copy";
  do {
    const [w2, h2] = [half(w, columns), half(h, rows)];
    pen.drawImage(...from, w, h, 0, 0, w2, h2);
    [from, w, h] = [[scratch.canvas, 0, 0], w2, h2];
  } while (w > columns || h > rows);
  return [scratch.canvas, w, h];
}

/**
 * Draw a picture whose pixels cover `cell` cells each, from (x, y) on; only what is seen of it. Cells are sharp, or averaged
 * where they are too small.
 */
export function stretch(pen, image, view, room, { x = 0, y = 0, cell = 1 } = {}) {
  const first = (at, from) => Math.max(0, Math.floor((at - from) / cell));
  const last = (at, space, from, count) => Math.min(count, Math.ceil((at + space - from) / cell));
  const [left, top] = [first(view.x, x), first(view.y, y)];
  const [right, bottom] = [last(view.x, room.width / view.sx, x, image.width), last(view.y, room.height / view.sy, y, image.height)];
  if (right <= left || bottom <= top) return;
  const [across, down] = [right - left, bottom - top];
  const [wide, high] = [across * cell * view.sx, down * cell * view.sy];
  const place = [(x + left * cell - view.x) * view.sx, (y + top * cell - view.y) * view.sy, wide, high];
  const [thin, flat] = [wide < across, high < down];
  pen.imageSmoothingEnabled = thin && flat;
  if (thin === flat && (!thin || Math.min(wide / across, high / down) > 0.5)) pen.drawImage(image, left, top, across, down, ...place);
  else {
    const [small, w, h] = averaged(image, left, top, across, down, Math.ceil(wide), Math.ceil(high));
    pen.drawImage(small, 0, 0, w, h, ...place);
  }
}

/** What dark and bright stand for; `update(low, high)`. */
export function createScaleBar(...ends) {
  const bar = el("span", { class: "wb-legend-bar", style: `background: linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map((v) => shade(SHADES, v)).join(", ")})` });
  const element = el("div", { class: "wb-legend", "aria-hidden": "true" });
  const update = (low, high) => put(element, el("span", { text: low }), bar, el("span", { text: high }));
  update(...ends);
  return { element, update };
}

/** What the pointer is at, beside it; the line that is read out says the same. */
function createTip(stage) {
  const tip = el("div", { class: "wb-map-tip", "aria-hidden": "true", hidden: true });
  stage.append(tip);
  return {
    hide() { tip.hidden = true; },
    show(text, x, y) {
      tip.hidden = !text;
      tip.textContent = text;
      const [right, low] = [x > stage.clientWidth / 2, y > stage.clientHeight / 2];
      Object.assign(tip.style, { left: `${x}px`, top: `${y}px`, transform: `translate(${right ? "calc(-100% - 12px)" : "14px"}, ${low ? "calc(-100% - 10px)" : "16px"})` });
    },
  };
}

/** Pointer and wheel; they end at the canvas, except while it drags. */
function listenToPointer(canvas, map, tip) {
  let [drag, dragged] = [null, false];
  const pointed = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  function hover(event) {
    const [x, y] = pointed(event);
    const at = map.under(x, y);
    if (at) map.point(at);
    if (at && event.pointerType !== "touch") tip.show(map.said(), x, y);
    else tip.hide();
    return at;
  }
  canvas.addEventListener("pointerdown", (event) => {
    dragged = false;
    if (event.button !== 0 || map.whole()) return;
    drag = { at: pointed(event), view: map.view() };
    canvas.setPointerCapture(event.pointerId);
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { drag = null; });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) { hover(event); return; }
    const [x, y] = pointed(event);
    const [dx, dy] = [x - drag.at[0], y - drag.at[1]];
    dragged ||= Math.hypot(dx, dy) > 4;
    tip.hide();
    map.look(panned(drag.view, dx, dy, map.room()));
  });
  canvas.addEventListener("pointerleave", () => tip.hide());
  canvas.addEventListener("click", (event) => { if (!dragged && hover(event)) map.act?.(); });
  canvas.addEventListener("wheel", (event) => {
    if (!map.zooms() || (document.activeElement !== canvas && !event.ctrlKey)) return; // a page that scrolls past is left alone
    event.preventDefault();
    tip.hide();
    map.zoom(1.2 ** (-event.deltaY / 60), ...pointed(event));
  }, { passive: false });
}

/** Keys; those that do something go no further. `own` are a view's: the place that a key leads to. */
function listenToKeys(canvas, map, tip, own) {
  const acts = { "+": () => map.zoom(1.6), "=": () => map.zoom(1.6), "-": () => map.zoom(1 / 1.6), 0: map.showAll };
  const ways = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (map.zooms() && Object.hasOwn(acts, event.key)) acts[event.key]();
    else if (map.zooms() && event.shiftKey && Object.hasOwn(ways, event.key)) map.pan(...ways[event.key]);
    else if (event.key === "Enter" && map.act) map.act();
    else {
      const next = own[event.key]?.(map.at()) ?? map.stepped(event.key);
      if (!next) return;
      map.point(next, true);
    }
    tip.hide();
    event.preventDefault();
    event.stopPropagation();
  });
  canvas.addEventListener("focus", () => map.point(map.at()));
}

/** Draw the cells, which end at the edge, and what is around them; gives the milliseconds it took. */
function drawIn(canvas, edge, view, room, paint, frame) {
  const begun = performance.now();
  const [pen, ratio] = [canvas.getContext("2d"), window.devicePixelRatio || 1];
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, room.width + edge, room.height + edge);
  pen.save();
  pen.translate(edge, edge);
  pen.beginPath();
  pen.rect(0, 0, Math.min(room.width, (room.columns - view.x) * view.sx), Math.min(room.height, (room.rows - view.y) * view.sy));
  pen.clip();
  paint(pen, view, room);
  pen.restore();
  frame?.(pen, view, room);
  return performance.now() - begun;
}

/** Buttons that do what keys do, for pointers and fingers. */
function createButtons(map, all) {
  const parts = [["−", "Zoom out", () => map.zoom(1 / 1.6)], ["+", "Zoom in", () => map.zoom(1.6)], [all, `${all}: show all of it`, map.showAll]];
  return el("div", { class: "wb-buttons wb-map-buttons", hidden: true }, parts.map(([text, label, press]) => button(text, press, { "aria-label": label })));
}

/**
 * The map. `update({columns, rows, label, count, height})` says what it is of, and draws it.
 *
 * `describe(x, y, grain)` names a cell, in the tooltip and in the line; `act(x, y)` happens on Enter and click.
 * `paint(pen, view, room)` draws the cells, `frame(pen, view, room)` what is around them within `edge` pixels, and
 * `changed(view, room)` hears of every drawing. `most` is the size of a cell after zooming in, 0 for no zoom;
 * `grain(view)` how many cells the cursor stands on; `step` the pixels of an arrow key at least; `size(width)` the canvas'
 * width and height where the sheet does not give them; without a `ring`, `paint` draws the cursor, which is `at()`.
 */
export function createCanvasMap({ name, role = "img", stage: placeOf = "", describe, act = null, paint, frame = null, changed = null, edge = 0, most = 24, square = false,
  grain = () => [1, 1], step = 1.5, size = null, ring = true, keys = {}, all = "Whole map", spoken = createReadout() }) {
  const hint = el("span", { id: uid("hint"), class: "wb-visually-hidden" });
  const canvas = el("canvas", { class: name, role, tabindex: "0", "aria-describedby": hint.id });
  const spot = el("div", { class: "wb-map-spot", "aria-hidden": "true", hidden: true });
  const element = el("div", { class: `wb-map-stage ${placeOf}`.trim() }, canvas, spot, hint);
  const tip = createTip(element);
  let [shape, room, view, at, pointing, queued, due] = [{}, null, null, { x: 0, y: 0 }, false, 0, true];
  const zooms = () => room !== null && most > 0 && hasZoom(room);

  function resize() {
    const [width, height] = size ? size(element.clientWidth) : [element.clientWidth, element.clientHeight];
    const ratio = window.devicePixelRatio || 1;
    if (!(width > edge && height > edge && shape.columns)) return;
    const fits = canvas.width === Math.round(width * ratio) && canvas.height === Math.round(height * ratio);
    if (fits && view && !due) return;
    if (!fits) [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (size) Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    const [before, whole] = [view, !view || isWhole(view, room)];
    room = { ...shape, width: width - edge, height: height - edge, most, square };
    view = whole ? wholeView(room) : heldView(view, room);
    at = placed(at, room, grain(view));
    if (pointing && !before) say();
    buttons.hidden = !zooms();
    hint.textContent = `Arrow keys move.${act ? " Enter or a click chooses." : ""}${zooms() ? " Plus and minus zoom, 0 shows all, Shift with arrows pans." : ""}`;
    draw();
  }
  function draw() {
    if (!view) return;
    due = false;
    const ms = drawIn(canvas, edge, view, room, paint, frame);
    mark();
    changed?.(view, room);
    element.classList.toggle("wb-map-near", !isWhole(view, room));
    Object.assign(canvas.dataset, { scale: view.sx.toFixed(4), x: view.x.toFixed(1), y: view.y.toFixed(1), ms: ms.toFixed(2) });
  }
  function mark() {
    const box = ring && pointing ? boxOf(at, view, room, grain(view)) : null;
    spot.hidden = !box;
    if (box) spot.style.cssText = `left: ${edge + box[0]}px; top: ${edge + box[1]}px; width: ${box[2]}px; height: ${box[3]}px`;
  }
  function request() {
    if (!queued) queued = requestAnimationFrame(() => { queued = 0; draw(); });
  }
  function look(next) {
    const before = grain(view);
    view = next;
    const into = grain(view).map((cells, i) => (cells < before[i] ? before[i] / 2 : 0)); // the middle of what it stood on
    at = placed({ x: at.x + into[0], y: at.y + into[1] }, room, grain(view));
    if (pointing) say();
    request();
  }
  const said = () => describe(at.x, at.y, grain(view)[0]);
  function say() { spoken.textContent = said(); }
  /** The cursor goes to a cell and is read out; `follow` moves the view along. */
  function point(next, follow = false) {
    [at, pointing] = [next, true];
    if (!view) return; // it is not laid out yet
    at = placed(at, room, grain(view));
    say();
    if (follow) view = following(view, at, room, grain(view));
    if (follow || !ring) request();
    mark();
  }
  function zoom(factor, x, y) {
    if (!zooms()) return;
    const [wide, high] = grain(view);
    const inside = (value, space) => Math.min(space, Math.max(0, value));
    const middle = ring && !pointing ? [room.width / 2, room.height / 2] : [(at.x + wide / 2 - view.x) * view.sx, (at.y + high / 2 - view.y) * view.sy];
    const [px, py] = x === undefined ? middle : [x - edge, y - edge];
    look(zoomed(view, factor, inside(px, room.width), inside(py, room.height), room));
  }
  const showAll = () => look(wholeView(room));
  const strides = () => grain(view).map((cells, i) => cells * Math.max(1, Math.round(step / cells / (i ? view.sy : view.sx))));
  const map = {
    at: () => at, view: () => view, room: () => room, whole: () => !zooms() || isWhole(view, room), zooms, zoom, showAll, look, point, said,
    under: (x, y) => view && placeUnder(x - edge, y - edge, view, room, grain(view)),
    stepped: (key) => view && stepped(at, key, room, grain(view), strides()),
    pan: (dx, dy) => look(panned(view, (dx * room.width) / 8, (dy * room.height) / 8, room)),
    act: act && (() => { tip.hide(); act(at.x, at.y); }),
  };
  const buttons = createButtons(map, all);
  function update({ label, height, ...next }) {
    if (next.columns !== shape.columns || next.rows !== shape.rows) [view, at, pointing] = [null, { x: 0, y: 0 }, false];
    [shape, due] = [next, true];
    if (height) element.style.height = `${height}px`;
    canvas.setAttribute("aria-label", label);
    resize();
    if (pointing && view) say();
  }
  listenToPointer(canvas, map, tip);
  listenToKeys(canvas, map, tip, keys);
  const observer = new ResizeObserver(resize);
  observer.observe(element);
  const themed = new MutationObserver(request); // colours are those of the theme when it was drawn
  themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  return { element, canvas, spoken, buttons, update, draw, request, point, say, at: map.at, close() { observer.disconnect(); themed.disconnect(); cancelAnimationFrame(queued); } };
}
