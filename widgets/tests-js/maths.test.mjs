import assert from "node:assert/strict";
import { test } from "node:test";
import * as m from "../workbench_widgets/static/maths.js";

test("cividis runs from dark blue to bright yellow, and its lightness never falls", () => {
  const table = m.cividis();
  assert.deepEqual([...table.slice(0, 3)], [0, 34, 78]);
  assert.deepEqual([...table.slice(-3)], [254, 232, 56]);
  const light = (i) => 0.2126 * table[3 * i] + 0.7152 * table[3 * i + 1] + 0.0722 * table[3 * i + 2];
  for (let i = 1; i < 256; i++) assert.ok(light(i) >= light(i - 1) - 0.5, `step ${i}`);
});

test("mosaic puts layers side by side and modules below each other", () => {
  const [layers, modules, tile] = [2, 3, 2];
  const cells = Uint8Array.from({ length: layers * modules * tile * tile }, (_, i) => i * 10);
  const colours = m.inks(Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3)));
  const pixels = m.mosaic(cells, layers, modules, tile, colours, new Uint32Array(cells.length));
  const at = (x, y) => pixels[y * layers * tile + x] & 255;
  for (let l = 0; l < layers; l++) for (let k = 0; k < modules; k++) for (let r = 0; r < tile; r++) for (let c = 0; c < tile; c++) {
    assert.equal(at(l * tile + c, k * tile + r), cells[((l * modules + k) * tile + r) * tile + c]);
  }
  assert.equal(pixels[3] >>> 24, 255, "opaque");
  assert.deepEqual([...new Uint8Array(m.inks(Uint8Array.from([1, 2, 3])).buffer)], [1, 2, 3, 255]);
});

test("means of modules run over the layers", () => {
  assert.deepEqual(m.moduleMeans(Float32Array.from([1, 0.25, 0.5, 0]), 2, 2), [0.75, 0.125]);
});

test("numbers are written short, and unknown ones as a dash", () => {
  assert.equal(m.percent(0.5), "50.0 %");
  assert.equal(m.compact(106203456), "106 M");
  assert.equal(m.compact(999), "999");
  assert.equal(m.compact(1234), "1.23 k");
  assert.equal(m.bytes(538060032), "538 MB");
  assert.equal(m.significant(25.43), "25.4");
  assert.equal(m.significant(131.2), "131");
  assert.equal(m.significant(0.012345), "0.0123");
  assert.equal(m.significant(12345678), "1.2e7");
  assert.equal(m.duration(4.21), "4.2 s");
  assert.equal(m.duration(65), "1 min 05 s");
  for (const f of [m.percent, m.compact, m.bytes, m.significant, m.duration]) assert.equal(f(NaN), "–");
});

test("ticks are round and inside", () => {
  assert.deepEqual(m.ticks(0, 4088, 3), [0, 2000, 4000]);
  assert.deepEqual(m.ticks(18.5, 46, 4), [20, 30, 40]);
  assert.deepEqual(m.ticks(10, 1000, 4, true), [10, 50, 200, 1000]);
  assert.deepEqual(m.ticks(5, 5), [5]);
});

test("scale maps ends to ends, also when logarithmic or flat", () => {
  const y = m.scale(10, 1000, 100, 0, true);
  assert.ok(Math.abs(y(100) - 50) < 1e-9);
  assert.equal(m.scale(0, 4, 10, 50)(2), 30);
  assert.equal(m.scale(3, 3, 0, 10)(3), 0);
});

test("the chart's domain goes logarithmic for far apart curves and ignores what is not finite", () => {
  const near = m.chartDomain([[[511, 25, null, null], [1022, 24, 20, 28]], [[511, 30, null, null]]]);
  assert.equal(near.log, false);
  assert.equal(near.tokens, 1022);
  assert.ok(near.low <= 20 && near.high >= 28);
  assert.equal(m.chartDomain([[[511, 20, null, null]], [[511, 5000, null, null]]]).log, true);
  assert.equal(m.chartDomain([[[511, NaN, null, null]]]), null);
  assert.equal(m.chartDomain([]), null);
  const wild = m.chartDomain([[[511, 20, null, null], [1022, 22, 0.1, 9000]]]);
  assert.ok(wild.high < 60 && wild.low > 5, "an interval of two windows does not flatten the curve");
});

test("paths", () => {
  assert.equal(m.linePath([[0, 1], [2, 3]]), "M0.0 1.0L2.0 3.0");
  assert.equal(m.bandPath([[0, 1], [2, 1]], [[0, 5], [2, 5]]), "M0.0 1.0L2.0 1.0L2.0 5.0L0.0 5.0Z");
  assert.equal(m.bandPath([], []), "");
});

test("labels are moved apart, in their order", () => {
  assert.deepEqual(m.separate(10, 50, 20), [10, 50]);
  assert.deepEqual(m.separate(10, 14, 20), [2, 22]);
  assert.deepEqual(m.separate(14, 10, 20), [22, 2]);
});

test("zeroed is not removed", () => {
  assert.deepEqual(m.shares(100, 100, 60), { kept: 0.6, zeroed: 0.4, removed: 0 });
  const structured = m.shares(100, 70, 70);
  assert.deepEqual([structured.kept, structured.removed], [0.7, 0.3]);
  assert.ok(structured.zeroed < 1e-12);
});
