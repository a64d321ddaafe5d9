// The pattern: a corner weight by weight, and the density of the whole matrix.

import { el, put } from "./dom.js";
import { bytes, compact, percent } from "./maths.js";
import { createReadout } from "./primitives.js";
import { createCanvasMap, createScaleBar, INKS, paintPixels, stretch } from "./canvas_map.js";

const HIGH = 190; // pixels

/** One picture; `told(x, y, share)` names a cell. */
function createImage(told, spoken) {
  const buffer = document.createElement("canvas");
  let [cells, width] = [[], 0];
  const map = createCanvasMap({ name: "wb-lab-image", stage: "wb-lab-image-stage", all: "All", spoken, describe: (x, y) => told(x, y, cells[y * width + x] / 255),
    paint: (pen, view, room) => stretch(pen, buffer, view, room) });
  const words = el("figcaption");
  const element = el("figure", null, map.element, el("div", { class: "wb-map-foot" }, words, map.buttons));

  function update(values, [rows, columns], label, says) {
    element.hidden = !(rows && columns) || values.length !== rows * columns;
    if (element.hidden) return;
    [cells, width] = [values, columns];
    paintPixels(buffer, columns, rows, (pixels) => cells.forEach((cell, i) => { pixels[i] = INKS[cell]; }));
    map.element.style.width = `${Math.min(360, (HIGH * columns) / rows)}px`;
    map.update({ columns, rows, label, height: HIGH });
    words.textContent = says;
  }
  return { element, update, close: map.close };
}

/** `draw(frame, whole, corner)` shows a pattern. */
export function createPattern() {
  let now = null;
  const spoken = createReadout("wb-faint");
  const part = (n, count, all) => { const [from, to] = [Math.floor((n * all) / count), Math.ceil(((n + 1) * all) / count) - 1]; return from === to ? String(from) : `${from} to ${to}`; };
  const near = createImage((x, y, kept) => `output ${y}, input ${x}: ${kept ? "kept" : "gone"}`, spoken);
  const far = createImage((x, y, kept) => `outputs ${part(y, now.whole[0], now.rows)}, inputs ${part(x, now.whole[1], now.columns)}: ${percent(kept)} kept`, spoken);
  const facts = el("p", { class: "wb-note" });
  const figures = el("dl", { class: "wb-lab-facts" });
  const element = el("section", { class: "wb-step", "aria-label": "Pattern" }, facts,
    el("div", { class: "wb-lab-images" }, near.element, far.element, figures), el("div", { class: "wb-map-foot" }, spoken, createScaleBar("gone", "kept").element));

  function draw(frame, whole, corner) {
    if (!frame.rows) return;
    now = frame;
    const shape = `${frame.rows} × ${frame.columns}`;
    put(facts, el("strong", { text: shape }), `, ${frame.pattern}, ${percent(frame.zeros)} of the weights are zero`);
    const all = frame.rows * frame.columns;
    const said = [["weights kept", `${compact(all * (1 - frame.zeros))} of ${compact(all)}`], ["dense, in fp32", bytes(4 * all)]];
    if (frame.suits.length) said.push(["formats that suit", frame.suits.filter((f) => f !== "dense").join(", ") || "dense only"]);
    put(figures, said.map(([name, value]) => el("div", null, el("dt", { text: name }), el("dd", { text: value }))));
    near.update(corner, frame.corner, `The first ${frame.corner[0]} × ${frame.corner[1]} weights: ${frame.pattern}`,
      `first ${frame.corner[0]} × ${frame.corner[1]}`);
    far.update(whole, frame.whole, `Density of the whole matrix ${shape}: ${percent(1 - frame.zeros)} kept`, "whole matrix");
  }
  return { element, draw, close: () => { near.close(); far.close(); } };
}
