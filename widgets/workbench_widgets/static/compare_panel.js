// Compare: the table, the pictures, where a variant came from, and two of them saying the same prompt.

import { el, field, fillSelect, put, select, uid } from "./dom.js";
import { bytes, duration, percent, significant } from "./maths.js";
import { createBar } from "./run.js";
import { createInside, createPanel } from "./inside.js";
import { createScatter } from "./scatter.js";

const COLUMNS = ["", "variant", "perplexity", "× dense [95 %]", "weights", "zero", "prefill", "decode", "ms/token"];
const ALIKE = "× compiled dense"; // a column only where it says something
const times = (r) => (Number.isFinite(r) && r !== null ? `${r.toFixed(2)}×` : "–");
const known = (v) => (v === null || v === undefined ? NaN : v);

function createTable(pick) {
  const group = uid("compared");
  const [head, body, note] = [el("tr"), el("tbody"), el("p", { class: "wb-faint" })];
  const element = el("div", null, el("div", { class: "wb-scroll", tabindex: "0", role: "region", "aria-label": "Comparison" },
    el("table", { class: "wb-variants" }, el("thead", null, head), body)), note);
  function row(r, selected, best, live, alike) {
    const input = el("input", { type: "radio", name: group, value: String(r.number), "aria-label": r.name, disabled: !live, onchange: () => pick(r.number) });
    input.checked = r.number === selected;
    const spread = r.number && known(r.low) ? ` [${significant(r.low)}, ${significant(r.high)}]` : "";
    return el("tr", { class: r.number === selected ? "wb-current" : null, onclick: (event) => { if (live && event.target !== input) pick(r.number); } }, el("td", null, input),
      el("th", { scope: "row" }, r.name, best.includes(r.number) ? el("span", { class: "wb-tag", text: "not beaten" }) : null),
      el("td", { text: significant(known(r.perplexity)) }), el("td", null, significant(known(r.ratio)), el("span", { class: "wb-faint", text: spread })),
      el("td", { text: bytes(r.weight_bytes) }), el("td", { text: percent(r.sparsity, 0) }), el("td", { text: times(r.prefill) }), el("td", { text: times(r.decode) }),
      el("td", { text: r.decode_ms ? significant(r.decode_ms) : "–" }), alike ? el("td", { text: times(r.alike) }) : null);
  }
  function update({ table, selected, live }) {
    const focused = body.contains(document.activeElement) ? document.activeElement.value : null;
    const best = table.rows.length > 1 ? table.best.decode.filter((n) => table.rows.find((r) => r.number === n)) : [];
    const alike = table.rows.some((r) => Number.isFinite(r.alike));
    put(head, [...COLUMNS, ...(alike ? [ALIKE] : [])].map((c) => (c ? el("th", { scope: "col", text: c }) : el("td"))));
    put(body, table.rows.map((r) => row(r, selected, best, live, alike)));
    note.textContent = table.note;
    note.hidden = !table.note;
    if (focused !== null) body.querySelector(`input[value="${focused}"]`)?.focus();
  }
  return { element, update };
}

/** How a variant came about, and the Python that makes it again. */
function createRecipe() {
  const [title, steps] = [el("h4"), el("ol", { class: "wb-steps" })];
  const code = el("pre", { class: "wb-code", tabindex: "0", role: "region", "aria-label": "Python that makes it again" });
  const element = el("section", { class: "wb-recipe", "aria-label": "Recipe" }, title, steps, code);
  function update({ recipe }) {
    title.textContent = recipe.number ? `How ${recipe.name} came about${recipe.seconds ? ` (${duration(recipe.seconds)})` : ""}` : "The dense model, as it was loaded";
    put(steps, [["model", recipe.source === "default" ? "the default model" : recipe.source], ...recipe.steps].map(([kind, text]) =>
      el("li", null, el("span", { class: "wb-tag", text: { choice: "prune", execution: "compile" }[kind] ?? kind }), ` ${text}`)));
    code.textContent = recipe.python;
    code.hidden = !recipe.python;
  }
  return { element, update };
}

function compareParts({ host, send, set }) {
  const pick = (number) => send("select", { number });
  const table = createTable(pick);
  const pictures = [["decode", "Quality and decode speed", "decode speed, × dense", 1], ["weight_bytes", "Quality and bytes of weights", "weights, MB", 1e-6]]
    .map(([key, title, xLabel, unit]) => ({ key, unit, chart: createScatter({ title, xLabel, yLabel: "perplexity, × dense", pick }) }));
  const recipe = createRecipe();
  const prompt = el("input", { type: "text", class: "wb-text", onchange: () => set({ prompt: prompt.value }) });
  let sides = null;
  const [left, right] = [0, 1].map((i) => select((value) => { sides[i] = Number(value); }));
  const start = () => { set({ prompt: prompt.value }); send("beside", { left: sides[0], right: sides[1] }); };
  const bar = createBar("Say both", { start, cancel: () => send("cancel") }, "score");
  const stage = createInside(host);
  const form = el("div", { class: "wb-strip-row" }, field("Prompt", prompt, { class: "wb-field wb-long" }), field("Left", left), field("Right", right), bar.element);
  const both = el("section", { class: "wb-both", "aria-label": "Two variants side by side" }, el("h4", { text: "What two of them say" }), form, stage.element);
  const element = el("div", { class: "wb-stacked" }, table.element, el("div", { class: "wb-pictures" }, pictures.map((p) => p.chart.element), recipe.element), both);
  let last = null;

  function update(state) {
    const rows = state.table.rows;
    table.update(state);
    for (const { key, unit, chart } of pictures) {
      chart.update({ chosen: state.selected, points: rows.map((r) => ({ id: r.number, name: r.name, x: known(r[key]) * unit, y: known(r.ratio), low: known(r.low), high: known(r.high), best: state.table.best[key].includes(r.number) })) });
    }
    recipe.update(state);
    if (last !== state.selected || !sides) { sides = [sides?.[0] ?? 0, state.selected || (rows.at(-1)?.number ?? 0)]; last = state.selected; }
    sides = sides.map((n) => (rows.some((r) => r.number === n) ? n : 0));
    for (const [i, side] of [left, right].entries()) {
      fillSelect(side, rows.map((r) => [String(r.number), r.name]), String(sides[i]));
      side.disabled = state.locked;
    }
    if (document.activeElement !== prompt) prompt.value = state.prompt;
    prompt.disabled = state.locked;
    bar.update(state);
    form.hidden = !state.live;
    both.hidden = !state.live && !state.inner;
    stage.show(state.inner);
  }
  return { element, update, close: stage.close };
}

export default { render: createPanel({ name: "Compare", className: "wb-compare", traits: ["table", "recipe", "selected", "prompt", "inner"], parts: compareParts }) };
