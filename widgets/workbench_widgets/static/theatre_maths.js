// Pure functions of the theatre: clocks, layouts of trees, words for figures. Tested with `node --test`.

import { percent, significant } from "./maths.js";
import { upper } from "./theatre_data.js";

/** What an origin is called; `n` stands for a layer or a step. */
export const ORIGIN_NAMES = {
  plain: "plain step", accepted: "accepted from the draft", corrected: "corrected by the target", bonus: "bonus after a whole draft",
  constrained: "under a constraint", exited: "exited at layer n", unmasked: "unmasked at step n", searched: "found by search",
};

/** "exited at layer 7" of an origin and its number. */
export function originText(origin, number) {
  return ORIGIN_NAMES[origin].replace(/ n$/, number >= 0 ? ` ${number}` : "");
}

export const STATE_NAMES = { accept: "accepted", reject: "refused", untried: "not looked at", residual: "drawn instead", bonus: "drawn after the whole draft",
  alive: "alive", dropped: "dropped", chosen: "in the answer" };

/** A probability in as few signs as tell it: ".61", "1", "2e-5". */
export function short2(p) {
  if (!Number.isFinite(p)) return "–";
  if (p >= 0.995) return "1";
  if (p < 0.005) return p === 0 ? "0" : p.toExponential(0).replace("e-0", "e-");
  return p.toFixed(2).slice(1);
}

/** A token's text so that every sign can be seen. */
export function visible(text) {
  return text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replace(/^ /, "␣").replace(/ $/, "␣");
}

/** The same, cut to a length. */
export function clipped(text, length) {
  const shown = visible(text);
  return shown.length > length ? `${shown.slice(0, length - 1)}…` : shown;
}

const TICK = 0.05; // seconds between two positions of the clock

/**
 * Positions of the slider in a mode, and the frame of every trace at each: {length, frames(position), name}.
 * "step": share of the steps; "tokens": as many tokens; "clock": as many seconds.
 */
export function createClock(mode, plays) {
  if (mode === "tokens") {
    const most = Math.max(...plays.map((p) => p.frames.tokens[p.count - 1]));
    const first = plays.map((p) => Array.from({ length: most + 1 }, (_, n) => {
      for (let f = 0; f < p.count; f++) if (p.frames.tokens[f] >= n) return f;
      return p.count - 1;
    }));
    return { length: most + 1, rate: 8, frames: (n) => first.map((f) => f[n]) };
  }
  if (mode === "clock") {
    const end = Math.max(...plays.map((p) => p.frames.seconds[p.count - 1]));
    const length = Math.ceil(end / TICK - 1e-9) + 1;
    return { length, rate: 1 / TICK, frames: (n) => plays.map((p) => Math.max(0, upper(p.frames.seconds, Math.fround(n * TICK)) - 1)) };
  }
  const length = Math.max(...plays.map((p) => p.count));
  const at = (n, p) => (length === 1 ? 0 : Math.round((n / (length - 1)) * (p.count - 1)));
  return { length, rate: 4, frames: (n) => plays.map((p) => at(n, p)) };
}

