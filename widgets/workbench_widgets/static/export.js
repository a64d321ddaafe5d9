// The menu of what can be written.

import { button, el, field, uid } from "./dom.js";
import { bytes } from "./maths.js";

const KINDS = [["model", "Model", "a Hugging Face folder of the variant"], ["recipe", "Recipe", "JSON that repeats it"],
  ["python", "Python", "a program that makes all variants again"], ["report", "Report", "a page with comparison, traces and maps, for any browser"]];

/** `write(what, folder)` is called. */
export function createExport(write) {
  const folder = el("input", { type: "text", class: "wb-text", value: "exports", spellcheck: "false" });
  const buttons = KINDS.map(([what, text]) => button(text, () => write(what, folder.value)));
  const abouts = KINDS.map(() => el("span", { id: uid("about"), class: "wb-faint" }));
  buttons.forEach((node, i) => node.setAttribute("aria-describedby", abouts[i].id));
  const list = el("div", { class: "wb-menu-list" }, buttons.map((node, i) => [node, abouts[i]]).flat());
  const done = el("p", { class: "wb-faint wb-written", role: "status" });
  const open = el("summary", { class: "wb-button", text: "Export" });
  const element = el("details", { class: "wb-menu" }, open, el("div", { class: "wb-menu-box" }, field("Folder", folder), list, done));
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !element.open) return;
    element.open = false;
    open.focus();
  });

  function update({ written, locked, live, chooser }) {
    for (const [i, [what]] of KINDS.entries()) {
      const needs = ["model", "recipe"].includes(what) && !chooser.selected;
      buttons[i].disabled = locked || needs;
      abouts[i].textContent = needs ? "of a variant: pick one first" : KINDS[i][2];
    }
    folder.disabled = !live;
    element.hidden = !live;
    const words = written.path ? `Written: ${written.path} (${bytes(written.bytes)})` : "";
    if (done.textContent !== words) done.textContent = words;
  }
  return { element, update };
}
