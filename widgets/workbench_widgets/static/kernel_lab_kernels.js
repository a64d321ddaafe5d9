// Step 2: which kernels, and how they are timed.

import { el, field, fillSelect, put, select, step } from "./dom.js";
import { createTick } from "./primitives.js";
import { toggled } from "./kernel_lab_maths.js";

/** A group of check boxes; `change(values)` gets what is ticked. Focus stays where it is when they are drawn again. */
function checks(legend, change) {
  const list = el("div", { class: "wb-lab-checks" });
  const element = el("fieldset", { class: "wb-lab-set" }, el("legend", { text: legend }), list);
  let key = "";

  function update(all, chosen, { locked = false, faint = () => false, last = true } = {}) {
    if (key !== JSON.stringify(all)) {
      key = JSON.stringify(all);
      put(list, all.map((value) => {
        const input = el("input", { type: "checkbox", value: String(value) });
        return el("label", null, input, String(value));
      }));
    }
    [...list.children].forEach((label, i) => {
      const input = label.firstChild;
      input.checked = chosen.includes(all[i]);
      input.disabled = locked || (last && chosen.length === 1 && input.checked);
      label.classList.toggle("wb-lab-faint", faint(all[i]));
      label.title = faint(all[i]) ? "would store many zeros of this pattern, or cannot hold it" : "";
      input.onchange = () => change(toggled(chosen, all[i], all));
    });
  }
  return { element, update };
}

/** `change(choice)` is called with the whole new choice. */
export function createKernels(change) {
  let now = null;
  const set = (key) => (value) => change({ ...now.choice, [key]: value });
  const suiting = () => now.options.formats.filter((f) => now.frame.suits?.includes(f));
  const auto = createTick("all that suit the pattern", (on) => set("formats")(on ? null : suiting()));
  const formats = checks("Formats (dense and torch always run)", set("formats"));
  formats.element.insertBefore(auto.element, formats.element.lastChild);
  const values = checks("Stored as", set("values"));
  const tokens = checks("Tokens at once", set("tokens"));
  const count = (key, most) => el("input", { type: "number", class: "wb-text", min: "1", max: String(most), step: "1",
    onchange: (event) => { const n = Number(event.target.value); if (Number.isInteger(n) && n > 0) set(key)(n); } });
  const [threads, repeats] = [count("threads", 256), count("repeats", 999)];
  const caches = select((value) => set("cold")(value === "cold"));
  const balance = createTick("find the break-even sparsity too", set("break_even"));
  const fixed = el("p", { class: "wb-faint", text: "This pattern leaves no sparsity to vary." });
  const element = step(2, "Kernels", formats.element, values.element, tokens.element,
    el("div", { class: "wb-lab-pair" }, field("Threads", threads), field("Rounds", repeats)), field("Weights come from", caches), balance.element, fixed);

  function update(state) {
    now = state;
    const { choice, options, frame, locked } = state;
    auto.input.checked = choice.formats === null;
    auto.input.disabled = locked;
    formats.update(options.formats, choice.formats ?? suiting(), { locked: locked || choice.formats === null, last: false,
      faint: (f) => Boolean(frame.suits?.length) && !frame.suits.includes(f) });
    values.update(options.values, choice.values, { locked });
    tokens.update(options.tokens, choice.tokens, { locked });
    for (const [input, value] of [[threads, choice.threads], [repeats, choice.repeats]]) {
      if (document.activeElement !== input) input.value = value;
      input.disabled = locked;
    }
    threads.max = String(options.cores);
    fillSelect(caches, [["warm", "cache, where they fit (warm)"], ["cold", "memory (cold)"]], choice.cold ? "cold" : "warm");
    caches.disabled = locked;
    const open = !/^\d+:\d+$/.test(frame.pattern ?? "") && !["dense", "empty"].includes(frame.pattern);
    balance.input.checked = choice.break_even;
    balance.input.disabled = locked || !open;
    fixed.hidden = open;
  }
  return { element, update };
}
