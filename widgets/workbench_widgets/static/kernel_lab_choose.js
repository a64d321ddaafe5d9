// Step 1: which matrix. A layer of a model with its own zeros, or a random one.

import { el, field, fillSelect, select, step, uid } from "./dom.js";
import { layerGroups } from "./kernel_lab_maths.js";

const NAMES = { unstructured: "anywhere (unstructured)", "4x1": "4x1 (columns of 4)", "16x1": "16x1 (columns of 16)",
  bsr16: "bsr16 (16 × 16 blocks)", bsr32: "bsr32 (32 × 32 blocks)" };

/** Whether a pattern such as "2:4" fixes the sparsity. */
export function isFixed(pattern) {
  return /^\d+:\d+$/.test(pattern);
}

function sparsitySlider(change) {
  const id = uid("sparsity");
  const slider = el("input", { id, type: "range", class: "wb-slider", min: "0", max: "99", step: "1" });
  const box = el("input", { type: "number", class: "wb-number", min: "0", max: "99", step: "0.5", "aria-label": "Sparsity in percent" });
  const element = el("div", { class: "wb-slider-row wb-lab-slider" }, el("label", { for: id, text: "Sparsity" }), slider,
    el("span", { class: "wb-number-box" }, box, el("span", { "aria-hidden": "true", text: "%" })));

  function show(sparsity) {
    const value = String(Math.round(sparsity * 1000) / 10);
    slider.value = value;
    if (document.activeElement !== box) box.value = value;
    slider.setAttribute("aria-valuetext", `${value} percent`);
  }
  for (const control of [slider, box]) {
    control.addEventListener("input", () => {
      const value = Number(control.value);
      if (control.value === "" || !(value >= 0 && value <= 99)) return;
      show(value / 100);
      change(value / 100);
    });
  }
  return { element, show, lock: (locked) => { slider.disabled = locked; box.disabled = locked; } };
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
  const slider = sparsitySlider((sparsity) => actions.slide({ ...now.choice, sparsity }));
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
