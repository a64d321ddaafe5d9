// A long piece of work: start, progress, cancel, and what came of it.

import { button, el, step } from "./dom.js";
import { duration } from "./maths.js";

/**
 * A button that starts the work, one that stops it, and how far it is. `actions` has start() and cancel(); jobs of the
 * kind `quiet` run in the background and do not lock the button.
 */
export function createBar(title, actions, quiet = "") {
  const begin = button(title, actions.start, { class: "wb-button wb-primary" });
  const cancel = button("Cancel", actions.cancel);
  const bar = el("progress", { class: "wb-progress", max: "1", value: "0", "aria-label": "Progress" });
  const text = el("p", { class: "wb-progress-text", role: "status" });
  const element = el("div", { class: "wb-run" }, begin, cancel, el("div", { class: "wb-progress-box" }, bar, text));

  function update({ job, live }) {
    const running = job.state === "running" || job.state === "cancelling";
    begin.disabled = !live || (running && job.kind !== quiet);
    cancel.disabled = job.state !== "running";
    bar.hidden = !running;
    bar.value = job.fraction ?? 0;
    const after = Number.isFinite(job.seconds) && !running ? ` (${duration(job.seconds)})` : "";
    const words = job.kind === quiet && job.state === "done" ? "" : (job.text ?? "") + after;
    if (text.textContent !== words) text.textContent = words;
    text.dataset.state = job.state;
    return running;
  }
  return { element, update };
}

/** What stands where figures will be: how to get them, and what they will say; `items` are [name, words]. */
export function createPreview(how, items) {
  return el("div", { class: "wb-preview" }, el("p", { class: "wb-faint", text: how }),
    el("dl", null, items.map(([name, words]) => el("div", null, el("dt", { text: name }), el("dd", { text: words })))));
}

/** The same as a numbered step. */
export function createRun(number, title, actions, quiet = "") {
  const bar = createBar(title, actions, quiet);
  const element = step(number, title, bar.element);
  return { element, update(state) { element.setAttribute("aria-busy", String(bar.update(state))); } };
}
