// Maps over the whole trace, drawn once: layers by token for early exits, steps by place for unmasking.

import { el } from "./dom.js";
import { cividis, percent, shade } from "./maths.js";
import { visible } from "./theatre_maths.js";

const TABLE = cividis();
const LARGEST = 2048; // pixels of a canvas along one side

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

/** A canvas with a cursor of its own: arrow keys and pointer read cells out. */
function createMap(map, { label, describe, paint, ends }) {
  const canvas = el("canvas", { class: "wb-th-map", role: "img", tabindex: "0", "aria-label": label, width: Math.min(LARGEST, map.columns), height: Math.min(LARGEST, map.rows) });
  const veil = el("div", { class: "wb-th-veil", "aria-hidden": "true" });
  const mark = el("div", { class: "wb-th-spot", "aria-hidden": "true", hidden: true });
  const readout = el("p", { class: "wb-th-readout", "aria-live": "polite" });
  const stage = el("div", { class: "wb-th-map-stage" }, canvas, veil, mark);
  const high = Math.max(4, Math.min(16, Math.floor(260 / map.rows)));
  stage.style.height = `${Math.max(60, high * map.rows)}px`;
  stage.style.maxWidth = `${Math.max(220, 32 * map.columns)}px`;
  paint(canvas);
  let at = null;
  function point(x, y) {
    at = { x: Math.min(map.columns - 1, Math.max(0, x)), y: Math.min(map.rows - 1, Math.max(0, y)) };
    mark.hidden = false;
    Object.assign(mark.style, { left: `${(100 * at.x) / map.columns}%`, top: `${(100 * at.y) / map.rows}%`, width: `${100 / map.columns}%`, height: `${100 / map.rows}%` });
    readout.textContent = describe(at.x, at.y);
  }
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    point(Math.floor(((event.clientX - box.left) / box.width) * map.columns), Math.floor(((event.clientY - box.top) / box.height) * map.rows));
  });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-map.columns, 0], End: [map.columns, 0] };
    if (!(event.key in moves)) return;
    event.preventDefault();
    event.stopPropagation();
    const [dx, dy] = moves[event.key];
    if (at) point(at.x + dx, at.y + dy);
    else point(0, 0);
  });
  const scale = el("p", { class: "wb-th-scale", "aria-hidden": "true" }, ends[0], el("span", { style: `background: linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map((v) => shade(TABLE, v)).join(", ")})` }), ends[1]);
  return { element: el("div", { class: "wb-th-mapped" }, stage, scale, readout), veil, readout };
}

function painter(map, extra) {
  return (canvas) => {
    const pen = canvas.getContext("2d");
    const [sx, sy] = [canvas.width / map.columns, canvas.height / map.rows];
    for (const cell of map.cells) {
      pen.fillStyle = shade(TABLE, Number.isFinite(cell.value) ? cell.value : 1);
      extra(pen, cell, sx, sy);
    }
  };
}

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
  const paint = painter(map, (pen, cell, sx, sy) => pen.fillRect(cell.x * sx, cell.y * sy, Math.max(1, sx), Math.max(1, sy)));
  const left = map.cells.filter((c) => c.out);
  const mean = left.reduce((sum, c) => sum + (play.layers - 1 - c.y), 0) / Math.max(1, left.length);
  const text = `Layers (the last on top) by token: on average out at layer ${mean.toFixed(1)} of ${play.layers}`;
  const shown = createMap(map, { label: text, describe, paint, ends: ["unsure", "sure"] });
  const note = el("p", { class: "wb-faint", text: `${text}. Empty above: layers that were not run or not asked.` });
  function update(frame) {
    const reached = play.changes.frame.length ? Math.max(-1, ...play.changesOf(frame).map((c) => play.changes.place[c])) : -1;
    const done = reached < 0 ? play.frames.tokens[frame] : map.places.filter((p) => p <= reached).length;
    Object.assign(shown.veil.style, { left: `${(100 * done) / Math.max(1, map.columns)}%`, right: "0", top: "0", bottom: "0" });
  }
  return { element: el("div", null, note, shown.element), update };
}

/** Steps by place: when each token came, and how sure the model was. */
export function createUnmask(play) {
  const map = unmaskCells(play);
  const place = new Map(map.cells.map((c) => [`${c.x},${c.y}`, c]));
  const paint = (canvas) => {
    const pen = canvas.getContext("2d");
    const [sx, sy] = [canvas.width / map.columns, canvas.height / map.rows];
    const until = new Map();
    for (const cell of [...map.cells].reverse()) {
      const end = until.get(cell.x) ?? map.rows;
      until.set(cell.x, cell.y);
      if (cell.back) continue;
      pen.fillStyle = "rgb(128 128 128 / 0.18)";
      pen.fillRect(cell.x * sx, cell.y * sy, Math.max(1, sx), (end - cell.y) * sy);
      pen.fillStyle = shade(TABLE, Number.isFinite(cell.value) ? cell.value : 1);
      pen.fillRect(cell.x * sx, cell.y * sy, Math.max(1, sx), Math.max(1, sy));
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
  const shown = createMap(map, { label: text, describe, paint, ends: ["unsure", "sure"] });
  const note = el("p", { class: "wb-faint", text: `${text}. Bright is sure; grey below: it stands.` });
  function update(frame) {
    const done = Math.min(map.rows, Math.max(0, frame - map.first + 1));
    Object.assign(shown.veil.style, { left: "0", right: "0", top: `${(100 * done) / map.rows}%`, bottom: "0" });
  }
  return { element: el("div", null, note, shown.element), update };
}
