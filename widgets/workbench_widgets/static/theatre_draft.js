// What was drafted in a step: the tree with p, q and u; and how often each position was accepted.

import { el } from "./dom.js";
import { percent, significant } from "./maths.js";
import { clipped, nodeText, short2 } from "./theatre_maths.js";
import { createNodes } from "./theatre_nodes.js";

const DRAFT_MARKS = { accept: "✓ ", reject: "✗ ", untried: "", residual: "↺ ", bonus: "+ " };
const DRAFT_KEY = [["accept", "✓ accepted"], ["reject", "✗ refused"], ["untried", "not looked at"], ["residual", "↺ drawn instead"], ["bonus", "+ after the whole draft"]];

function figuresLine(node) {
  return ["p", "q", "u"].filter((n) => Number.isFinite(node[n])).map((n) => `${n} ${short2(node[n])}`).join(" ");
}

/** The tree of the step. */
export function createDraft(play) {
  const all = Array.from(play.drafts.tried);
  const drawn = all.some((row) => row >= 0 && Number.isFinite(play.events.u[row]));
  const sampled = Array.from(play.drafts.row).some((row) => Number.isFinite(play.events.log_q[row]));
  const wide = 74 + (drawn ? 18 : 0) + (sampled ? 28 : 0);
  const letters = Math.floor((wide - 8) / 7);
  const nodes = createNodes({ name: "Draft of the step", wide, say: nodeText,
    lines: (n) => [`${DRAFT_MARKS[n.state]}${clipped(n.text, letters - 2)}`, figuresLine(n)] });
  const key = el("p", { class: "wb-th-key", "aria-hidden": "true" }, DRAFT_KEY.map(([state, text]) => el("span", { class: `wb-th-is-${state}`, text })));
  const nothing = el("p", { class: "wb-faint wb-th-none" });
  const element = el("div", null, key, nodes.element, nothing);

  function update(frame) {
    const drafted = play.draft(frame);
    const none = !drafted.length;
    nothing.hidden = !none;
    nodes.element.hidden = key.hidden = none;
    nothing.textContent = frame === 0 ? "The prompt: nothing is drafted yet." : noDraft(frame);
    if (none) return;
    const hits = drafted.filter((n) => n.state === "accept").length;
    const before = lastBefore(frame);
    const size = drafted.filter((n) => DRAFT_MARKS[n.state] !== "↺ " && DRAFT_MARKS[n.state] !== "+ ").length;
    nodes.update({ nodes: drafted, root: before, hint: `${hits} of ${size} drafted tokens accepted. Point at one, or walk with arrow keys.`,
      label: `Draft of step ${play.frames.label[frame]}: ${drafted.map((n) => nodeText({ ...n, top: [] })).join("; ")}` });
  }
  function noDraft(frame) {
    const declined = play.rows(frame, "decline")[0];
    const value = declined === undefined ? NaN : play.events.value[declined];
    return Number.isFinite(value) ? `Drafting was declined: it was expected to cost ${significant(value)} times its gain. A plain pass of one token.`
      : "Nothing was drafted in this step: a plain pass of one token.";
  }
  function lastBefore(frame) {
    for (let f = frame - 1; f >= 0; f--) {
      const changes = play.changesOf(f);
      if (changes.length) return play.piece(play.changes.token[changes[changes.length - 1]]);
    }
    return play.prompt[play.prompt.length - 1];
  }
  return { element, update };
}

/** Bars: accepted at each position of the draft, until now; a tick marks the end of the trace. */
export function createAcceptance(play) {
  const last = play.acceptance(play.count - 1);
  const rows = last.map((end, i) => {
    const [bar, value] = [el("span", { class: "wb-th-bar" }), el("span", { class: "wb-th-value" })];
    const tick = el("span", { class: "wb-th-mark", style: `left: ${(100 * end.hits) / Math.max(1, end.rounds)}%` });
    return { bar, value, element: el("li", null, el("span", { class: "wb-th-place", text: String(i + 1) }), el("span", { class: "wb-th-rail", "aria-hidden": "true" }, bar, tick), value) };
  });
  const list = el("ol", { class: "wb-th-bars", "aria-label": "Share of drafts accepted at each position" }, rows.map((r) => r.element));
  const note = el("p", { class: "wb-faint" });
  function update(frame) {
    const now = play.acceptance(frame);
    now.forEach(({ hits, rounds }, i) => {
      const share = rounds ? hits / rounds : 0;
      rows[i].bar.style.width = `${(100 * share).toFixed(1)}%`;
      rows[i].value.textContent = rounds ? `${percent(share, 0)} (${hits})` : "–";
    });
    const [rounds, hits] = [now[0]?.rounds ?? 0, now.reduce((sum, a) => sum + a.hits, 0)];
    note.textContent = rounds ? `${rounds} draft${rounds === 1 ? "" : "s"} so far, ${(1 + hits / rounds).toFixed(2)} tokens each with the target's own. Thin marks: at the end of the trace.` : "No draft yet.";
  }
  return { element: el("div", null, list, note), update };
}
