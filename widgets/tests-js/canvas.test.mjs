import assert from "node:assert/strict";
import { test } from "node:test";
import { keptText } from "../workbench_widgets/static/picture.js";
import * as v from "../workbench_widgets/static/canvas_view.js";

const near = (a, b, share = 1e-9) => assert.ok(Math.abs(a - b) <= share * Math.max(Math.abs(a), Math.abs(b), 1e-12), `${a} is not ${b}`);
const LONG = { columns: 32768, rows: 32768, width: 800, height: 500, most: 48, square: true };
const TILES = { columns: 480, rows: 112, width: 900, height: 252, most: 24 };

test("a view is held inside the map and zooms around a point", () => {
  const whole = v.wholeView(LONG);
  near(whole.sx, 500 / 32768);
  assert.equal(whole.sx, whole.sy, "square cells stay square");
  const close = v.zoomed(whole, 100, 200, 300, LONG);
  near(close.x + 200 / close.sx, 200 / whole.sx);
  near(close.y + 300 / close.sy, 300 / whole.sy);
  assert.deepEqual(v.zoomed(close, 1e-9, 200, 300, LONG), whole, "never smaller than the whole");
  assert.equal(v.zoomed(whole, 1e9, 0, 0, LONG).sx, 48);
  assert.deepEqual(v.heldView({ x: 1e9, y: -5, sx: 10, sy: 10 }, LONG), { x: 32768 - 80, y: 0, sx: 10, sy: 10 });
  assert.deepEqual([v.isWhole(whole, LONG), v.isWhole(close, LONG)], [true, false]);
});

test("cells that are not square grow on each axis until they are large enough", () => {
  const whole = v.wholeView(TILES);
  assert.deepEqual(whole, { x: 0, y: 0, sx: 900 / 480, sy: 252 / 112 });
  const close = v.zoomed(whole, 1e9, 450, 126, TILES);
  assert.deepEqual([close.sx, close.sy], [24, 24]);
  near(close.x + 450 / 24, 240);
  near(close.y + 126 / 24, 56);
  const wide = { columns: 512, rows: 4, width: 600, height: 120, most: 24 };
  const rows = v.zoomed(v.wholeView(wide), 1e9, 0, 0, wide);
  assert.deepEqual([rows.sx, rows.sy], [24, 30], "what is large enough stays as it is");
  assert.deepEqual([v.hasZoom(wide), v.hasZoom({ ...wide, columns: 48 })], [true, false]);
});

test("a view is panned by pixels and follows the cursor", () => {
  const view = { x: 100, y: 100, sx: 10, sy: 10 };
  const room = { ...LONG, columns: 1000, rows: 1000, width: 400, height: 400 };
  assert.deepEqual(v.panned(view, 50, -20, room), { ...view, x: 95, y: 102 });
  assert.deepEqual(v.following(view, { x: 120, y: 120 }, room), view);
  const right = v.following(view, { x: 150, y: 90 }, room);
  assert.ok(right.x + 40 >= 151 && right.y <= 90);
  const tile = v.following({ x: 0, y: 0, sx: 5, sy: 5 }, { x: 160, y: 0 }, { ...TILES, width: 300, height: 100 }, [16, 16]);
  assert.ok(tile.x <= 160 && tile.x + 60 >= 176, "the whole of a tile");
});

test("the cursor stands on so many cells at a time", () => {
  assert.deepEqual(v.placed({ x: 479, y: 999 }, TILES, [16, 16]), { x: 464, y: 96 });
  assert.deepEqual(v.placed({ x: -3, y: 17 }, TILES, [16, 16]), { x: 0, y: 16 });
  assert.deepEqual(v.placed({ x: 479, y: 17 }, TILES), { x: 479, y: 17 });
});