/** The position of a clock at which the first trace shows a frame, as near as can be. */
export function positionOf(clock, frame) {
  let [low, high] = [0, clock.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (clock.frames(middle)[0] < frame) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Rows (leaf order) of a tree's nodes, which have `parent` and stand behind it; children in order. */
export function layoutTree(nodes) {
  const below = new Map();
  nodes.forEach((n, i) => { if (!below.has(n.parent)) below.set(n.parent, []); below.get(n.parent).push(i); });
  const y = new Array(nodes.length).fill(0);
  let next = 0;
  const stack = (below.get(-1) ?? []).slice().reverse().map((n) => [n, false]);
  while (stack.length) {
    const [n, left] = stack.pop();
    const children = below.get(n) ?? [];
    if (!children.length) { y[n] = next; next += 1; } else if (left) y[n] = (y[children[0]] + y[children[children.length - 1]]) / 2;
    else stack.push([n, true], ...children.slice().reverse().map((c) => [c, false]));
  }
  return { y, rows: Math.max(1, next) };
}

/** The node that an arrow key leads to: left parent, right first child, up and down along the column. */
export function walkTree(nodes, y, at, key) {
  if (!nodes.length) return null;
  const column = nodes.map((_, i) => i).filter((i) => nodes[i].depth === nodes[at]?.depth).sort((a, b) => y[a] - y[b]);
  const below = nodes.findIndex((n) => n.parent === at);
  const moves = { ArrowLeft: nodes[at]?.parent >= 0 ? nodes[at].parent : at, ArrowRight: below < 0 ? at : below, Home: 0, End: nodes.length - 1,
    ArrowUp: column[Math.max(0, column.indexOf(at) - 1)], ArrowDown: column[Math.min(column.length - 1, column.indexOf(at) + 1)] };
  if (!(key in moves)) return null;
  return nodes[at] ? moves[key] : 0;
}

/** What became of a drafted token, and why, in one line. */
export function nodeText(node) {
  const parts = ["p", "q", "u"].filter((n) => Number.isFinite(node[n])).map((n) => `${n} ${significant(node[n])}`);
  const why = () => {
    if (!Number.isFinite(node.u) || !Number.isFinite(node.p) || !["accept", "reject"].includes(node.state)) return "";
    const share = Number.isFinite(node.q) ? `p / q = ${significant(node.p / node.q)}` : `p = ${significant(node.p)}`;
    return node.state === "accept" ? `, since u is less than ${share}` : `, since u is not less than ${share}`;
  };
  const likely = node.top?.length ? `. Target's first: ${node.top.slice(0, 3).map((x) => `“${visible(x.text)}” ${short2(x.p)}`).join(", ")}` : "";
  return `“${visible(node.text)}” ${STATE_NAMES[node.state]}${parts.length ? ` (${parts.join(", ")})` : ""}${why()}${likely}`;
}

/** Tokens gained over tokens verified of all frames with a pass, counted: [{n, gained, count}, ...]. */
export function payoffs(play) {
  const found = new Map();
  for (let f = 0; f < play.count; f++) {
    const [n, gained] = [play.frames.verified[f], play.frames.gained[f]];
    if (n <= 0) continue;
    const key = `${n},${gained}`;
    if (!found.has(key)) found.set(key, { n, gained, count: 0 });
    found.get(key).count += 1;
  }
  return [...found.values()];
}

/** What a pass of n tokens costs, between and beyond the sizes that were measured. */
export function costAt(passes, n) {
  if (!passes.length) return NaN;
  const at = passes.findIndex(([m]) => m >= n);
  if (at === 0) return passes[0][1];
  if (at < 0) return passes[passes.length - 1][1];
  const [[a, va], [b, vb]] = [passes[at - 1], passes[at]];
  return va + ((vb - va) * (n - a)) / (b - a);
}

/** Tokens and seconds that came with the prompt, before the first pass that decodes; none where there is no such pass. */
export function beforeFirst(play) {
  const f = play.frames;
  return f.target[0] > 0 ? { tokens: 0, seconds: 0 } : { tokens: f.tokens[0], seconds: f.seconds[0] };
}

/** One line about a frame, for the readout and for screen readers. */
export function frameText(play, frame) {
  const f = play.frames;
  const gained = f.gained[frame];
  const many = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
  const rate = f.target[frame] > 0 ? `, ${significant((f.tokens[frame] - beforeFirst(play).tokens) / f.target[frame])} a pass` : "";
  return `step ${f.label[frame]} of ${f.label[play.count - 1]}: ${gained >= 0 ? "+" : "−"}${Math.abs(gained)}, ${many(f.tokens[frame], "token")}${rate}, ${f.seconds[frame].toFixed(2)} s`;
}

/** The part of a search around a frame: survivors of the last `width` steps, and all that was born in the frame itself. */
export function searchWindow(play, frame, width = 9) {
  const s = play.search;
  const from = frame - width + 1;
  const kept = [];
  const needed = new Set();
  const recently = frame - 2; // of what was dropped earlier only the branches that led on are shown
  for (let n = upper(s.frame, frame) - 1; n >= 0 && s.frame[n] >= from; n--) {
    const state = s.chosen[n] && frame >= play.count - 1 ? "chosen" : s.gone[n] <= frame ? "dropped" : "alive";
    const newest = s.frame[n] === frame;
    const outlived = s.gone[n] > s.frame[n] && s.gone[n] > recently;
    if (newest || outlived || needed.has(n)) { kept.push({ n, state }); needed.add(s.parent[n]); }
  }
  kept.reverse();
  const place = new Map(kept.map((k, i) => [k.n, i]));
  const first = kept.length ? Math.min(...kept.map((k) => s.frame[k.n])) : 0;
  const nodes = kept.map(({ n, state }) => ({ id: n, text: play.piece(play.events.token[s.row[n]]) || "copy", parent: place.get(s.parent[n]) ?? -1,
    depth: s.frame[n] - first, state, score: s.score[n], branch: play.events.branch[s.row[n]], best: play.search.leader[frame] === n,
    p: play.figures(s.row[n]).p, cut: s.parent[n] >= 0 && !place.has(s.parent[n]) }));
  return { nodes, first };
}

/** One line about a hypothesis. */
export function hypothesisText(node) {
  const parts = [Number.isFinite(node.score) ? `score ${significant(node.score)}` : "", node.branch >= 0 ? `branch ${node.branch}` : "",
    Number.isFinite(node.p) ? `p ${significant(node.p)}` : ""].filter(Boolean);
  return `“${visible(node.text)}” ${STATE_NAMES[node.state]}${node.best ? ", the best so far" : ""}${parts.length ? ` (${parts.join(", ")})` : ""}`;
}

/** Shares of a whole as text: "target 72 % (0.142 s)". */
export function spentText(parts) {
  const total = parts.reduce((sum, p) => sum + p.seconds, 0);
  return parts.filter((p) => p.seconds > 0).map((p) => `${p.name} ${percent(p.seconds / total, 0)} (${significant(p.seconds)} s)`).join(", ");
}
