// Step 2: the sparsity slider with the picture of what would go.

import { el, put, step, uid } from "./dom.js";
import { compact, percent } from "./maths.js";
import { createPicture } from "./picture.js";

/** Sparsity that an N:M pattern fixes, or null: "2:4" leaves 2 of every 4, so 0.5. */
export function fixedBy(pattern) {
  const match = /^(\d+):(\d+)$/.exec(pattern ?? "");
  return match ? 1 - Number(match[1]) / Number(match[2]) : null;
}

/** `ask(sparsity)` is called while the slider moves. */
export function createSee(ask) {
  const id = uid("sparsity");
  const slider = el("input", { id, type: "range", class: "wb-slider", min: "0", max: "95", step: "1" });
  const box = el("input", { type: "number", class: "wb-number", min: "0", max: "95", step: "0.5", "aria-label": "Sparsity in percent" });
  const note = el("p", { class: "wb-note" });
  const picture = createPicture();
  const element = step(2, "See", el("div", { class: "wb-slider-row" }, el("label", { for: id, text: "Sparsity" }), slider,
    el("span", { class: "wb-number-box" }, box, el("span", { "aria-hidden": "true", text: "%" }))), note, picture.element);

  function show(sparsity) {
    const value = String(Math.round(sparsity * 1000) / 10);
    slider.value = value;
    if (document.activeElement !== box) box.value = value;
    slider.setAttribute("aria-valuetext", `${value} percent`);
    slider.style.setProperty("--wb-fill", `${(sparsity / 0.95) * 100}%`);
  }
  const listen = (control) => control.addEventListener("input", () => {
    const percentage = Number(control.value);
    if (control.value === "" || !(percentage >= 0 && percentage <= 95)) return;
    show(percentage / 100);
    ask(percentage / 100);
  });
  listen(slider);
  listen(box);

  function update({ choice, locked, live }) {
    const fixed = fixedBy(choice.pattern);
    for (const control of [slider, box]) control.disabled = locked || fixed !== null || !live;
    if (fixed !== null) show(fixed);
  }
  function draw(frame, cells, kept, milliseconds) {
    picture.update(frame, cells, kept);
    put(note, el("strong", { text: `${compact(frame.removed)} of ${compact(frame.total)}` }),
      ` weights would go (${percent(frame.total ? frame.removed / frame.total : 0)})`,
      milliseconds === null ? "" : el("span", { class: "wb-faint", text: ` · redrawn in ${Math.round(milliseconds)} ms` }));
  }
  return { element, update, show, draw, wait: picture.wait, close: picture.close };
}
