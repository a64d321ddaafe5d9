// Maps over the whole trace, drawn once: layers by token for early exits, steps by place for unmasking.

import { el } from "./dom.js";
import { percent } from "./maths.js";
import { createReadout } from "./primitives.js";
import { createCanvasMap, createScaleBar, inkOf, paintPixels, stretch } from "./canvas_map.js";
import { visible } from "./theatre_maths.js";

const STANDS = (46 << 24) | 0x808080; // grey, of which little covers what is below

/** Cells of exits: columns are places, rows layers from the last (top) to the first. */
export function exitCells(play) {
  const rows = [...Array(play.events.kind.length).keys()].filter((r) => play.kindOf(r) === "exit");
  const places = [...new Set(rows.map((r) => play.events.position[r]))].sort((a, b) => a - b);
  const column = new Map(places.map((p, i) => [p, i]));
  const deepest = new Map();
  for (const r of rows) { const p = play.events.position[r]; deepest.set(p, Math.max(deepest.get(p) ?? -1, play.events.layer[r])); }
  return { places, columns: places.length, rows: play.layers,
    cells: rows.map((r) => ({ row: r, x: column.get(play.events.position[r]), y: play.layers - 1 - play.events.layer[r], value: play.events.value[r],
      out: play.events.layer[r] === deepest.get(play.events.position[r]) })) };
}

/** Cells of unmasking: columns are places, rows frames. */
export function unmaskCells(play) {
  const rows = [...Array(play.events.kind.length).keys()].filter((r) => ["unmask", "remask"].includes(play.kindOf(r)));
  const places = [...new Set(rows.map((r) => play.events.position[r]))].sort((a, b) => a - b);
  const column = new Map(places.map((p, i) => [p, i]));
  const frame = (row) => { let f = 0; while (play.frames.first[f + 1] <= row) f += 1; return f; };
  const first = rows.length ? frame(rows[0]) : 0;
  const last = rows.length ? frame(rows[rows.length - 1]) : 0;
  return { places, columns: places.length, rows: last - first + 1, first,
    cells: rows.map((r) => ({ row: r, x: column.get(play.events.position[r]), y: frame(r) - first, value: play.events.value[r], out: play.kindOf(r) === "unmask", back: play.kindOf(r) === "remask" })) };
}

/** The map of a trace's cells; `fill(pixels)` paints them, `reach(columns, rows)` says where what comes later begins. */
function createCells(map, { label, note, describe, fill }) {
  const { columns, rows } = map;
  const cells = paintPixels(document.createElement("canvas"), columns, rows, fill);
  let [across, down] = [columns, rows];
  const shown = createCanvasMap({ name: "wb-th-map", stage: "wb-th-map-stage", describe, spoken: createReadout("wb-th-readout"), paint(pen, view, room) {
    stretch(pen, cells, view, room);
    pen.fillStyle = getComputedStyle(shown.element).getPropertyValue("--wb-bg");
    pen.globalAlpha = 0.82;
    pen.fillRect((across - view.x) * view.sx, 0, room.width, room.height);
    pen.fillRect(0, (down - view.y) * view.sy, room.width, room.height);
    pen.globalAlpha = 1;
  } });
  const height = Math.min(400, Math.max(60, Math.max(4, Math.min(16, Math.floor(260 / rows))) * rows));
  shown.element.style.maxWidth = `${Math.max(220, 32 * columns)}px`;
  shown.update({ columns, rows, label, height });
  const element = el("div", null, el("p", { class: "wb-faint", text: `${label}. ${note}` }), shown.element,
    el("div", { class: "wb-map-foot" }, shown.spoken, shown.buttons, createScaleBar("unsure", "sure").element));
  return { element, close: shown.close, reach(...to) { [across, down] = to; shown.request(); } };
}

const inkOfCell = (cell) => inkOf(Number.isFinite(cell.value) ? cell.value : 1);

/** Layers by token. */
export function createExits(play) {
  const map = exitCells(play);
  const found = new Map(map.cells.map((c) => [`${c.x},${c.y}`, c]));
  const tokens = new Map(play.order.map((p) => [p, play.places.get(p).at(-1)]));
  const describe = (x, y) => {
    const [cell, layer] = [found.get(`${x},${y}`), play.layers - 1 - y];
    const name = tokens.has(map.places[x]) ? `“${visible(play.piece(play.changes.token[tokens.get(map.places[x])]))}”` : `place ${map.places[x]}`;
    return cell ? `${name}, layer ${layer}: confidence ${percent(cell.value, 0)}${cell.out ? ", out here" : ""}` : `${name}, layer ${layer}: not asked`;
  };
  const fill = (pixels) => { for (const cell of map.cells) pixels[cell.y * map.columns + cell.x] = inkOfCell(cell); };
  const left = map.cells.filter((c) => c.out);
  const mean = left.reduce((sum, c) => sum + (play.layers - 1 - c.y), 0) / Math.max(1, left.length);
  const text = `Layers (the last on top) by token: on average out at layer ${mean.toFixed(1)} of ${play.layers}`;
  const shown = createCells(map, { label: text, note: "Empty above: layers that were not run or not asked.", describe, fill });
  function update(frame) {
    const reached = play.changes.frame.length ? Math.max(-1, ...play.changesOf(frame).map((c) => play.changes.place[c])) : -1;
    const done = reached < 0 ? play.frames.tokens[frame] : map.places.filter((p) => p <= reached).length;
    shown.reach(done, map.rows);
  }
  return { ...shown, update };
}

/** Steps by place: when each token came, and how sure the model was. */
export function createUnmask(play) {
  const map = unmaskCells(play);
  const place = new Map(map.cells.map((c) => [`${c.x},${c.y}`, c]));
  const fill = (pixels) => {
    const until = new Map();
    for (const cell of [...map.cells].reverse()) {
      const end = until.get(cell.x) ?? map.rows;
      until.set(cell.x, cell.y);
      if (cell.back) continue;
      for (let y = cell.y + 1; y < end; y++) pixels[y * map.columns + cell.x] = STANDS;
      pixels[cell.y * map.columns + cell.x] = inkOfCell(cell);
    }
  };
  const describe = (x, y) => {
    const cell = place.get(`${x},${y}`);
    const step = play.frames.label[map.first + y];
    if (cell) return cell.back ? `place ${map.places[x]}, step ${step}: masked again` : `“${visible(play.piece(play.events.token[cell.row]))}” unmasked at place ${map.places[x]} in step ${step}, confidence ${percent(cell.value, 0)}`;
    const change = play.places.has(map.places[x]) ? play.standing(map.places[x], map.first + y) : -1;
    return `place ${map.places[x]}, step ${step}: ${change >= 0 && play.changes.token[change] >= 0 ? `“${visible(play.piece(play.changes.token[change]))}” stands` : "masked"}`;
  };
  const text = `Steps (down) by place (across): ${map.cells.filter((c) => c.out).length} tokens unmasked in ${map.rows} step${map.rows === 1 ? "" : "s"}`;
  const shown = createCells(map, { label: text, note: "Bright is sure; grey below: it stands.", describe, fill });
  function update(frame) {
    shown.reach(map.columns, Math.min(map.rows, Math.max(0, frame - map.first + 1)));
  }
  return { ...shown, update };
}
