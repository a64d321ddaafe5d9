// Execute: which kernels pay for this variant's masks, and the variant compiled with them.

import { el, field, fillSelect, put, select } from "./dom.js";
import { createBar } from "./run.js";
import { createInside, createPanel } from "./inside.js";

function executeParts({ host, send }) {
  let chosen = { format: "auto", values: "fp32" };
  const format = select((value) => { chosen.format = value; });
  const values = select((value) => { chosen.values = value; });
  const bar = createBar("Compile", { start: () => send("compile", chosen), cancel: () => send("cancel") }, "score");
  const about = el("p", { class: "wb-about" });
  const lab = createInside(host);
  const compile = el("section", { class: "wb-strip", "aria-label": "Compile" }, about,
    el("div", { class: "wb-strip-row" }, field("Format", format), field("Values", values), bar.element));
  const element = el("div", { class: "wb-stacked" }, compile, lab.element);

  function update(state) {
    const { variant, options } = state;
    put(about, "Compile all matrices of ", el("strong", { text: variant.base }), " into a variant that decodes in compiled code; below, time them one by one.",
      variant.compiled ? ` (${variant.name} is compiled from it.)` : "");
    fillSelect(format, options.formats.map((f) => [f, f === "auto" ? "auto: fewest bytes, matrix by matrix" : f]), chosen.format);
    fillSelect(values, options.values.map((v) => [v, v]), chosen.values);
    format.disabled = values.disabled = state.locked;
    bar.update(state);
    compile.hidden = !state.live;
    lab.show(state.inner);
  }
  return { element, update, close: lab.close };
}

export default { render: createPanel({ name: "Execute", className: "wb-execute", traits: ["options", "variant", "inner"], parts: executeParts }) };
