import assert from "node:assert/strict";
import { test } from "node:test";
import { isFixed } from "../workbench_widgets/static/kernel_lab_choose.js";
import * as m from "../workbench_widgets/static/kernel_lab_maths.js";
import { markPath } from "../workbench_widgets/static/kernel_lab_roof.js";

const row = (name, more) => ({ name, format: name, values: "fp32", computes: "fp32", tokens: 1, ms: 1, ratio: 1, low: 1, high: 1,
  intensity: 1, gflops: 10, roofline: 0.5, ...more });
const ROOF = { fp32: 100, bf16: 200, int8: 400, dram: 20, cache_l3: 40, cache_l2: 80 };

test("formats keep their colour, dense kernels are grey, the second round is hollow", () => {
  const formats = ["bitmap", "2:4", "16x1", "4x1", "bsr16", "bsr32", "csr", "csr-panels"];
  assert.deepEqual(m.styleOf("16x1", "int8", formats), { colour: "2", hollow: false, mark: "triangle" });
  assert.deepEqual(m.styleOf("csr-panels", "bf16", formats), { colour: "0", hollow: true, mark: "square" });
  assert.deepEqual(m.styleOf("dense", "fp32", formats), { colour: "dense", hollow: false, mark: "circle" });
  assert.deepEqual(m.styleOf("torch-csr", "fp32", formats), { colour: "torch", hollow: true, mark: "circle" });
});

test("rows of one number of tokens, the fastest first", () => {
  const rows = [row("a", { ratio: 2 }), row("b", { ratio: 3 }), row("c", { tokens: 4 })];
  assert.deepEqual(m.rowsAt(rows, 1).map((r) => r.name), ["b", "a"]);
  assert.equal(rows[0].name, "a", "what came in stays as it was");
});

test("one noisy interval does not flatten the bars, and break-even is always inside", () => {
  assert.ok(Math.abs(m.barEnd([2, 4], [2.5, 5]) - 5.1) < 1e-9);
  assert.ok(m.barEnd([2, 4], [2.5, 500]) < 6);
  assert.ok(m.barEnd([0.2, 0.4], [NaN, 0.5]) >= 1);
});

test("a kernel is said in one line; what is unknown is left out", () => {
  assert.equal(m.kernelText(row("16x1", { ratio: 10.31, low: 6.752, high: 13.58, ms: 0.01557, gflops: 22.73, roofline: 0.4, tokens: 16 })),
    "16x1, 16 tokens: 10.3× torch fp32 [6.75, 13.6], 0.0156 ms, 22.7 GFLOP/s, 40 % of what the machine allows");
  assert.ok(!m.kernelText(row("a", { roofline: null })).includes("allows"));
  assert.equal(m.intervalText({ low: null, high: 2 }), "");
});

test("keys walk over kernels and stop at the ends", () => {
  const names = ["a", "b", "c"];
  assert.equal(m.nextName(names, "a", "ArrowDown"), "b");
  assert.equal(m.nextName(names, "a", "ArrowUp"), "a");
  assert.equal(m.nextName(names, "c", "ArrowRight"), "c");
  assert.equal(m.nextName(names, "gone", "ArrowDown"), "a");
  assert.equal(m.nextName(names, "a", "End"), "c");
  assert.equal(m.nextName(names, "a", "x"), null);
  assert.equal(m.nextName([], "a", "End"), null);
});

test("the roofline holds every point and peak, and only the peaks that are used", () => {
  const rows = [row("a", { intensity: 0.5, gflops: 8 }), row("b", { intensity: 30, gflops: 150, computes: "bf16" }), row("c", { gflops: 0 })];
  assert.deepEqual(m.peaksOf(rows, ROOF).map((p) => p.name), ["fp32", "bf16"]);
  assert.deepEqual(m.peaksOf(rows, {}), []);
  const domain = m.roofDomain(rows, ROOF);
  assert.ok(domain.x0 < 0.5 && domain.x1 > 30 && domain.y0 < 8 && domain.y1 > 200);
  assert.equal(m.roofDomain([], ROOF), null);
  assert.equal(m.roofDomain(rows, {}), null);
  for (const line of m.slopesOf(rows, ROOF, domain)) {
    assert.ok(line.from * line.speed >= domain.y0 * 0.999 && line.to * line.speed <= 200.001, line.name);
  }
});

test("labels overlap nothing; those without room are left out", () => {
  const edges = { left: 0, right: 200, top: 0, bottom: 100 };
  const [a, b] = m.placeLabels([{ x: 50, y: 50, text: "first" }, { x: 62, y: 50, text: "second" }], edges);
  assert.deepEqual(a, { x: 50 - 8 - 5 * 5.7, y: 50 }, "its right is taken by the other point");
  assert.equal(b.y, 50);
  const crowd = Array.from({ length: 30 }, () => ({ x: 100, y: 50, text: "crowded" }));
  const placed = m.placeLabels(crowd, edges).filter(Boolean);
  assert.ok(placed.length > 1 && placed.length < 9);
  assert.deepEqual(m.placeLabels([{ x: 50, y: 50, text: "x" }], edges, [{ x0: 0, x1: 200, y0: 0, y1: 100 }]), [null]);
});

test("break-even in words, and its line inside the chart", () => {
  assert.equal(m.balanceText(0), "always");
  assert.equal(m.balanceText(0.589), "from 59 %");
  assert.equal(m.balanceText(null), "never");
  const points = m.fitPoints({ fixed: 0.5, slope: 3 }, 2);
  assert.ok(points.every(([s, time]) => time <= 2 && Math.abs(time - (0.5 + 3 * (1 - s))) < 1e-12));
  assert.equal(points.at(-1)[0], 1);
  assert.ok(points[0][0] > 0.4);
});

test("ticks are short", () => {
  assert.deepEqual([0, 0.5, 2.5, 100, 1000, 12000].map(m.short), ["0", "0.5", "2.5", "100", "1000", "12000"]);
});

test("layers are grouped, the head stands apart", () => {
  assert.deepEqual(m.layerGroups(["layers.0.mlp.up_proj", "layers.0.self_attn.q_proj", "layers.10.mlp.up_proj", "head"]), [
    { group: "layer 0", options: [["layers.0.mlp.up_proj", "0: mlp.up_proj"], ["layers.0.self_attn.q_proj", "0: self_attn.q_proj"]] },
    { group: "layer 10", options: [["layers.10.mlp.up_proj", "10: mlp.up_proj"]] }, { group: "other", options: [["head", "head"]] }]);
});

test("ticking keeps the order of all there are", () => {
  assert.deepEqual(m.toggled([16, 1], 4, [1, 4, 16]), [1, 4, 16]);
  assert.deepEqual(m.toggled([1, 4], 4, [1, 4, 16]), [1]);
});

test("N:M fixes the sparsity, blocks do not", () => {
  assert.ok(isFixed("2:4") && isFixed("1:16"));
  assert.ok(!isFixed("16x1") && !isFixed("bsr16") && !isFixed(""));
});

test("marks are closed paths around their point", () => {
  for (const kind of ["circle", "square", "triangle"]) {
    const path = markPath(kind, 10, 20, 4);
    assert.ok(path.startsWith("M") && path.endsWith("Z") && !path.includes("NaN"), kind);
  }
});
