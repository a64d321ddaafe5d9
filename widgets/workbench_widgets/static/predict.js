// A question that takes one guess: a number, by hand or on a scale, or one of several options. Python checks and keeps it.

import { button, el, field, put, shieldKeys, uid } from "./dom.js";

/** What a guess looks like in words; the same as in Python but for the digits. */
export function inWords(value, unit) {
  if (value === null || value === undefined) return "none";
  return typeof value === "number" ? `${value.toLocaleString("en")} ${unit}`.trim() : value;
}

/** A step that gives a scale about a hundred places, of a size that people count in. */
export function stepOf(low, high) {
  const rough = (high - low) / 100;
  const ten = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((n) => n * ten).find((s) => s >= rough * 0.999);
}

function numberInput(unit, ends, changed) {
  const label = unit ? `Your guess, in ${unit}` : "Your guess";
  const box = el("input", { type: "number", step: "any", class: "wb-pr-number", oninput: () => { if (range) range.value = box.value; changed(); } });
  const range = ends.length ? el("input", {
    type: "range", class: "wb-slider", min: ends[0], max: ends[1], step: stepOf(...ends), value: (ends[0] + ends[1]) / 2,
    "aria-label": `${label}, on a scale from ${inWords(ends[0], unit)} to ${inWords(ends[1], unit)}`,
    oninput: () => { box.value = range.value; changed(); },
  }) : null;
  const scale = range && el("div", { class: "wb-pr-scale" }, el("span", { text: inWords(ends[0], "") }), range, el("span", { text: inWords(ends[1], "") }));
  return {
    element: el("div", { class: "wb-pr-inputs" }, field(label, box), scale),
    read: () => (box.value.trim() === "" || !Number.isFinite(Number(box.value)) ? null : Number(box.value)),
    show(value) { if (value !== null && value !== undefined) { box.value = value; if (range) range.value = value; } },
    controls: range ? [box, range] : [box],
  };
}

function optionInput(options, question, changed) {
  const name = uid("option");
  const controls = options.map((value) => el("input", { type: "radio", name, value, onchange: changed }));
  const lines = controls.map((c, i) => el("label", { class: "wb-pr-option" }, c, options[i]));
  return {
    element: el("fieldset", { class: "wb-pr-options" }, el("legend", { class: "wb-visually-hidden", text: question }), lines),
    read: () => controls.find((c) => c.checked)?.value ?? null,
    show(value) { for (const c of controls) c.checked = c.value === value; },
    controls,
  };
}

function render({ model, el: host }) {
  const [question, unit, options] = ["question", "unit", "options"].map((k) => model.get(k));
  const changed = () => { lock.disabled = model.get("locked") || input.read() === null; };
  const input = options.length ? optionInput(options, question, changed) : numberInput(unit, model.get("ends"), changed);
  const lock = button("Lock my guess", undefined, { type: "submit", disabled: true });
  const told = el("p", { class: "wb-pr-told", role: "status" });
  const title = el("h3", { id: uid("question"), class: "wb-pr-question", text: question });
  const form = el("form", { class: "wb-pr-form", onsubmit: (event) => { event.preventDefault(); send(); } }, input.element, lock);
  const root = el("section", { class: "wb-studio wb-pr", "aria-labelledby": title.id },
    el("p", { class: "wb-brand", text: "Predict" }), title, form, told);

  function send() {
    const guess = input.read();
    if (guess !== null && !model.get("locked")) model.send({ guess });
  }
  function update() {
    const [locked, value, verdict, error] = ["locked", "value", "verdict", "error"].map((k) => model.get(k));
    if (locked) input.show(value);
    const within = [...input.controls, lock].includes(document.activeElement);
    for (const control of input.controls) control.disabled = locked;
    changed();
    root.dataset.locked = String(locked);
    const open = "Guess, lock it, then run the next cell.";
    const waiting = `Locked: ${inWords(value, unit)}. Run the next cell.`;
    told.textContent = error || (verdict && `${verdict[0].toUpperCase()}${verdict.slice(1)}.`) || (locked ? waiting : open);
    if (locked && within) { // a disabled control loses the focus, and the reader their place
      title.tabIndex = -1;
      title.focus();
    }
  }
  const names = ["locked", "value", "verdict", "error"];
  for (const name of names) model.on(`change:${name}`, update);
  shieldKeys(root);
  put(host, root);
  update();
  return () => { for (const name of names) model.off(`change:${name}`, update); };
}

export default { render };
