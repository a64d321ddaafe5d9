import assert from "node:assert/strict";
import { test } from "node:test";
import { countText } from "../workbench_widgets/static/attend_panel.js";
import { adapt, methodGroups, unitOptions } from "../workbench_widgets/static/choose.js";
import { apart } from "../workbench_widgets/static/scatter.js";
import { createModel, decode } from "../workbench_widgets/static/host.js";
import { fixedBy } from "../workbench_widgets/static/see.js";
import { bytesOf, latestWins } from "../workbench_widgets/static/link.js";

test("the menu keeps families together in their order", () => {
  const groups = methodGroups([
    { family: "A", name: "x", title: "X" }, { family: "B", name: "y", title: "Y" }, { family: "A", name: "z", title: "Z" }]);
  assert.deepEqual(groups, [{ group: "A", options: [["x", "X"], ["z", "Z"]] }, { group: "B", options: [["y", "Y"]] }]);
});

test("a new method keeps what it can do and drops the rest", () => {
  const choice = { method: "a", units: null, pattern: "2:4", allocation: "owl", repair: "bias", propagate: false };
  const weights = { name: "b", units: ["weight"], patterns: ["2:4"] };
  const neurons = { name: "c", units: ["neuron", "kv_group"], patterns: [] };
  assert.deepEqual(adapt(choice, weights), { method: "b", units: null, pattern: "2:4", allocation: null, repair: null, propagate: false });
  assert.equal(adapt(choice, neurons).pattern, null);
});

test("units: all together first", () => {
  assert.deepEqual(unitOptions(["weight"]), [[null, "single weights"]]);
  assert.equal(unitOptions(["neuron", "kv_group"]).length, 3);
  assert.deepEqual(unitOptions(["neuron", "kv_group"])[0], [null, "MLP neurons and heads"]);
});

test("an N:M pattern fixes the sparsity", () => {
  assert.equal(fixedBy("2:4"), 0.5);
  assert.equal(fixedBy("1:4"), 0.75);
  assert.equal(fixedBy("16x1"), null);
  assert.equal(fixedBy(null), null);
});

test("latest wins: one request at a time, and of those that waited only the last", () => {
  let clock = 0;
  const sent = [];
  const requests = latestWins((value, id) => sent.push([value, id]), () => clock);
  requests.ask(0.1);
  clock = 5; requests.ask(0.2);
  clock = 7; requests.ask(0.3);
  assert.deepEqual(sent, [[0.1, 1]]);
  clock = 20;
  assert.equal(requests.settle(1), 20);
  assert.deepEqual(sent, [[0.1, 1], [0.3, 2]], "0.2 was overtaken");
  clock = 30;
  assert.equal(requests.settle(1), null, "an old answer is not taken for the new one");
  assert.equal(requests.settle(2), 23, "counted from the moment it was asked for");
  assert.equal(requests.settle(2), null);
  requests.ask(0.4); requests.ask(0.5); requests.reset();
  requests.ask(0.6);
  assert.equal(sent.at(-1)[0], 0.6);
});

test("circles make room for each other, and stay where there is room", () => {
  const box = { left: 10, right: 300, top: 10, bottom: 200 };
  const given = [[100, 100], [100, 100], [104, 98], [290, 15], [295, 12]];
  const placed = apart([...given, [200, 150]], 23, box);
  placed.forEach(([x, y], i) => {
    assert.ok(x >= 10 && x <= 300 && y >= 10 && y <= 200);
    for (const [u, v] of placed.slice(i + 1)) assert.ok(Math.hypot(x - u, y - v) > 22.9);
  });
  assert.deepEqual(placed.at(-1), [200, 150]);
});

test("a text is counted, and what is left out is said", () => {
  assert.equal(countText({ tokens: 123, most: 8192 }), "123 of at most 8192 tokens");
  assert.equal(countText({ tokens: 14400, most: 2048 }), "14.4 k tokens: the model takes 2048, so only the first 2048 are read");
  assert.equal(countText({}), "");
});

test("bytes come out whatever they come in", () => {
  const view = new DataView(Uint8Array.from([9, 0, 0, 128, 63]).buffer, 1);
  assert.deepEqual([...bytesOf(view, Float32Array)], [1]);
  assert.deepEqual([...bytesOf(Uint8Array.from([1, 2]).buffer, Uint8Array)], [1, 2]);
  assert.equal(bytesOf(null, Uint8Array).length, 0);
});

test("the host's model keeps traits, listeners and what would be sent", () => {
  const model = createModel({ a: 1, bytes: { __b64__: "AQI=" } });
  assert.equal(decode({ __b64__: "AQI=" }).byteLength, 2);
  let heard = 0;
  const f = () => { heard += 1; };
  model.on("change:a", f);
  model.set("a", 2);
  model.save_changes();
  model.receive({ a: 3 });
  assert.deepEqual([heard, model.get("a"), model.saved], [2, 3, [{ a: 2 }]]);
  model.off("change:a", f);
  assert.equal(model.count(), 0);
});
