// Step 5: the variants made so far; go on from one, go back, write one out, copy the Python.

import { button, el, field, put, step, uid } from "./dom.js";
import { bytes, percent, significant } from "./maths.js";
import { createCode } from "./code.js";

const HEAD = ["", "variant", "sparsity", "perplexity", "file", "prefill", "decode"];
const ratio = (r) => (r ? `${r.toFixed(2)}×` : "–");

function row(v, group, selected, pick) {
  const radio = v.id < 0 ? null : el("input", { type: "radio", name: group, value: String(v.id), "aria-label": v.name, onchange: () => pick(v.id) });
  if (radio) radio.checked = v.id === selected;
  return el("tr", { class: v.id === selected ? "wb-current" : null }, el("td", null, radio),
    el("th", { scope: "row" }, v.name, v.current ? el("span", { class: "wb-tag", text: "applied" }) : null),
    el("td", { text: percent(v.sparsity) }), el("td", { text: v.perplexity ? significant(v.perplexity) : "–" }),
    el("td", { text: bytes(v.bytes) }), el("td", { text: ratio(v.prefill) }), el("td", { text: ratio(v.decode) }));
}

/** `actions` has pick(id), apply(), undo(), redo(), export(folder), code(). */
export function createKeep(actions) {
  const group = uid("variants");
  const body = el("tbody");
  const empty = el("p", { class: "wb-faint", text: "Each pruning is kept here, beside the dense model." });
  const table = el("table", { class: "wb-variants" }, el("thead", null, el("tr", null,
    HEAD.map((h) => (h ? el("th", { scope: "col", text: h }) : el("td"))))), body);
  const apply = button("Apply", actions.apply, { title: "Go on from this variant" });
  const double = { class: "wb-button wb-double" }; // the studio has them in its header
  const undo = button("Undo", actions.undo, double);
  const redo = button("Redo", actions.redo, double);
  const folder = el("input", { type: "text", class: "wb-text", value: "pruned-model", spellcheck: "false" });
  const write = button("Export", () => actions.export(folder.value));
  const code = createCode(actions.code);
  const done = el("p", { class: "wb-faint", role: "status" });
  const element = step(5, "Keep", el("div", { class: "wb-scroll" }, table), empty,
    el("div", { class: "wb-actions" }, el("div", { class: "wb-buttons" }, apply, undo, redo),
      el("div", { class: "wb-double wb-export" }, field("Folder", folder), write), code.button), done, code.element);
  const key = () => document.activeElement?.closest?.("tbody") === body ? document.activeElement.value : null;

  function update({ variants, selected, history, exported, locked, live }) {
    const focused = key();
    put(body, variants.map((v) => row(v, group, selected, actions.pick)));
    if (focused !== null) body.querySelector(`input[value="${focused}"]`)?.focus();
    const chosen = variants.some((v) => v.id === selected && v.id >= 0);
    table.hidden = variants.length === 0;
    empty.hidden = variants.length > 1;
    apply.disabled = locked || !chosen || !live;
    undo.disabled = locked || !history.can_undo || !live;
    redo.disabled = locked || !history.can_redo || !live;
    write.disabled = locked || !chosen || !live;
    folder.disabled = !live;
    code.button.disabled = !live;
    done.textContent = exported.folder ? `Written and read back: ${exported.folder} (${bytes(exported.bytes)}, ${exported.how})` : "";
  }
  return { element, update, showCode: code.show };
}
