// Step 4: quality, size and speed, dense against pruned; and what both say.

import { el, field, put, step } from "./dom.js";
import { bytes, compact, percent, shares, significant } from "./maths.js";
import { createChart } from "./chart.js";

const NOTHING = "Press Prune: quality, size and speed of the dense and the pruned model appear here.";

function panel(title, ...children) {
  return el("div", { class: "wb-panel" }, el("h4", { text: title }), ...children);
}

/** A list of figures: [name, value, key class]; name and value are text or nodes. */
function figures(rows) {
  return el("dl", { class: "wb-figures" }, rows.map(([name, value, key]) =>
    el("div", null, el("dt", { class: key ? `wb-key ${key}` : null }, name), el("dd", null, value))));
}

function interval(q) {
  if (!q) return "–";
  const known = Number.isFinite(q.low) && Number.isFinite(q.high);
  return significant(q.perplexity) + (known ? ` [${significant(q.low)}, ${significant(q.high)}]` : "");
}

function qualityText({ before, after, protocol }) {
  return [figures([["dense", interval(before), "wb-before"], ["pruned", interval(after), "wb-after"]]),
    protocol ? el("p", { class: "wb-faint", text: protocol }) : null];
}

function sizeText({ dense, pruned }) {
  if (!dense || !pruned) return [el("p", { class: "wb-faint", text: "…" })];
  const part = shares(dense.parameters, pruned.parameters, pruned.nonzero);
  const kinds = [["kept", "kept"], ["zeroed", pruned.packed ? "zeroed" : "zeroed, still stored"], ["removed", "removed"]];
  const masked = part.zeroed > 0 && part.removed === 0;
  const note = pruned.packed ? "Compiled: its matrices are packed in memory, a file would not be." : masked ? "A mask alone makes nothing smaller or faster." : "";
  const bar = el("div", { class: "wb-stack", "aria-hidden": "true" },
    kinds.map(([k]) => el("span", { class: `wb-stack-${k}`, style: `flex-grow: ${part[k]}` })));
  const rows = kinds.map(([k, name]) => [name, `${compact(part[k] * dense.parameters)} (${percent(part[k])})`, `wb-stack-${k}`]);
  return [bar, figures([...rows, [pruned.packed ? "weights in memory" : "file size", `${bytes(dense.bytes)} → ${bytes(pruned.bytes)}`]]),
  note ? el("p", { class: "wb-faint", text: note }) : null];
}

function speedText(speed) {
  if (!speed.prefill) return [el("p", { class: "wb-faint", text: speed.note ?? "…" })];
  const faint = (text) => el("span", { class: "wb-faint", text });
  const row = (name, r) => [[name, faint(` ${r.verdict}`)],
    [el("strong", { text: `${significant(r.ratio)}×` }), faint(` [${significant(r.low)}, ${significant(r.high)}]`)]];
  return [figures([row("prefill", speed.prefill), row("decode", speed.decode)]),
    speed.note ? el("p", { class: "wb-faint", text: speed.note }) : null];
}

const SHOWN = 160; // signs of a prompt: its end is what is continued

function sampleText({ prompt: whole, dense, pruned }) {
  const prompt = whole && whole.length > SHOWN ? `… ${whole.slice(-SHOWN)}` : whole;
  const said = (kind, name, text) => el("figure", { class: "wb-said" },
    el("figcaption", { class: `wb-key wb-${kind}`, text: name }),
    el("blockquote", null, text === undefined || text === null ? el("span", { class: "wb-faint", text: "…" })
      : [el("span", { class: "wb-faint", text: prompt }), text]));
  if (!prompt) return [];
  return [el("div", { class: "wb-sides" }, said("before", "dense", dense), said("after", "pruned", pruned))];
}

/** Figures as they come in. */
export function createCompare() {
  const chart = createChart();
  const [quality, size, speed] = Array.from({ length: 3 }, () => el("div"));
  const nothing = el("p", { class: "wb-faint", text: NOTHING });
  const panels = el("div", { class: "wb-panels" }, panel("Perplexity (lower is better)", chart.element, quality),
    el("div", { class: "wb-panels-pair" }, panel("Size", size), panel("Speed against dense", speed)));
  const element = step(4, "Compare", nothing, panels);

  function update(state) {
    const any = Boolean(state.quality.before || state.quality.after || state.size.dense);
    nothing.hidden = any;
    panels.hidden = !any;
    chart.update(state.quality);
    put(quality, qualityText(state.quality));
    put(size, sizeText(state.size));
    put(speed, speedText(state.speed));
  }
  return { element, update };
}

/** One prompt continued by both models. `setPrompt(text)` is called when it was edited. */
export function createSample(setPrompt) {
  const prompt = el("input", { type: "text", class: "wb-text", onchange: () => setPrompt(prompt.value) });
  const sample = el("div");
  const element = panel("What the models say", field("Prompt for the next pruning", prompt), sample);

  function update(state) {
    put(sample, sampleText(state.samples));
    if (document.activeElement !== prompt) prompt.value = state.prompt;
    prompt.disabled = state.locked;
  }
  return { element, update };
}
