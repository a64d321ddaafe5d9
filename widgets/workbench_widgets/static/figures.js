// Names and values.

import { el } from "./dom.js";

/** A list of figures: [name, value, key class]; name and value are text or nodes. */
export function figureList(rows) {
  return el("dl", { class: "wb-figures" }, rows.map(([name, value, key]) =>
    el("div", null, el("dt", { class: key ? `wb-key ${key}` : null }, name), el("dd", null, value))));
}
