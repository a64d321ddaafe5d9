// The map of one head: zoomed and panned to single tokens, tiles drawn over coarser ones, blocks of a pattern over all.

import { el, field, fillSelect, select } from "./dom.js";
import { cividis, percent } from "./maths.js";
import { labelled } from "./canvas_view.js";
import { createCanvasMap, createScaleBar, stretch } from "./canvas_map.js";
import { bitAt, colourTable, shown, sizeFor, tilesUnder } from "./lens_maths.js";
import { createBitmap, createTiles } from "./lens_tiles.js";

const EDGE = 76; // pixels for labels along both axes
const SPAN = 256;
const TOKEN = 48; // pixels of a token
const KEYS = [["Arrows", "move the mark"], ["Shift + arrows", "pan"], ["+  −", "zoom to the mark"], ["0", "the whole map"], ["End", "the query's own key"], ["Mouse", "drag pans; the wheel zooms once the map is clicked"]];

/** The panel; `app` has study, head, layer, point, blocks(). */
export function createMap(app) {
  const { study, model, live } = app;
  const palette = cividis();
  const note = el("p", { class: "wb-faint" });
  const scale = select((value) => { log = value !== "linear"; recolour(); });
  fillSelect(scale, [["log", "logarithmic"], ["linear", "linear"]], "log");
  const pattern = select((value) => app.choose(value === null ? null : Number(value)));
  const legend = createScaleBar();
  const map = createCanvasMap({ name: "wb-ln-map", role: "application", stage: "wb-ln-map-stage", edge: EDGE, most: TOKEN, square: true, step: 12, ring: false,
    size: (width) => [width, Math.max(260, Math.min(width, 640, window.innerHeight - 190))],
    keys: { End: ({ y }) => ({ x: y, y }) }, describe: (key, query) => said({ key, query }), paint, frame: axes, changed });
  const { canvas } = map;
  const keys = el("dl", { class: "wb-ln-keys wb-faint" }, KEYS.flatMap(([key, what]) => [el("dt", { text: key }), el("dd", { text: what })]));
  const element = el("div", { class: "wb-ln-panel" },
    el("div", { class: "wb-ln-bar" }, field("Colours", scale), study.points.length ? field("Blocks of a pattern", pattern) : null, map.buttons, legend.element),
    el("div", { class: "wb-ln-mapped" }, map.element, el("div", { class: "wb-ln-side" }, map.spoken, note, keys)));
  let [log, high, stamp, fine] = [true, 1, "", 0];
  let [base, table8, veil] = [null, null, null];
  const tiles = createTiles({ model, live: live && study.sizes.length > 0, floor: study.floor, arrived: () => { map.say(); map.request(); } });

  /** The scale's brightest share, in a logarithmic and in a linear scale. */
  function recolour() {
    stamp = `${app.head}|${log}`;
    const most = study.picture(app.head).reduce((a, b) => Math.max(a, b), 2);
    high = study.shares[most];
    table8 = colourTable(palette, 255, study.floor, high, log);
    legend.update(...(log ? [percent(study.floor, Math.max(0, Math.ceil(-Math.log10(study.floor)) - 2)), percent(high)] : ["0", percent(high)]));
    map.request();
  }
  function update() {
    base = createBitmap(study.picture(app.head), study.cells);
    tiles.forget();
    recolour();
    overlay();
    map.update({ columns: study.tokens, rows: study.tokens, label: `Map of layer ${app.layer}, head ${app.inLayer}: queries down, keys across` });
    map.say();
  }

  /** One picture: the base, then every tile that is there from coarse to fine, the blocks, the mark. */
  function paint(pen, view, room) {
    const style = getComputedStyle(element);
    pen.fillStyle = style.getPropertyValue("--wb-tint");
    pen.fillRect(0, 0, room.width, room.height);
    stretch(pen, base.colour(table8, stamp), view, room, { cell: study.cell });
    fine = study.sizes.length ? sizeFor(study.sizes, view.sx) : 0;
    if (fine) paintTiles(pen, view, room);
    if (veil) {
      pen.globalAlpha = 0.72;
      stretch(pen, veil, view, room, { cell: study.block });
      pen.globalAlpha = 1;
    }
    cross(pen, view);
  }
  function changed(view, room) {
    const length = study.tokens;
    const cells = tiles.count() && fine ? fine : study.cell;
    note.textContent = `${Math.min(length, Math.ceil(room.width / view.sx))} of ${length} tokens across; cells of ${cells} × ${cells} tokens${live && study.sizes.length ? "" : ", the finest that is kept without a kernel and its states"}`;
    Object.assign(canvas.dataset, { size: String(fine), tiles: String(tiles.count()) });
  }
  function paintTiles(pen, view, room) {
    const table = tiles.colours({ stamp, colours: palette, high, log });
    const want = tilesUnder(view, fine, room);
    for (const size of study.sizes.filter((each) => each >= fine)) {
      for (const [row, column] of size === fine ? want : tilesUnder(view, size, room)) {
        const tile = tiles.find(app.layer, app.inLayer, size, row, column);
        if (tile) stretch(pen, tile.colour(table, stamp), view, room, { x: column * SPAN * size, y: row * SPAN * size, cell: size });
      }
    }
    tiles.want(app.layer, app.inLayer, fine, want);
  }
  function cross(pen, view) {
    const at = map.at();
    const [x, y, side] = [(at.x - view.x) * view.sx, (at.y - view.y) * view.sy, Math.max(view.sx, 1)];
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
  function axes(pen, view, room) {
    const style = getComputedStyle(element);
    const ink = style.getPropertyValue("--wb-ink");
    const soft = style.getPropertyValue("--wb-soft") || ink;
    const at = map.at();
    const text = (token, every) => (every === 1 || view.sx >= 13 ? `${shown(study.pieces[token]).slice(0, 8)}` : `${token} ${shown(study.pieces[token]).slice(0, 5)}`);
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    const rows = labelled(view.y, room.height, view.sy, room.rows);
    pen.textAlign = "right";
    for (const token of rows.tokens) {
      const y = EDGE + (token + 0.5 - view.y) * view.sy;
      pen.fillStyle = token === at.y ? ink : soft;
      pen.fillText(text(token, rows.every), EDGE - 6, y, EDGE - 8);
      pen.fillRect(EDGE - 4, y, 3, 1);
    }
    const columns = labelled(view.x, room.width, view.sx, room.columns);
    pen.textAlign = "left";
    for (const token of columns.tokens) {
      const x = EDGE + (token + 0.5 - view.x) * view.sx;
      pen.fillStyle = token === at.x ? ink : soft;
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
  function said({ key, query }) {
    if (key > query) return `Query ${study.quoted(query)} comes before key ${study.quoted(key)}: it cannot see it`;
    const [share, size] = shareAt({ key, query });
    const many = size > 1 ? ` (mean of ${size} × ${size} tokens)` : "";
    const few = share === 0 ? `at most ${study.floor.toExponential(0)}` : percent(share, share < 0.001 ? 4 : 2);
    return `Query ${study.quoted(query)} to key ${study.quoted(key)}: ${few}${many}`;
  }
  async function overlay() {
    fillSelect(pattern, [[null, "none"], ...study.points.map((p, i) => [String(i), `${p.name}, budget ${p.budget}`])], app.point === null ? null : String(app.point));
    veil = null;
    const wanted = `${app.head}|${app.point}`;
    const bits = app.point === null ? null : await app.blocks(app.head, app.point);
    if (wanted !== `${app.head}|${app.point}`) return;
    canvas.dataset.veil = bits ? wanted : "";
    if (bits) veil = veiled(bits, study.blocks, getComputedStyle(element).getPropertyValue("--wb-bg"));
    map.request();
  }
  return { element, update, points: overlay, close: () => { map.close(); tiles.close(); } };
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
