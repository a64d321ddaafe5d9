// The map of one head: zoomed and panned to single tokens, tiles drawn over coarser ones, blocks of a pattern over all.

import { button, el, field, fillSelect, select } from "./dom.js";
import { createReadout } from "./primitives.js";
import { cividis, percent } from "./maths.js";
import { bitAt, colourTable, following, heldView, labelled, shown, sizeFor, tilesUnder, wholeView, zoomed } from "./lens_maths.js";
import { createScale } from "./lens_grid.js";
import { createBitmap, createTiles } from "./lens_tiles.js";

const EDGE = 76; // pixels for labels along both axes
const SPAN = 256;
const KEYS = [["Arrows", "move the mark"], ["Shift + arrows", "pan"], ["+  −", "zoom to the mark"], ["0", "the whole map"], ["End", "the query's own key"], ["Mouse", "drag pans; the wheel zooms once the map is clicked"]];

/** The panel; `app` has study, head, layer, point, blocks(). */
export function createMap(app) {
  const { study, model, live } = app;
  const length = study.tokens;
  const palette = cividis();
  const canvas = el("canvas", { class: "wb-ln-map", role: "application", tabindex: "0" });
  const spoken = createReadout();
  const note = el("p", { class: "wb-faint" });
  const scale = select((value) => { log = value !== "linear"; recolour(); });
  fillSelect(scale, [["log", "logarithmic"], ["linear", "linear"]], "log");
  const pattern = select((value) => app.choose(value === null ? null : Number(value)));
  const legend = createScale();
  const zooms = [["−", "Zoom out", () => zoom(1 / 1.6)], ["+", "Zoom in", () => zoom(1.6)], ["Whole map", "Show the whole map", () => whole()]]
    .map(([text, label, act]) => button(text, act, { "aria-label": label }));
  const stage = el("div", { class: "wb-ln-map-stage" }, canvas);
  const keys = el("dl", { class: "wb-ln-keys wb-faint" }, KEYS.flatMap(([key, what]) => [el("dt", { text: key }), el("dd", { text: what })]));
  const element = el("div", { class: "wb-ln-panel" },
    el("div", { class: "wb-ln-bar" }, field("Colours", scale), study.points.length ? field("Blocks of a pattern", pattern) : null, el("div", { class: "wb-buttons" }, zooms), legend.element),
    el("div", { class: "wb-ln-mapped" }, stage, el("div", { class: "wb-ln-side" }, spoken, note, keys)));
  let [view, log, high, stamp, width, height, cursor, drag, queued] = [null, true, 1, "", 0, 0, { key: 0, query: 0 }, null, 0];
  let [base, table8, veil] = [null, null, null];
  const tiles = createTiles({ model, live: live && study.sizes.length > 0, floor: study.floor, arrived: () => { say(); request(); } });

  /** The scale's brightest share, in a logarithmic and in a linear scale. */
  function recolour() {
    stamp = `${app.head}|${log}`;
    const most = study.picture(app.head).reduce((a, b) => Math.max(a, b), 2);
    high = study.shares[most];
    table8 = colourTable(palette, 255, study.floor, high, log);
    const ends = log ? [study.floor.toExponential(0), percent(high)] : ["0", percent(high)];
    legend.update(...ends);
    request();
  }
  function open() {
    base = createBitmap(study.picture(app.head), study.cells);
    tiles.forget();
    recolour();
    overlay();
    canvas.setAttribute("aria-label", `Map of layer ${app.layer}, head ${app.inLayer}: queries down, keys across. Arrow keys move, plus and minus zoom, 0 shows all, Shift with arrows pans.`);
    say();
  }
  function request() {
    if (!queued) queued = requestAnimationFrame(() => { queued = 0; draw(); });
  }
  function whole() {
    view = wholeView(length, width, height);
    request();
  }
  function zoom(factor, px, py) {
    const at = px === undefined ? [(cursor.key + 0.5 - view.x) * view.scale, (cursor.query + 0.5 - view.y) * view.scale] : [px, py];
    const held = (value, room) => Math.min(room, Math.max(0, value));
    view = zoomed(view, factor, held(at[0], width), held(at[1], height), length, width, height);
    request();
  }
  function resize() {
    const [w, ratio] = [stage.clientWidth, window.devicePixelRatio || 1];
    if (!w) return;
    const side = Math.max(260, Math.min(w, 640, window.innerHeight - 190));
    [canvas.width, canvas.height] = [Math.round(w * ratio), Math.round(side * ratio)];
    Object.assign(canvas.style, { width: `${w}px`, height: `${side}px` });
    const all = !view || view.scale <= wholeView(length, width, height).scale;
    [width, height] = [w - EDGE, side - EDGE];
    view = all ? wholeView(length, width, height) : heldView(view, length, width, height);
    draw();
  }

  /** One picture: the base, then every tile that is there from coarse to fine, the blocks, the axes. */
  function draw() {
    if (!view || !base || !width) return;
    const begun = performance.now();
    const pen = canvas.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    const style = getComputedStyle(element);
    const ink = style.getPropertyValue("--wb-ink");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width + EDGE, height + EDGE);
    pen.save();
    pen.translate(EDGE, EDGE);
    pen.beginPath();
    pen.rect(0, 0, Math.min(width, (length - view.x) * view.scale), Math.min(height, (length - view.y) * view.scale));
    pen.clip();
    pen.fillStyle = style.getPropertyValue("--wb-tint");
    pen.fillRect(0, 0, width, height);
    stretch(pen, base, table8, 0, 0, study.cell);
    const fine = study.sizes.length ? sizeFor(study.sizes, view.scale) : 0;
    if (fine) drawTiles(pen, fine);
    if (veil) { pen.imageSmoothingEnabled = false; pen.globalAlpha = 0.72; place(pen, veil, 0, 0, study.block * veil.width, study.block * veil.height); pen.globalAlpha = 1; }
    cross(pen);
    pen.restore();
    axes(pen, ink, style.getPropertyValue("--wb-soft") || ink);
    note.textContent = `${Math.min(length, Math.ceil(width / view.scale))} of ${length} tokens across; ${tiles.count() && fine ? `cells of ${fine} × ${fine}` : `cells of ${study.cell} × ${study.cell}`} tokens${live && study.sizes.length ? "" : ", the finest that is kept without a kernel and its states"}`;
    Object.assign(canvas.dataset, { scale: view.scale.toFixed(4), x: view.x.toFixed(1), y: view.y.toFixed(1), size: String(fine), tiles: String(tiles.count()), ms: (performance.now() - begun).toFixed(2) });
  }
  function place(pen, image, x, y, w, h) {
    pen.drawImage(image, (x - view.x) * view.scale, (y - view.y) * view.scale, w * view.scale, h * view.scale);
  }
  /** Cells of a bitmap over the tokens from (x, y) on; only what can be seen is drawn. */
  function stretch(pen, bitmap, table, x, y, cell) {
    const image = bitmap.colour(table, stamp);
    const first = (at, from) => Math.max(0, Math.floor((at - from) / cell));
    const last = (at, room, from, count) => Math.min(count, Math.ceil((at + room / view.scale - from) / cell));
    const [left, top] = [first(view.x, x), first(view.y, y)];
    const [right, bottom] = [last(view.x, width, x, image.width), last(view.y, height, y, image.height)];
    if (right <= left || bottom <= top) return;
    pen.imageSmoothingEnabled = cell * view.scale < 1;
    const size = cell * view.scale;
    pen.drawImage(image, left, top, right - left, bottom - top, (x + left * cell - view.x) * view.scale, (y + top * cell - view.y) * view.scale, (right - left) * size, (bottom - top) * size);
  }
  function drawTiles(pen, fine) {
    const table = tiles.colours({ stamp, colours: palette, high, log });
    const want = tilesUnder(view, fine, length, width, height);
    const sizes = study.sizes.filter((size) => size >= fine);
    sizes.forEach((size) => {
      const under = size === fine ? want : tilesUnder(view, size, length, width, height);
      for (const [row, column] of under) {
        const tile = tiles.find(app.layer, app.inLayer, size, row, column);
        if (tile) stretch(pen, tile, table, column * SPAN * size, row * SPAN * size, size);
      }
    });
    tiles.want(app.layer, app.inLayer, fine, want);
  }
  function cross(pen) {
    const [x, y, side] = [(cursor.key - view.x) * view.scale, (cursor.query - view.y) * view.scale, Math.max(view.scale, 1)];
    pen.strokeStyle = "#d55e00";
    pen.globalAlpha = 0.6;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(0, Math.round(y + side / 2) + 0.5);
    pen.lineTo(x, Math.round(y + side / 2) + 0.5);
    pen.moveTo(Math.round(x + side / 2) + 0.5, 0);
    pen.lineTo(Math.round(x + side / 2) + 0.5, y);
    pen.stroke();
    pen.globalAlpha = 1;
    pen.lineWidth = 2;
    pen.strokeRect(x - 2, y - 2, side + 4, side + 4);
  }
  function axes(pen, ink, soft) {
    const labels = (at, room) => labelled(at, room, view.scale, length);
    const text = (token, every) => (every === 1 || view.scale >= 13 ? `${shown(study.pieces[token]).slice(0, 8)}` : `${token} ${shown(study.pieces[token]).slice(0, 5)}`);
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    const rows = labels(view.y, height);
    pen.textAlign = "right";
    for (const token of rows.tokens) {
      const y = EDGE + (token + 0.5 - view.y) * view.scale;
      pen.fillStyle = token === cursor.query ? ink : soft;
      pen.fillText(text(token, rows.every), EDGE - 6, y, EDGE - 8);
      pen.fillRect(EDGE - 4, y, 3, 1);
    }
    const columns = labels(view.x, width);
    pen.textAlign = "left";
    for (const token of columns.tokens) {
      const x = EDGE + (token + 0.5 - view.x) * view.scale;
      pen.fillStyle = token === cursor.key ? ink : soft;
      pen.save();
      pen.translate(x, EDGE - 6);
      pen.rotate(-Math.PI / 2.6);
      pen.fillText(text(token, columns.every), 0, 0, EDGE - 10);
      pen.restore();
      pen.fillRect(x, EDGE - 4, 1, 3);
    }
    pen.fillStyle = soft;
    pen.fillText("key →", 4, 14);
    pen.fillText("query ↓", 4, 30);
  }

  /** Share at the cursor from the finest tile there is, and the tokens of its cell. */
  function shareAt({ key, query }) {
    for (const size of [...study.sizes].reverse()) {
      const [row, column] = [Math.floor(query / (SPAN * size)), Math.floor(key / (SPAN * size))];
      const tile = tiles.find(app.layer, app.inLayer, size, row, column);
      if (tile) return [tiles.share(tile, Math.floor(query / size) % SPAN, Math.floor(key / size) % SPAN), size];
    }
    const cell = Math.floor(query / study.cell) * study.cells + Math.floor(key / study.cell);
    return [study.shares[study.picture(app.head)[cell]], study.cell];
  }
  function say() {
    const { key, query } = cursor;
    if (key > query) { spoken.textContent = `Query ${study.quoted(query)} comes before key ${study.quoted(key)}: it cannot see it`; return; }
    const [share, size] = shareAt(cursor);
    const many = size > 1 ? ` (mean of ${size} × ${size} tokens)` : "";
    const few = share === 0 ? `at most ${study.floor.toExponential(0)}` : percent(share, share < 0.001 ? 4 : 2);
    spoken.textContent = `Query ${study.quoted(query)} to key ${study.quoted(key)}: ${few}${many}`;
  }
  function move(key, query) {
    const held = (value) => Math.min(length - 1, Math.max(0, value));
    cursor = { key: held(key), query: held(query) };
    say();
    request();
  }
  async function overlay() {
    fillSelect(pattern, [[null, "none"], ...study.points.map((p, i) => [String(i), `${p.name}, budget ${p.budget}`])], app.point === null ? null : String(app.point));
    veil = null;
    const wanted = `${app.head}|${app.point}`;
    const bits = app.point === null ? null : await app.blocks(app.head, app.point);
    if (wanted !== `${app.head}|${app.point}`) return;
    canvas.dataset.veil = bits ? wanted : "";
    if (bits) veil = veiled(bits, study.blocks, getComputedStyle(element).getPropertyValue("--wb-bg"));
    request();
  }

  const pointed = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left - EDGE, event.clientY - box.top - EDGE]; };
  canvas.addEventListener("pointerdown", (event) => {
    drag = { at: [event.clientX, event.clientY], view };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", () => { drag = null; });
  canvas.addEventListener("pointermove", (event) => {
    if (drag) {
      const [dx, dy] = [event.clientX - drag.at[0], event.clientY - drag.at[1]];
      view = heldView({ ...drag.view, x: drag.view.x - dx / view.scale, y: drag.view.y - dy / view.scale }, length, width, height);
      request();
      return;
    }
    const [x, y] = pointed(event);
    if (x >= 0 && y >= 0) move(Math.floor(view.x + x / view.scale), Math.floor(view.y + y / view.scale));
  });
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas && !event.ctrlKey) return; // a page that scrolls past is left alone
    event.preventDefault();
    zoom(1.2 ** (-event.deltaY / 60), ...pointed(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const acts = { "+": () => zoom(1.6), "=": () => zoom(1.6), "-": () => zoom(1 / 1.6), 0: whole, Home: () => move(0, cursor.query), End: () => move(cursor.query, cursor.query) };
    if (event.key in acts) acts[event.key]();
    else if (!(event.key in moves)) return;
    else {
      const [dx, dy] = moves[event.key];
      const step = Math.max(1, Math.round(12 / view.scale));
      if (event.shiftKey) { view = heldView({ ...view, x: view.x + (dx * width) / view.scale / 8, y: view.y + (dy * height) / view.scale / 8 }, length, width, height); request(); }
      else { move(cursor.key + dx * step, cursor.query + dy * step); view = following(view, cursor.key, cursor.query, length, width, height); }
    }
    event.preventDefault();
  });
  const observer = new ResizeObserver(resize);
  observer.observe(stage);
  return { element, update: () => { open(); resize(); }, points: overlay, close: () => { observer.disconnect(); tiles.close(); cancelAnimationFrame(queued); } };
}

/** A canvas of one pixel a block, opaque where a pattern leaves a block out. */
export function veiled(bits, side, colour) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [side, side];
  const pen = canvas.getContext("2d");
  pen.fillStyle = colour;
  for (let row = 0; row < side; row++) for (let column = 0; column <= row; column++) if (!bitAt(bits, (row * (row + 1)) / 2 + column)) pen.fillRect(column, row, 1, 1);
  return canvas;
}
