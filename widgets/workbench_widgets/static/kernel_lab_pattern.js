// The pattern: a corner weight by weight, and the density of the whole matrix.

import { el, put } from "./dom.js";
import { bytes, cividis, compact, percent, raster, shade } from "./maths.js";

const COLOURS = cividis();

function image(caption) {
  const canvas = el("canvas", { class: "wb-lab-image", role: "img" });
  const words = el("figcaption", { text: caption });
  const element = el("figure", null, canvas, words);

  function update(cells, [height, width], label, says = caption) {
    element.hidden = !(height && width) || cells.length !== height * width;
    if (element.hidden) return;
    [canvas.width, canvas.height] = [width, height];
    canvas.style.aspectRatio = `${width} / ${height}`;
    canvas.getContext("2d").putImageData(new ImageData(raster(cells, COLOURS), width, height), 0, 0);
    canvas.setAttribute("aria-label", label);
    words.textContent = says;
  }
  return { element, update };
}

/** `draw(frame, whole, corner)` shows a pattern. */
export function createPattern() {
  const [near, far] = [image("corner"), image("whole")];
  const facts = el("p", { class: "wb-note" });
  const figures = el("dl", { class: "wb-lab-facts" });
  const ends = [["gone", 0], ["kept", 1]].map(([name, at]) => el("span", { class: "wb-lab-end" },
    el("span", { class: "wb-lab-swatch", style: `background: ${shade(COLOURS, at)}` }), name));
  const element = el("section", { class: "wb-step", "aria-label": "Pattern" }, facts,
    el("div", { class: "wb-lab-images" }, near.element, far.element, figures), el("div", { class: "wb-legend", "aria-hidden": "true" }, ends));

  function draw(frame, whole, corner) {
    if (!frame.rows) return;
    const shape = `${frame.rows} × ${frame.columns}`;
    put(facts, el("strong", { text: shape }), `, ${frame.pattern}, ${percent(frame.zeros)} of the weights are zero`);
    const all = frame.rows * frame.columns;
    const said = [["weights kept", `${compact(all * (1 - frame.zeros))} of ${compact(all)}`], ["dense, in fp32", bytes(4 * all)]];
    if (frame.suits.length) said.push(["formats that suit", frame.suits.filter((f) => f !== "dense").join(", ") || "dense only"]);
    put(figures, said.map(([name, value]) => el("div", null, el("dt", { text: name }), el("dd", { text: value }))));
    near.update(corner, frame.corner, `The first ${frame.corner[0]} × ${frame.corner[1]} weights: ${frame.pattern}`,
      `the first ${frame.corner[0]} × ${frame.corner[1]} weights`);
    far.update(whole, frame.whole, `Density of the whole matrix ${shape}: ${percent(1 - frame.zeros)} kept`, "the whole matrix");
  }
  return { element, draw };
}
