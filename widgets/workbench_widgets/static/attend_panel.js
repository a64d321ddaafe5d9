// Attend: a text for the variant to read, and the lens on what it attended to.

import { el, field, put } from "./dom.js";
import { compact } from "./maths.js";
import { createTick } from "./primitives.js";
import { createBar, createPreview } from "./run.js";
import { createInside, createPanel } from "./inside.js";

const COMING = [["Heads", "all of them at once, and which kind each is: sink, previous token, induction, local …"], ["Map", "which token looks at which, exact at any zoom"],
  ["Text", "the tokens, shaded by how much one of them looks at each"], ["Sparsity", "what sparse patterns keep of it and what they cost, with the first tick"],
  ["KV cache", "which rows smaller caches drop, with the second tick"]];
const PAUSE = 300; // milliseconds without a key until tokens are counted

/** "123 tokens", and what is left out of a text that the model cannot read whole. */
export function countText({ tokens, most }) {
  if (!Number.isFinite(tokens)) return "";
  const whole = (n) => (n < 10000 ? String(n) : compact(n));
  return tokens > most ? `${whole(tokens)} tokens: the model takes ${whole(most)}, so only the first ${whole(most)} are read` : `${whole(tokens)} of at most ${whole(most)} tokens`;
}

function attendParts({ host, send, set }) {
  let timer = null;
  const later = () => { clearTimeout(timer); timer = setTimeout(() => set({ text: text.value }), PAUSE); };
  const text = el("textarea", { class: "wb-area", rows: "3", spellcheck: "false", onchange: () => set({ text: text.value }), oninput: later });
  const count = el("span", { class: "wb-faint wb-count", role: "status" });
  const [patterns, kv] = [createTick("sparse patterns too (slower)"), createTick("KV caches too (slower)")];
  const start = () => { set({ text: text.value }); send("study", { patterns: patterns.input.checked, kv: kv.input.checked }); };
  const bar = createBar("Study", { start, cancel: () => send("cancel") }, "score");
  const about = el("p", { class: "wb-about" });
  const empty = createPreview("Press Study. What appears here:", COMING);
  const lens = createInside(host, empty);
  const form = el("section", { class: "wb-strip", "aria-label": "Study" }, about, field("Text", text),
    el("div", { class: "wb-strip-row" }, patterns.element, kv.element, bar.element, count));
  const element = el("div", { class: "wb-stacked" }, form, lens.element);

  function update(state) {
    put(about, "Attention of ", el("strong", { text: state.variant.base }), " over a text.",
      state.variant.compiled ? ` (${state.variant.name} is compiled from it.)` : "");
    if (document.activeElement !== text) text.value = state.text;
    if (count.textContent !== countText(state.reads)) count.textContent = countText(state.reads);
    count.classList.toggle("wb-over", state.reads.tokens > state.reads.most);
    for (const control of [text, patterns.input, kv.input]) control.disabled = state.locked;
    bar.update(state);
    form.hidden = !state.live;
    lens.show(state.inner);
  }
  return { element, update, close: () => { clearTimeout(timer); lens.close(); } };
}

export default { render: createPanel({ name: "Attend", className: "wb-attend", traits: ["variant", "text", "reads", "inner"], parts: attendParts }) };
