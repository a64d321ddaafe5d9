// The Python that does what was clicked: asked for, shown, copied where the browser lets a page copy.

import { button, el } from "./dom.js";

const COPY = "Copy as Python";

/** A button that asks for the code, and the element that shows it once `show(text)` is called. */
export function createCode(ask) {
  const element = el("pre", { class: "wb-code", hidden: true, tabindex: "0", role: "region", "aria-label": "Python that does the same" });
  const copy = button(COPY, () => ask());

  async function show(text) {
    element.hidden = !text;
    element.textContent = text;
    if (!text) return;
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "Select and copy below";
    }
    setTimeout(() => { copy.textContent = COPY; }, 2000);
  }
  return { element, button: copy, show };
}
