import assert from "node:assert/strict";
import { test } from "node:test";
import { inWords, stepOf } from "../workbench_widgets/static/predict.js";

test("a guess in words", () => {
  assert.equal(inWords(null, "x"), "none");
  assert.equal(inWords(2.5, "x"), "2.5 x");
  assert.equal(inWords(12000, ""), "12,000");
  assert.equal(inWords("slower", "x"), "slower");
});

test("a scale has 20 to 100 places, of sizes that people count in", () => {
  for (const [low, high] of [[0, 1], [1, 64], [10, 500], [0, 100], [-3, 4], [0, 1e6]]) {
    const step = stepOf(low, high);
    const places = (high - low) / step;
    assert.ok(places > 19.9 && places < 100.2, `${low} to ${high}: ${places}`);
    assert.ok([1, 2, 5].includes(Number(step.toExponential()[0])), String(step));
  }
});
