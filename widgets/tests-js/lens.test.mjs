import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateSync } from "node:zlib";
import { createStudy, inflate } from "../workbench_widgets/static/lens_data.js";
import { heldView } from "../workbench_widgets/static/canvas_view.js";
import * as m from "../workbench_widgets/static/lens_maths.js";

const FLOOR = 1e-5;
const near = (a, b, share = 1e-6) => assert.ok(Math.abs(a - b) <= share * Math.max(Math.abs(a), Math.abs(b), 1e-12), `${a} is not ${b}`);

test("codes run from the floor to one, logarithmically, and come back", () => {
  assert.ok(Number.isNaN(m.shareOf(0, 255, FLOOR)), "no cell");
  assert.equal(m.shareOf(1, 255, FLOOR), 0, "the floor and less");
  near(m.shareOf(255, 255, FLOOR), 1);
  near(m.shareOf(128, 255, FLOOR), Math.sqrt(FLOOR));
  for (let code = 2; code <= 255; code++) assert.equal(m.codeOf(m.shareOf(code, 255, FLOOR), 255, FLOOR), code);
  assert.equal(m.codeOf(0, 255, FLOOR), 1);
  assert.equal(m.shareTable(255, FLOOR).length, 256);
});

test("brightness is linear or logarithmic between the floor and the brightest", () => {
  assert.equal(m.brightness(0.1, FLOOR, 0.2, false), 0.5);
  near(m.brightness(Math.sqrt(FLOOR), FLOOR, 1, true), 0.5);
  assert.equal(m.brightness(1, FLOOR, 0.5, true), 1);
  assert.equal(m.brightness(NaN, FLOOR, 1, true), 0);
  const table = m.colourTable(Uint8Array.from({ length: 768 }, (_, i) => i % 256), 255, FLOOR, 1, true);
  assert.equal(table[0], 0, "no cell is transparent");
  assert.equal(table[7] >>> 24, 255);
});

test("shrinking averages shares, not codes", () => {
  const shares = m.shareTable(255, FLOOR);
  const [high, low] = [m.codeOf(0.8, 255, FLOOR), m.codeOf(0.001, 255, FLOOR)];
  const codes = Uint8Array.from([high, 0, 0, 0, low, high, 0, 0, low, low, high, 0, high, low, low, high]);
  const small = m.shrink(codes, 4, 2, shares, (share) => m.codeOf(share, 255, FLOOR));
  near(shares[small[2]], (shares[low] * 3 + shares[high]) / 4, 0.05);
  near(shares[small[0]], (shares[low] + 2 * shares[high]) / 4, 0.05);
  assert.equal(small[1], 0);
  assert.deepEqual(m.shrink(codes, 4, 64, shares, (s) => m.codeOf(s, 255, FLOOR)), codes, "nothing to do");
});

test("cells are never larger than they must be", () => {
  const sizes = [128, 64, 32, 16, 8, 4, 2, 1];
  assert.equal(m.sizeFor(sizes, 500 / 32768), 64);
  assert.equal(m.sizeFor(sizes, 1), 1);
  assert.equal(m.sizeFor(sizes, 40), 1, "there is none finer");
  assert.equal(m.sizeFor(sizes, 0.001), 128);
});

test("the tiles under a view cover it, near its centre first, none above the diagonal", () => {
  for (const [x, y, scale] of [[0, 0, 500 / 32768], [9000, 20000, 1], [100, 100, 0.3], [30000, 30000, 12]]) {
    const [n, w, h] = [32768, 700, 500];
    const room = { columns: n, rows: n, width: w, height: h, most: 48, square: true };
    const view = heldView({ x, y, sx: scale, sy: scale }, room);
    const size = m.sizeFor([128, 64, 32, 16, 8, 4, 2, 1], scale);
    const tiles = m.tilesUnder(view, size, room);
    const found = new Set(tiles.map(String));
    assert.ok(tiles.length <= 36, `${tiles.length} tiles`);
    for (const [px, py] of [[0, 0], [w - 1, h - 1], [w / 2, h / 2], [0, h - 1]]) {
      const [column, row] = [Math.floor((view.x + px / view.sx) / (256 * size)), Math.floor((view.y + py / view.sy) / (256 * size))];
      if (column <= row && row * 256 * size < n) assert.ok(found.has(String([row, column])), `${row},${column}`);
    }
    assert.ok(tiles.every(([row, column]) => column <= row));
  }
});

test("heads are sorted, ties as they stand", () => {
  assert.deepEqual(m.orderBy([1, 3, 2, 3], 4), [1, 3, 2, 0]);
  assert.deepEqual(m.orderBy(null, 3), [0, 1, 2]);
});

test("rows of a cache are held until they are dropped", () => {
  const dropped = Uint16Array.from([0, 11, 13, 0, 0, 0]); // stays, gone at 10, gone at 12
  assert.equal(m.heldShare(dropped, 0, 3, 9), 1);
  near(m.heldShare(dropped, 0, 3, 10), 2 / 3);
  near(m.heldShare(dropped, 0, 3, 12), 1 / 3);
  assert.equal(m.heldShare(dropped, 3, 6, 4), 1, "what is not read yet does not count");
  assert.ok(Number.isNaN(m.heldShare(dropped, 4, 6, 4)));
});

test("the cache of tiles drops what was used longest ago", () => {
  const lru = m.createLru(2);
  lru.set("a", 1);
  lru.set("b", 2);
  lru.get("a");
  lru.set("c", 3);
  assert.deepEqual([lru.get("a"), lru.get("b"), lru.get("c"), lru.size], [1, undefined, 3, 2]);
});

test("bits and labels", () => {
  assert.deepEqual(Array.from({ length: 10 }, (_, n) => m.bitAt(Uint8Array.from([0b10000001, 0b01000000]), n)), [1, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
  assert.deepEqual([" a", "\n", "", "a b"].map(m.shown), ["·a", "⏎", "∅", "a b"]);
});

test("a study is unpacked from deflated bytes", async () => {
  const parts = { picture: ["u1", Uint8Array.from([100, 0, 1, 255])], metrics: ["f4", Float32Array.from([0.25])], kinds: ["u1", Uint8Array.from([1])], column: ["u1", Uint8Array.from([255, 1])] };
  const [places, bytes] = [{}, []];
  for (const [name, [type, array]] of Object.entries(parts)) {
    places[name] = [type, bytes.length, array.length];
    bytes.push(...new Uint8Array(array.buffer));
    while (bytes.length % 8) bytes.push(0);
  }
  const header = { arrays: places, layers: 1, heads: 1, tokens: 3, cells: 2, cell: 2, floor: FLOOR, sinks: 1, pieces: ["x", " y", "\n"], kinds: [["sink", "S", "#000"], ["broad", "B", "#fff"]], metrics: [["sink", "what"]] };
  const study = createStudy(header, await inflate(deflateSync(Uint8Array.from(bytes))));
  assert.deepEqual([...study.pictureRow(0, 2)], [0, 0, 1]);
  near(study.pictureRow(0, 1)[0], m.shareOf(100, 255, FLOOR), 1e-5);
  assert.deepEqual([...study.received(0)], [1, 1, 0]);
  assert.equal(study.told(0, ["sink"]), "Layer 0, head 0: broad, sink 25.0 %");
  assert.equal(study.quoted(2), "2 “⏎”");
});
