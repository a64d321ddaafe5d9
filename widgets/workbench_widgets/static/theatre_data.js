// A trace as the front end holds it: typed arrays over one buffer, and what is read from them. No DOM.

import { unpack } from "./link.js";

/** Index of the first element greater than the value in an ascending array, from `low` to `high`. */
export function upper(array, value, low = 0, high = array.length) {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (array[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Everything that views ask of one trace. */
export function createPlay(header, buffer) {
  const t = unpack(header.arrays, buffer);
  const count = t.frames.label.length;
  const piece = (token) => (token < 0 ? "" : header.pieces[token] ?? `<${token}>`);
  const kindOf = (row) => header.kinds[t.events.kind[row]];
  const origin = (change) => header.origins[t.changes.origin[change]];
  const chance = (logarithm) => Math.exp(logarithm);

  /** Changes by place, ascending: [[place, [change, ...]], ...]. */
  const places = new Map();
  t.changes.place.forEach((place, n) => { if (!places.has(place)) places.set(place, []); places.get(place).push(n); });
  const order = [...places.keys()].sort((a, b) => a - b);

  /** The most likely tokens of a row of the tables: [{token, p}, ...]. */
  function top(row) {
    const found = [];
    for (let i = row * header.tops; row >= 0 && i < (row + 1) * header.tops; i++) {
      if (t.top_token[i] >= 0) found.push({ token: t.top_token[i], text: piece(t.top_token[i]), p: chance(t.top_log_p[i]) });
    }
    return found;
  }

  /** Figures of an event, NaN where there is none. */
  function figures(row) {
    const e = t.events;
    if (row < 0) return { p: NaN, q: NaN, u: NaN, entropy: NaN, value: NaN };
    return { p: chance(e.log_p[row]), q: chance(e.log_q[row]), u: e.u[row], entropy: e.entropy[row], value: e.value[row] };
  }

  /** All about a token of the text: the event that placed it and the one behind it, joined. */
  function told(change) {
    const [mine, behind] = [figures(t.changes.row[change]), figures(t.changes.behind[change])];
    const first = (name) => (Number.isFinite(mine[name]) ? mine[name] : behind[name]);
    return { text: piece(t.changes.token[change]), token: t.changes.token[change], place: t.changes.place[change], frame: t.changes.frame[change],
      step: t.frames.label[t.changes.frame[change]], origin: origin(change), number: t.changes.number[change],
      p: first("p"), q: first("q"), u: first("u"), entropy: first("entropy"), top: top(t.changes.detail[change]) };
  }

  /** The same of the newest token of the best hypothesis, null without one. */
  function guessed(frame) {
    const node = t.search.leader[frame] ?? -1;
    if (node < 0) return null;
    const row = t.search.row[node];
    return { text: piece(t.events.token[row]), token: t.events.token[row], place: t.events.position[row], frame, step: t.frames.label[t.search.frame[node]], origin: "searched",
      number: -1, ...figures(row), top: top(t.events.top[row]) };
  }

  /** The draft of a frame: nodes with parent, depth, state and figures; the target's own token last. */
  function draft(frame) {
    const d = t.drafts;
    const nodes = [];
    for (let n = d.first[frame]; n < d.first[frame + 1]; n++) {
      const [row, tried] = [d.row[n], d.tried[n]];
      const [own, judged] = [figures(row), figures(tried)];
      nodes.push({ text: piece(t.events.token[row]), parent: d.parent[n], depth: d.depth[n], state: tried < 0 ? "untried" : kindOf(tried),
        p: judged.p, q: Number.isFinite(judged.q) ? judged.q : own.q, u: judged.u, top: top(tried < 0 ? -1 : t.events.top[tried]) });
    }
    const last = d.last[frame];
    if (last >= 0) {
      const above = d.last_parent[frame];
      const change = changesOf(frame).find((c) => t.changes.behind[c] === last);
      const more = change === undefined ? figures(last) : told(change);
      nodes.push({ text: piece(t.events.token[last]), parent: above, depth: above < 0 ? 0 : nodes[above].depth + 1, state: kindOf(last),
        p: more.p, q: NaN, u: t.events.u[last], top: more.top ?? [] });
    }
    return nodes;
  }

  /** Changes of the text in a frame. */
  function changesOf(frame) {
    const from = upper(t.changes.frame, frame - 1);
    const to = upper(t.changes.frame, frame, from);
    return Array.from({ length: to - from }, (_, i) => from + i);
  }

  /** The change that a place shows after a frame, -1 for none yet. */
  function standing(place, frame) {
    const mine = places.get(place);
    let found = -1;
    for (const n of mine) { if (t.changes.frame[n] > frame) break; found = n; }
    return found;
  }

  /** The last change until a frame that put a token, -1 before the first. */
  function newest(frame) {
    let n = upper(t.changes.frame, frame) - 1;
    while (n >= 0 && (t.changes.token[n] < 0 || standing(t.changes.place[n], frame) !== n)) n -= 1;
    return n;
  }

  /** Rows of the events of a frame, all or of one kind. */
  function rows(frame, kind) {
    const found = [];
    for (let r = t.frames.first[frame]; r < t.frames.first[frame + 1]; r++) if (!kind || kindOf(r) === kind) found.push(r);
    return found;
  }

  /** Shares accepted by position until a frame: [{hits, rounds}, ...]. */
  function acceptance(frame) {
    const d = header.depths;
    return Array.from({ length: d }, (_, i) => ({ hits: t.drafts.accepted[frame * d + i], rounds: t.drafts.rounds[frame] }));
  }

  /** Hypotheses from the first to the one given. */
  function path(node) {
    const found = [];
    for (let n = node; n >= 0; n = t.search.parent[n]) found.push(n);
    return found.reverse();
  }

  const spent = (frame) => header.spent.map((name, i) => ({ name, seconds: t.spent[frame * header.spent.length + i] }));
  const has = (panel) => header.panels.includes(panel);
  return { ...header, ...t, count, piece, kindOf, origin, order, places, top, figures, told, guessed, draft, changesOf, standing, newest, rows, acceptance, path, spentOn: spent, has };
}