test("a point finds its cell; before the first there is none", () => {
  const room = { columns: 30, rows: 7, width: 300, height: 70, most: 0 };
  const view = v.wholeView(room);
  const under = (x, y) => v.placeUnder(x, y, view, room);
  assert.deepEqual([under(0, 0), under(299.9, 69.9), under(105, 25)], [{ x: 0, y: 0 }, { x: 29, y: 6 }, { x: 10, y: 2 }]);
  assert.deepEqual([under(-1, 0), under(0, -1), under(NaN, 0)], [null, null, null]);
  assert.equal(v.placeUnder(299, 69, view, { ...room, count: 209 }), null, "the last row is not full");
  assert.deepEqual(v.placeUnder(10, 10, { x: 100, y: 50, sx: 5, sy: 10 }, TILES), { x: 102, y: 51 });
});

test("keys move the cursor and stop at the edges", () => {
  const go = (x, y, key, ...more) => { const at = v.stepped({ x, y }, key, { columns: 30, rows: 7 }, ...more); return at && [at.x, at.y]; };
  assert.deepEqual([go(0, 0, "ArrowRight"), go(0, 0, "ArrowLeft"), go(5, 6, "ArrowDown")], [[1, 0], [0, 0], [5, 6]]);
  assert.deepEqual([go(5, 3, "End"), go(5, 3, "Home"), go(5, 3, "PageUp"), go(5, 3, "PageDown")], [[29, 3], [0, 3], [5, 0], [5, 6]]);
  assert.deepEqual([go(5, 3, "x"), go(5, 3, "toString")], [null, null], "other keys are left alone");
  assert.deepEqual(go(5, 3, "ArrowRight", [1, 1], [8, 1]), [13, 3], "steps as long as they must be to be seen");
});

test("cells that are counted are walked through row by row", () => {
  const step = (n, key) => { const at = v.stepped({ x: n % 4, y: Math.floor(n / 4) }, key, { columns: 4, rows: 3, count: 10 }); return at.y * 4 + at.x; };
  assert.deepEqual([step(0, "ArrowRight"), step(3, "ArrowRight"), step(9, "ArrowRight"), step(5, "ArrowUp"), step(1, "ArrowUp")], [1, 4, 9, 1, 1]);
  assert.deepEqual([step(5, "Home"), step(5, "End"), step(9, "End"), step(5, "PageUp"), step(1, "PageDown"), step(7, "ArrowDown")], [4, 7, 9, 1, 9, 9]);
});

test("what is seen of a band, and labels that keep their distance", () => {
  assert.deepEqual([v.seen(10, 20, 12, 5, 100), v.seen(10, 20, 0, 5, 100), v.seen(0, 5, 10, 5, 100)], [[0, 40], [50, 50], [0, 0]]);
  const view = { x: 12, y: 0, sx: 5, sy: 10 };
  assert.deepEqual(v.boxOf({ x: 10, y: 3 }, view, TILES, [16, 16]), [0, 30, 70, 160], "cut where the view begins");
  assert.equal(v.boxOf({ x: 10, y: 3 }, view, TILES, [1, 1]), null);
  assert.deepEqual(v.labelled(0, 100, 20, 1000).tokens, [0, 1, 2, 3, 4]);
  for (const scale of [0.01, 0.1, 0.7, 3, 11]) {
    const { every, tokens } = v.labelled(123.4, 500, scale, 32768);
    assert.ok(every * scale >= 13 && tokens.length <= 40, `${scale}: ${every}`);
    assert.ok(tokens.every((t) => t >= 123.4 && t % every === 0));
  }
});

test("a matrix is named with its share, a cell with its place in the matrix", () => {
  const cells = new Uint8Array(2 * 2 * 16);
  cells[(2 * 4 + 1) * 4 + 3] = 51;
  const frame = { names: ["a", "b"], tile: 4, kept: Float32Array.from([1, 0.25, 0.5, 0]), cells };
  assert.equal(keptText(4, 0, frame, true), "layer 1 a: 50.0 % kept");
  assert.equal(keptText(7, 1, frame, false), "layer 1 a, outputs 25 to 50 %, inputs 75 to 100 %: 20.0 % kept");
});
