// Step 2: the sparsity slider with the picture of what would go.

import { el, put, step } from "./dom.js";
import { compact, percent } from "./maths.js";
import { createRange } from "./primitives.js";
import { createPicture } from "./picture.js";

/** Sparsity that an N:M pattern fixes, or null: "2:4" leaves 2 of every 4, so 0.5. */
export function fixedBy(pattern) {
  const match = /^(\d+):(\d+)$/.exec(pattern ?? "");
  return match ? 1 - Number(match[1]) / Number(match[2]) : null;
}

/** `ask(sparsity)` is called while the slider moves. */
export function createSee(ask) {
  const range = createRange({ label: "Sparsity", most: 95 }, ask);
  const note = el("p", { class: "wb-note" });
  const picture = createPicture();
  const element = step(2, "See", range.element, note, picture.element);

  function update({ choice, locked, live }) {
    const fixed = fixedBy(choice.pattern);
    range.lock(locked || fixed !== null || !live);
    if (fixed !== null) range.show(fixed);
  }
  function draw(frame, cells, kept, milliseconds) {
    picture.update(frame, cells, kept);
    put(note, el("strong", { text: `${compact(frame.removed)} of ${compact(frame.total)}` }),
      ` weights would go (${percent(frame.total ? frame.removed / frame.total : 0)})`,
      milliseconds === null ? "" : el("span", { class: "wb-faint", text: ` · redrawn in ${Math.round(milliseconds)} ms` }));
  }
  return { element, update, show: range.show, draw, wait: picture.wait, close: picture.close };
}
