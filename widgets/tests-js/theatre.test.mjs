import assert from "node:assert/strict";
import { test } from "node:test";
import { unpack } from "../workbench_widgets/static/link.js";
import { createPlay, upper } from "../workbench_widgets/static/theatre_data.js";
import { exitCells, unmaskCells } from "../workbench_widgets/static/theatre_maps.js";
import * as m from "../workbench_widgets/static/theatre_maths.js";

const KINDS = ["prefill", "draft", "verify", "accept", "reject", "residual", "bonus", "emit", "exit", "unmask", "remask", "expand", "prune", "constrain"];
const ORIGINS = ["plain", "accepted", "corrected", "bonus", "constrained", "exited", "unmasked", "searched"];
const TYPES = { u1: Uint8Array, i4: Int32Array, f4: Float32Array };

/** A play out of plain lists, through the same bytes as a real one. */
function made(tables, more = {}) {
  const [places, parts] = [{}, []];
  let at = 0;
  for (const [table, columns] of Object.entries(tables)) {
    for (const [name, [type, list]] of Object.entries(columns)) {
      const bytes = new Uint8Array(TYPES[type].from(list).buffer);
      places[name ? `${table}.${name}` : table] = [type, at, list.length];
      const padded = new Uint8Array(Math.ceil(bytes.length / 8) * 8);
      padded.set(bytes);
      parts.push(padded);
      at += padded.length;
    }
  }
  const all = new Uint8Array(at);
  let to = 0;
  for (const part of parts) { all.set(part, to); to += part.length; }
  return createPlay({ arrays: places, kinds: KINDS, origins: ORIGINS, spent: ["prompt", "target"], panels: ["text", "cost"], passes: [], layers: 0, depths: 2, tops: 2,
    prompt: ["Say"], pieces: { 1: " a", 2: " b", 3: " c", 4: "\n" }, method: "made", measured: false, ...more }, all.buffer);
}

const N = NaN;
const L = Math.log;

/** Frame 0: prompt and " a"; frame 1: drafts " b" (accepted) and " c" (refused), " a" instead. */
function speculative() {
  return made({
    events: { kind: ["u1", [0, 7, 1, 1, 2, 3, 4, 7, 5, 7]], token: ["i4", [-1, 1, 2, 3, -1, 2, 3, 2, 1, 1]], position: ["i4", [0, 1, 2, 3, 2, 2, 3, 2, 3, 3]],
      branch: ["i4", Array(10).fill(-1)], layer: ["i4", Array(10).fill(-1)], top: ["i4", [-1, 0, -1, -1, -1, -1, -1, -1, -1, -1]],
      log_p: ["f4", [N, L(0.5), N, N, N, L(0.6), L(0.1), N, N, L(0.3)]], log_q: ["f4", [N, N, L(0.4), L(0.8), N, N, N, N, N, N]],
      u: ["f4", [N, N, N, N, N, 0.2, 0.9, N, 0.7, N]], entropy: ["f4", Array(10).fill(N)], value: ["f4", [1, N, N, N, 3, N, N, N, N, N]] },
    frames: { first: ["i4", [0, 2, 10]], label: ["i4", [0, 1]], tokens: ["i4", [1, 3]], target: ["i4", [0, 1]], draft: ["i4", [0, 0]], seconds: ["f4", [0.1, 0.2]],
      verified: ["i4", [0, 3]], gained: ["i4", [1, 2]] },
    changes: { frame: ["i4", [0, 1, 1]], place: ["i4", [1, 2, 3]], row: ["i4", [1, 7, 9]], behind: ["i4", [-1, 5, 8]], token: ["i4", [1, 2, 1]], origin: ["i4", [0, 1, 2]],
      number: ["i4", [-1, -1, -1]], detail: ["i4", [0, -1, -1]] },
    drafts: { first: ["i4", [0, 0, 2]], row: ["i4", [2, 3]], parent: ["i4", [-1, 0]], tried: ["i4", [5, 6]], depth: ["i4", [0, 1]], last: ["i4", [-1, 8]], last_parent: ["i4", [-1, 0]],
      rounds: ["i4", [0, 1]], accepted: ["i4", [0, 0, 1, 0]] },
    search: { row: ["i4", []], parent: ["i4", []], frame: ["i4", []], gone: ["i4", []], score: ["f4", []], chosen: ["u1", []], depth: ["i4", []], leader: ["i4", [-1, -1]] },
    spent: { "": ["f4", [0.1, 0, 0.1, 0.1]] }, top_token: { "": ["i4", [1, 2]] }, top_log_p: { "": ["f4", [L(0.5), L(0.25)]] },
  });
}

