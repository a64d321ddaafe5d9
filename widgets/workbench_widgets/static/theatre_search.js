// A search: hypotheses of the last steps and those dropped in this one; and what a constraint said of each draw.

import { el, put } from "./dom.js";
import { significant } from "./maths.js";
import { clipped, hypothesisText, searchWindow, short2, visible } from "./theatre_maths.js";
import { createNodes } from "./theatre_nodes.js";

const WIDE = 84;
const SEARCH_KEY = [["alive", "alive"], ["dropped", "✗ dropped"], ["chosen", "✓ in the answer"]];

/** The tree of hypotheses around a step. */
export function createSearch(play) {
  const marks = { alive: "", dropped: "✗ ", chosen: "✓ " };
  const nodes = createNodes({ name: "Hypotheses", wide: WIDE, say: hypothesisText,
    lines: (n) => [`${marks[n.state]}${clipped(n.text, 10)}`, Number.isFinite(n.score) ? significant(n.score) : n.branch >= 0 ? `branch ${n.branch}` : ""] });
  const key = el("p", { class: "wb-th-key", "aria-hidden": "true" }, SEARCH_KEY.map(([state, text]) => el("span", { class: `wb-th-is-${state}`, text })), el("span", { class: "wb-th-best", text: "thick: best so far" }));
  const nothing = el("p", { class: "wb-faint", text: "No hypothesis yet." });
  const element = el("div", null, key, nodes.element, nothing);
  function update(frame) {
    const found = searchWindow(play, frame);
    const none = !found.nodes.length;
    nothing.hidden = !none;
    nodes.element.hidden = none;
    if (none) return;
    const dropped = found.nodes.filter((n) => n.state === "dropped").length;
    const deep = Math.max(...found.nodes.map((n) => n.depth)) + 1;
    const columns = Array.from({ length: deep }, (_, i) => `step ${play.frames.label[found.first + i]}`);
    const best = found.nodes.find((n) => n.best);
    nodes.update({ nodes: found.nodes, columns, hint: `${found.nodes.length - dropped} hypotheses in sight live on, ${dropped} were dropped. Point at one, or walk with arrow keys.`,
      label: `Hypotheses of the last ${deep} steps: ${found.nodes.length}, ${dropped} of them dropped${best ? `; best: ${hypothesisText(best)}` : ""}` });
  }
  return { element, update };
}

/** What was tried under a constraint in this step. */
export function createConstraint(play) {
  const list = el("ol", { class: "wb-th-chips", "aria-label": "Tokens that were put to the constraint in this step" });
  const note = el("p", { class: "wb-faint" });
  function update(frame) {
    const rows = play.rows(frame, "constrain");
    const forbidden = rows.filter((r) => play.events.value[r] === 0).length;
    note.textContent = rows.length ? `${rows.length} drawn, ${forbidden} forbidden.` : "The constraint was not asked in this step.";
    put(list, rows.slice(0, 60).map((r) => {
      const allowed = play.events.value[r] !== 0;
      const p = Math.exp(play.events.log_p[r]);
      return el("li", { class: allowed ? "wb-th-allowed" : "wb-th-forbidden" }, el("span", { "aria-hidden": "true", text: allowed ? "✓ " : "✗ " }),
        el("span", { class: "wb-th-piece", text: visible(play.piece(play.events.token[r])) }), Number.isFinite(p) ? ` p ${short2(p)}` : "",
        el("span", { class: "wb-visually-hidden", text: allowed ? " allowed" : " forbidden" }));
    }));
  }
  return { element: el("div", null, list, note), update };
}
