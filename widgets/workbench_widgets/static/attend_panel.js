// Attend: a text for the variant to read, and the lens on what it attended to.

import { el, field, put } from "./dom.js";
import { createTick } from "./primitives.js";
import { createBar } from "./run.js";
import { createInside, createPanel } from "./inside.js";

function attendParts({ host, send, set }) {
  const text = el("textarea", { class: "wb-area", rows: "3", spellcheck: "false", onchange: () => set({ text: text.value }) });
  const [patterns, kv] = [createTick("sparse patterns too (slower)"), createTick("KV caches too (slower)")];
  const start = () => { set({ text: text.value }); send("study", { patterns: patterns.input.checked, kv: kv.input.checked }); };
  const bar = createBar("Study", { start, cancel: () => send("cancel") }, "score");
  const about = el("p", { class: "wb-about" });
  const empty = el("p", { class: "wb-faint wb-nothing", text: "Press Study: heads, maps and tokens appear here, exact at any zoom." });
  const lens = createInside(host, empty);
  const form = el("section", { class: "wb-strip", "aria-label": "Study" }, about, field("Text", text),
    el("div", { class: "wb-strip-row" }, patterns.element, kv.element, bar.element));
  const element = el("div", { class: "wb-stacked" }, form, lens.element);

  function update(state) {
    put(about, "Attention of ", el("strong", { text: state.variant.base }), " over a text.",
      state.variant.compiled ? ` (${state.variant.name} is compiled from it.)` : "");
    if (document.activeElement !== text) text.value = state.text;
    for (const control of [text, patterns.input, kv.input]) control.disabled = state.locked;
    bar.update(state);
    form.hidden = !state.live;
    lens.show(state.inner);
  }
  return { element, update, close: lens.close };
}

export default { render: createPanel({ name: "Attend", className: "wb-attend", traits: ["variant", "text", "inner"], parts: attendParts }) };
