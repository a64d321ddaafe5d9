// Step 1: which matrix. A layer of a model with its own zeros, or a random one.

import { el, field, fillSelect, select, step } from "./dom.js";
import { createRange } from "./primitives.js";
import { layerGroups } from "./kernel_lab_maths.js";

const NAMES = { unstructured: "anywhere (unstructured)", "4x1": "4x1 (columns of 4)", "16x1": "16x1 (columns of 16)",
  bsr16: "bsr16 (16 × 16 blocks)", bsr32: "bsr32 (32 × 32 blocks)" };

/** Whether a pattern such as "2:4" fixes the sparsity. */
export function isFixed(pattern) {
  return /^\d+:\d+$/.test(pattern);
}

/** `actions` has change(choice), slide(choice) while the slider moves, and models() before the menu opens. */
export function createMatrix(actions) {
  let now = null;
  const change = (values) => actions.change({ ...now.choice, ...values });
  const source = select((model) => change({ model: model ?? "", layer: "" }));
  source.addEventListener("focus", () => actions.models());
  const layer = select((value) => change({ layer: value }));
  const preset = select((value) => {
    const found = now.options.presets.find(([name]) => name === value);
    if (found) change({ rows: found[1], columns: found[2] });
  });
  const size = (key, name) => el("input", { type: "number", class: "wb-text", min: "1", step: "1", "aria-label": name,
    onchange: (event) => { const n = Number(event.target.value); if (Number.isInteger(n) && n > 0) change({ [key]: n }); } });
  const [rows, columns] = [size("rows", "Outputs (rows)"), size("columns", "Inputs (columns)")];
  const pattern = select((value) => change({ pattern: value }));
  const slider = createRange({ label: "Sparsity", most: 99, className: "wb-lab-slider" }, (sparsity) => actions.slide({ ...now.choice, sparsity }));
  const sizes = el("div", { class: "wb-lab-sizes" }, rows, el("span", { "aria-hidden": "true", text: "×" }), columns);
  const random = el("div", null, field("As large as", preset),
    el("div", { class: "wb-field", role: "group", "aria-label": "Size" }, el("span", { class: "wb-lab-label", text: "Outputs × inputs" }), sizes),
    field("Where zeros are", pattern), slider.element);
  const own = el("div", null, field("Layer", layer), el("p", { class: "wb-faint", text: "The layer is timed with the zeros that it has." }));
  const sourceField = field("Matrix", source);
  const element = step(1, "Matrix", sourceField, random, own);

  function update(state) {
    now = state;
    const { choice, options, locked } = state;
    sourceField.hidden = !options.models.length;
    fillSelect(source, [[null, "random, of a shape"], ...options.models.map((m) => [m, `a layer of ${m}`])], choice.model);
    fillSelect(layer, layerGroups(options.layers), choice.layer);
    const like = options.presets.find(([, r, c]) => r === choice.rows && c === choice.columns);
    fillSelect(preset, [[null, "a size of your own"], ...options.presets.map(([name]) => [name, name])], like?.[0]);
    fillSelect(pattern, options.patterns.map((p) => [p, NAMES[p] ?? p]), choice.pattern);
    for (const [input, value] of [[rows, choice.rows], [columns, choice.columns]]) {
      if (document.activeElement !== input) input.value = value;
    }
    slider.show(isFixed(choice.pattern) ? 1 - Number(choice.pattern.split(":")[0]) / Number(choice.pattern.split(":")[1]) : choice.sparsity);
    slider.lock(locked || isFixed(choice.pattern));
    random.hidden = Boolean(choice.model);
    own.hidden = !choice.model;
    for (const control of [source, layer, preset, rows, columns, pattern]) control.disabled = locked;
  }
  return { element, update };
}
