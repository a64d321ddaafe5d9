// Decode: a prompt, a method, who speaks; and the theatre of what came of it, alone or beside another one.

import { el, field, fillSelect, put, select, uid } from "./dom.js";
import { significant } from "./maths.js";
import { createBar, createPreview } from "./run.js";
import { createInside, createPanel } from "./inside.js";

/** The menu of methods, in families; only those that take a draft where one is wanted. */
export function decoderGroups(methods, drafting) {
  const groups = new Map();
  for (const m of methods.filter((method) => method.draft || !drafting)) {
    if (!groups.has(m.family)) groups.set(m.family, []);
    groups.get(m.family).push([m.name, m.title]);
  }
  return [...groups].map(([group, options]) => ({ group, options }));
}

const COMING = [["Text", "every token, coloured by how it came to be: accepted, corrected, found by search …"], ["Token", "what else was likely there, and how sure the model was"],
  ["Draft or search", "the tree of each step: what was tried, kept and thrown away"], ["Cost", "passes of the model, time, and what each pass brought"]];

function number(attributes) {
  return el("input", { type: "number", class: "wb-text", ...attributes });
}

function uses(changed) {
  const group = uid("use");
  const inputs = ["model", "draft"].map((value) => el("input", { type: "radio", name: group, value, onchange: () => changed(value) }));
  const names = [el("span"), el("span")];
  const element = el("fieldset", { class: "wb-uses" }, el("legend", { text: "Use it as" }),
    el("div", null, inputs.map((input, i) => el("label", null, input, names[i]))));
  function update(use, variant, locked) {
    names[0].textContent = "the model";
    names[1].textContent = variant.number ? "the draft of dense" : "its own draft (int8)";
    inputs.forEach((input) => { input.checked = input.value === use; input.disabled = locked; });
  }
  return { element, update };
}

const HEADS = ["", "method", "who", "tokens", "passes", "tokens/s", "text"];

/** The generations so far: one is shown, another may stand beside it. */
function createList(see) {
  const group = uid("shown");
  const body = el("tbody");
  const beside = select((value) => see(value === null ? [now.shown[0]] : [now.shown[0], Number(value)]));
  const table = el("div", { class: "wb-scroll", tabindex: "0", role: "region", "aria-label": "Generations" },
    el("table", { class: "wb-variants wb-generations" }, el("thead", null, el("tr", null, HEADS.map((h) => (h ? el("th", { scope: "col", text: h }) : el("td"))))), body));
  const element = el("div", { class: "wb-list" }, table, field("Beside it", beside));
  let now = { rows: [], shown: [], methods: [] };
  const titled = (r) => now.methods.find((m) => m.name === r.method)?.title ?? r.method;

  function row(r) {
    const input = el("input", { type: "radio", name: group, value: String(r.number), "aria-label": `Show ${r.number}: ${titled(r)}, ${r.who}`, onchange: () => see([r.number]) });
    input.checked = now.shown[0] === r.number;
    return el("tr", { class: now.shown.includes(r.number) ? "wb-current" : null }, el("td", null, input), el("th", { scope: "row", text: titled(r) }), el("td", { text: r.who }),
      el("td", { text: String(r.tokens) }), el("td", { text: String(r.forwards) }), el("td", { text: r.rate ? significant(r.rate) : "–" }), el("td", { class: "wb-snippet", title: r.text, text: r.text }));
  }
  function update({ rows, shown, methods, live }) {
    const focused = body.contains(document.activeElement) ? document.activeElement.value : null;
    now = { rows, shown, methods };
    put(body, [...rows].reverse().map(row));
    if (focused !== null) body.querySelector(`input[value="${focused}"]`)?.focus();
    const first = rows.find((r) => r.number === shown[0]);
    const others = first ? rows.filter((r) => r.number !== first.number && r.prompt === first.prompt) : [];
    fillSelect(beside, [[null, "nothing"], ...others.map((r) => [String(r.number), `${r.number}: ${titled(r)}, ${r.who}`])], shown[1] === undefined ? null : String(shown[1]));
    beside.disabled = !live || !others.length;
    for (const input of body.querySelectorAll("input")) input.disabled = !live;
    element.hidden = !rows.length;
  }
  return { element, update };
}

function decodeParts({ host, send, set }) {
  const chosen = { method: "prompt-lookup", use: "model" };
  let now = null;
  const prompt = el("textarea", { class: "wb-area", rows: "2", onchange: () => set({ prompt: prompt.value }) });
  const method = select((value) => { chosen.method = value; update(now); });
  const use = uses((value) => {
    chosen.use = value;
    if (value === "draft" && !now.methods.find((m) => m.name === chosen.method)?.draft) chosen.method = "draft-model";
    update(now);
  });
  const [tokens, heat] = [number({ value: "64", min: "1", max: "512", step: "1" }), number({ value: "0", min: "0", max: "2", step: "0.1" })];
  const pattern = el("input", { type: "text", class: "wb-text", spellcheck: "false", value: "[a-z ,]+\\." });
  const patternField = field("Pattern (regular expression)", pattern, { class: "wb-field wb-long" });
  const start = () => {
    set({ prompt: prompt.value });
    send("generate", { ...chosen, tokens: Math.max(1, Math.round(Number(tokens.value) || 64)), temperature: Number(heat.value) || 0, pattern: pattern.value });
  };
  const bar = createBar("Generate", { start, cancel: () => send("cancel") }, "score");
  const about = el("p", { class: "wb-about" });
  const told = el("p", { class: "wb-faint" });
  const list = createList((numbers) => send("see", { numbers }));
  const theatre = createInside(host, createPreview("Press Generate. What appears here:", COMING));
  const form = el("section", { class: "wb-strip", "aria-label": "Generate" }, about, field("Prompt", prompt),
    el("div", { class: "wb-strip-row" }, use.element, field("Method", method), field("Tokens", tokens, { class: "wb-field wb-short" }), field("Temperature", heat, { class: "wb-field wb-short" }), patternField),
    told, bar.element);
  const element = el("div", { class: "wb-stacked" }, form, list.element, theatre.element);

  function update(state) {
    now = state;
    put(about, "Text by ", el("strong", { text: state.variant.name }), chosen.use === "draft" && state.variant.number ? " as the draft of the dense model." : ".");
    use.update(chosen.use, state.variant, state.locked);
    fillSelect(method, decoderGroups(state.methods, chosen.use === "draft"), chosen.method);
    const info = state.methods.find((m) => m.name === chosen.method);
    put(told, el("code", { class: "wb-formula", text: info?.formula ?? "" }), info ? ` · ${info.promise}` : "");
    patternField.hidden = !info?.pattern;
    if (document.activeElement !== prompt) prompt.value = state.prompt;
    for (const control of [prompt, method, tokens, heat, pattern]) control.disabled = state.locked;
    bar.update(state);
    form.hidden = !state.live;
    list.update(state);
    theatre.show(state.inner);
  }
  return { element, update, close: theatre.close };
}

export default { render: createPanel({ name: "Decode", className: "wb-decode", traits: ["methods", "variant", "prompt", "rows", "shown", "inner"], parts: decodeParts }) };