test("arrays lie where the header says", () => {
  const buffer = new Uint8Array([1, 2, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0]).buffer;
  assert.deepEqual(unpack({ "a.b": ["u1", 0, 2], c: ["i4", 8, 1] }, buffer), { a: { b: new Uint8Array([1, 2]) }, c: new Int32Array([7]) });
  assert.deepEqual([0, 1, 2, 9].map((v) => upper([1, 1, 3], v)), [0, 2, 2, 3]);
});

test("a draft is read with p, q and u, and the target's own token hangs behind what was accepted", () => {
  const nodes = speculative().draft(1);
  assert.deepEqual(nodes.map((n) => [n.text, n.parent, n.depth, n.state]), [[" b", -1, 0, "accept"], [" c", 0, 1, "reject"], [" a", 0, 1, "residual"]]);
  assert.ok(Math.abs(nodes[0].p - 0.6) < 1e-6 && Math.abs(nodes[0].q - 0.4) < 1e-6 && Math.abs(nodes[0].u - 0.2) < 1e-6);
  assert.ok(Math.abs(nodes[2].p - 0.3) < 1e-6, "its p comes from the emitted token");
  assert.deepEqual(speculative().draft(0), []);
});

test("a node is said with the rule that decided", () => {
  const [yes, no] = speculative().draft(1);
  assert.equal(m.nodeText(yes), "“␣b” accepted (p 0.600, q 0.400, u 0.200), since u is less than p / q = 1.50");
  assert.match(m.nodeText(no), /refused .* since u is not less than p \/ q = 0.125/);
  assert.equal(m.nodeText({ text: "x", state: "untried", p: N, q: N, u: N }), "“x” not looked at");
});

test("the text after a frame, what is newest, and what is told of a token", () => {
  const play = speculative();
  assert.deepEqual([play.standing(2, 0), play.standing(2, 1)], [-1, 1]);
  assert.deepEqual([play.newest(0), play.newest(1)], [0, 2]);
  assert.deepEqual(play.changesOf(1), [1, 2]);
  const told = play.told(2);
  assert.deepEqual([told.text, told.origin, told.step], [" a", "corrected", 1]);
  assert.ok(Math.abs(told.u - 0.7) < 1e-6, "u belongs to the event behind");
  assert.deepEqual(play.told(0).top.map((t) => t.text), [" a", " b"]);
  assert.deepEqual(play.acceptance(1), [{ hits: 1, rounds: 1 }, { hits: 0, rounds: 1 }]);
  assert.equal(m.frameText(play, 1), "step 1 of 1: +2, 3 tokens, 2.00 a pass, 0.20 s");
  play.frames.target.fill(1);
  assert.deepEqual(m.beforeFirst(play), { tokens: 0, seconds: 0 }, "without a pass for the prompt all tokens were decoded");
});

test("three clocks: steps, tokens, seconds", () => {
  const slow = { count: 4, frames: { tokens: [1, 2, 3, 4], seconds: Float32Array.of(0.1, 0.2, 0.3, 0.4) } };
  const fast = { count: 2, frames: { tokens: [1, 4], seconds: Float32Array.of(0.1, 0.2) } };
  const at = (mode) => { const c = m.createClock(mode, [slow, fast]); return Array.from({ length: c.length }, (_, n) => c.frames(n)); };
  assert.deepEqual(at("step"), [[0, 0], [1, 0], [2, 1], [3, 1]]);
  assert.deepEqual(at("tokens"), [[0, 0], [0, 0], [1, 1], [2, 1], [3, 1]]);
  const seconds = at("clock");
  assert.deepEqual([seconds[0], seconds[4], seconds[seconds.length - 1]], [[0, 0], [1, 1], [3, 1]]);
  assert.equal(m.positionOf(m.createClock("tokens", [slow, fast]), 2), 3);
});

