// What sparse patterns keep and cost: a grid over heads, curves of all patterns, the harm at each position.

import { el, field, fillSelect, put, select } from "./dom.js";
import { percent, significant } from "./maths.js";
import { createChart } from "./lens_chart.js";
import { createScaleBar } from "./canvas_map.js";
import { createGrid, part } from "./lens_grid.js";

/** A number of an axis: 0.4, 0.05. */
const plainly = (value) => String(Number(value.toPrecision(3)));

/** The panel; `app` has study, point, choose(point), open(head). */
export function createSparsity(app) {
  const { study } = app;
  const [name, budget] = [select((value) => app.choose(study.points.findIndex((p) => p.name === value))), select((value) => app.choose(Number(value)))];
  const what = select((value) => { shown = value; heat(); });
  let shown = "recall";
  fillSelect(what, [["recall", "recall: share of the attention kept"], ["cost", "cost: share of the blocks read"]], shown);
  const figures = el("dl", { class: "wb-ln-figures" });
  const values = () => (shown === "recall" ? study.recalls(app.point) : study.costs(app.point));
  const grid = createGrid({
    describe: (layer, head) => `Layer ${layer}, head ${head}: ${percent(study.recalls(app.point)[layer * study.heads + head])} of the attention kept, ${percent(study.costs(app.point)[layer * study.heads + head])} of the blocks read`,
    act: (layer, head) => app.open(layer * study.heads + head),
  });
  const scale = createScaleBar();
  const at = (id) => study.points[id];
  const named = (p) => `${p.name}, budget ${p.budget}`;
  const curves = createChart({ title: "Attention kept against blocks read", xLabel: "blocks read", yLabel: "attention kept", high: 1, wide: 1, zero: false,
    format: { x: (v) => percent(v, 0), y: (v) => percent(v, 0) }, pick: (id) => app.choose(id),
    describe: (id) => `${named(at(id))}: keeps ${percent(at(id).recall)} with ${percent(at(id).cost)} of the blocks` });
  const harm = createChart({ title: "KL to dense at each position, nats", xLabel: "position", yLabel: "KL, nats", format: { x: String, y: plainly } });
  const price = createChart({ title: "Time of a pass against dense", xLabel: "blocks read", yLabel: "time / dense", wide: 1, least: 1, format: { x: (v) => percent(v, 0), y: (v) => `${plainly(v)}×` },
    pick: (id) => app.choose(id), describe: (id) => `${named(at(id))}: ${significant(at(id).ratio)} times the dense pass` });
  const apart = el("p", { class: "wb-faint" });
  const element = el("div", { class: "wb-ln-panel" },
    el("div", { class: "wb-ln-bar" }, field("Pattern", name), field("Budget", budget), figures),
    el("div", { class: "wb-ln-two" },
      part("Recall against cost, all patterns", curves.element, el("p", { class: "wb-faint", text: "Choose a point: with Tab and the arrow keys, or a click." })),
      part("Head by head", el("div", { class: "wb-ln-bar" }, field("Shown", what), grid.buttons, scale.element), el("div", { class: "wb-ln-axes" }, el("span", { class: "wb-faint wb-ln-down", text: "head ↓" }), grid.element), el("p", { class: "wb-faint", text: "Layers from left to right. Enter opens a head's map with the blocks over it." }), grid.spoken),
      part("What it does to the output", harm.element, apart), part("What it saves", price.element)));

  function heat() {
    const all = values();
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const span = high - low || 1;
    grid.update({ columns: study.layers, rows: study.heads, height: Math.max(90, Math.min(22 * study.heads, 320)), value: (layer, head) => (all[layer * study.heads + head] - low) / span,
      label: `${shown} of ${study.layers} layers by ${study.heads} heads, ${percent(low)} to ${percent(high)}` });
    const digits = high - low < 0.002 ? 3 : 1;
    scale.update(percent(low, digits), percent(high, digits));
  }
  function lines(y) {
    return study.patterns.map((pattern, look) => ({ name: pattern, look, faint: pattern !== at(app.point).name,
      points: study.points.map((p, id) => [p.cost, y(p), id]).filter(([, , id]) => at(id).name === pattern).sort((a, b) => a[0] - b[0]) }));
  }
  function update() {
    if (app.point === null) { app.choose(Math.max(0, study.points.findIndex((p) => p.read))); return; }
    const point = at(app.point);
    fillSelect(name, study.patterns.map((p) => [p, p]), point.name);
    fillSelect(budget, study.points.map((p, id) => [String(id), String(p.budget), p.name]).filter(([, , n]) => n === point.name).map(([id, text]) => [id, text]), String(app.point));
    put(figures, [["attention kept", percent(point.recall)], ["blocks read", percent(point.cost)], ["KL to dense", point.read ? `${significant(point.divergence)} nats` : "not read"], ["time / dense", point.read ? `${significant(point.ratio)}×` : "not read"]]
      .map(([label, text]) => el("div", null, el("dt", { text: label }), el("dd", { text }))));
    curves.update({ lines: lines((p) => p.recall), chosen: app.point });
    price.update({ lines: lines((p) => p.ratio), chosen: app.point, told: "1 is the dense pass" });
    const read = point.read ? app.point : study.points.findIndex((p) => p.name === point.name && p.read);
    apart.textContent = point.read ? "" : read < 0 ? "The text was not read with this pattern." : `The text was read at budget ${at(read).budget} only: that is shown.`;
    const wave = read < 0 ? [] : [...study.divergences(read)];
    const step = study.tokens / study.spread;
    harm.update({ lines: [{ name: named(at(Math.max(read, 0))), look: study.patterns.indexOf(point.name), solid: true, points: wave.map((v, i) => [Math.round((i + 0.5) * step), v]) }],
      told: read < 0 ? "" : `${named(at(read))}: mean ${significant(at(read).divergence)}, at most ${significant(Math.max(...wave))}` });
    heat();
  }
  return { element, update, points: update, close: grid.close };
}