test("leaves of a tree stand in order, parents in the middle of their children", () => {
  const nodes = [{ parent: -1, depth: 0 }, { parent: -1, depth: 0 }, { parent: 0, depth: 1 }, { parent: 0, depth: 1 }];
  assert.deepEqual(m.layoutTree(nodes), { y: [0.5, 2, 0, 1], rows: 3 });
  assert.deepEqual(m.layoutTree([]), { y: [], rows: 1 });
  const { y } = m.layoutTree(nodes);
  const walk = (at, key) => m.walkTree(nodes, y, at, key);
  assert.deepEqual([walk(0, "ArrowRight"), walk(2, "ArrowLeft"), walk(2, "ArrowDown"), walk(1, "ArrowRight"), walk(0, "End"), walk(-1, "ArrowRight"), walk(0, "x")], [2, 0, 3, 1, 3, 0, null]);
});

test("break-even is read between measured sizes; gains are counted", () => {
  const passes = [[1, 1], [8, 1.2], [16, 2]];
  assert.deepEqual([1, 8, 12, 99].map((n) => m.costAt(passes, n)), [1, 1.2, 1.6, 2]);
  assert.ok(Number.isNaN(m.costAt([], 3)));
  assert.deepEqual(m.payoffs(speculative()), [{ n: 3, gained: 2, count: 1 }]);
});

test("a search shows what lives on, and what was dropped lately", () => {
  const search = { row: [0, 1, 2, 3, 4], parent: [-1, -1, 0, 0, 2], frame: [0, 0, 1, 1, 4], gone: [9, 1, 9, 1, 9], score: [-1, -2, -1.5, -3, -2], chosen: [1, 0, 1, 0, 1], leader: [0, 2, 2, 2, 4] };
  const play = { count: 5, search, events: { token: [0, 1, 2, 3, 4], branch: [-1, -1, -1, -1, -1] }, piece: String, figures: () => ({ p: N }) };
  const at = (frame) => m.searchWindow(play, frame).nodes.map((n) => [n.id, n.state, n.parent]);
  assert.deepEqual(at(1), [[0, "alive", -1], [1, "dropped", -1], [2, "alive", 0], [3, "dropped", 0]]);
  assert.deepEqual(at(4), [[0, "chosen", -1], [2, "chosen", 0], [4, "chosen", 1]], "what was dropped long ago is out of sight");
  assert.match(m.hypothesisText(m.searchWindow(play, 1).nodes[2]), /alive, the best so far \(score -1.50\)/);
});

test("maps: exits by layer from the top, unmasking by step, what is masked again", () => {
  const exits = exitCells({ events: { kind: [0, 0, 0], position: [5, 5, 6], layer: [1, 2, 0], value: [0.2, 0.9, 1] }, kindOf: () => "exit", layers: 3 });
  assert.deepEqual(exits.cells.map((c) => [c.x, c.y, c.out]), [[0, 1, false], [0, 0, true], [1, 2, true]]);
  const kinds = ["unmask", "remask", "unmask"];
  const unmask = unmaskCells({ events: { kind: [0, 0, 0], position: [7, 7, 8], value: [0.5, N, 1] }, kindOf: (r) => kinds[r], frames: { first: [0, 1, 2, 3] } });
  assert.deepEqual(unmask.cells.map((c) => [c.x, c.y, c.back]), [[0, 0, false], [0, 1, true], [1, 2, false]]);
});

test("signs that one cannot see are seen; figures are short", () => {
  assert.equal(m.visible(" a\n"), "␣a⏎");
  assert.equal(m.clipped("abcdefgh", 5), "abcd…");
  assert.deepEqual([1, 0.614, 0.00002, 0, N].map(m.short2), ["1", ".61", "2e-5", "0", "–"]);
  assert.equal(m.originText("exited", 7), "exited at layer 7");
  assert.equal(m.originText("plain", -1), "plain step");
  assert.equal(m.spentText([{ name: "target", seconds: 0.3 }, { name: "drafting", seconds: 0.1 }, { name: "prompt", seconds: 0 }]), "target 75 % (0.300 s), drafting 25 % (0.100 s)");
});
