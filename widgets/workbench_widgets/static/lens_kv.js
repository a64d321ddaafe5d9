// Which rows smaller KV caches keep over time, and how large they are.

import { el, field, fillSelect, select } from "./dom.js";
import { bytes, percent } from "./maths.js";
import { createChart } from "./lens_chart.js";
import { createGrid, part } from "./lens_grid.js";
import { heldShare } from "./lens_maths.js";

const COLUMNS = 512;

/** The panel; `app` has study, layer, inLayer. */
export function createKv(app) {
  const { study } = app;
  const { prompt, steps, methods, heads, budget } = study.kv;
  const total = prompt + steps;
  const width = Math.ceil(total / COLUMNS);
  const columns = Math.ceil(total / width);
  let method = 0;
  const chosen = select((value) => { method = methods.indexOf(value); update(); });
  const first = () => Math.floor(app.inLayer / (study.heads / heads));
  const rows = () => study.dropped(method, app.layer, first());
  const span = (column) => [column * width, Math.min(total, (column + 1) * width)];
  const where = (column) => {
    const [from, to] = span(column);
    return from + 1 === to ? `position ${study.quoted(from)}` : `positions ${study.quoted(from)} to ${study.quoted(to - 1)}`;
  };
  const heldWords = (share, wide) => (wide > 1 ? `${percent(share, 0)} held` : share ? "held" : "dropped");
  const over = createGrid({ describe: (column, row) => {
    const share = heldShare(rows(), ...span(column), prompt + row);
    return `${row} tokens after the prompt, ${where(column)}: ${Number.isFinite(share) ? heldWords(share, width) : "not read yet"}`;
  } });
  const last = createGrid({ describe: (column, row) => `${methods[row]}, ${where(column)}: ${heldWords(heldShare(study.dropped(row, app.layer, first()), ...span(column), total), width)} at the end`,
    act: (_, row) => { method = row; update(); } });
  const foot = (text, map) => el("div", { class: "wb-map-foot" }, el("p", { class: "wb-faint", text }), map.buttons);
  const names = el("div", { class: "wb-ln-names", "aria-hidden": "true" }, methods.map((m) => el("span", { text: m })));
  const grown = createChart({ title: "Size of the cache", xLabel: "tokens after the prompt", yLabel: "bytes", format: { x: String, y: bytes } });
  const title = el("p", { class: "wb-faint" });
  const ends = el("div", { class: "wb-ln-ends wb-faint" }, el("span", { text: "position 0" }), el("span", { text: `the prompt ends at ${prompt}, the text at ${total}` }));
  const element = el("div", { class: "wb-ln-panel" },
    el("div", { class: "wb-ln-bar" }, field("Method", chosen), title),
    part("Rows held while the text goes on", over.element, ends, foot("Positions across, tokens after the prompt down. Bright: held; dark: dropped; empty: not read yet.", over), over.spoken),
    el("div", { class: "wb-ln-two" },
      part("Held at the end, method by method", el("div", { class: "wb-ln-named" }, names, last.element), last.spoken, foot("Enter or a click shows a method above.", last)),
      part("Size of the cache, all layers", grown.element)));

  function update() {
    fillSelect(chosen, methods.map((m) => [m, m]), methods[method]);
    const dropped = rows();
    title.textContent = `Layer ${app.layer}, KV head ${first()} (shared by ${study.heads / heads} query heads); each method has a budget of ${percent(budget, 0)} of the prompt's ${prompt} tokens.`;
    over.update({ columns, rows: steps + 1, height: Math.max(120, Math.min(260, 4 * (steps + 1))), value: (column, row) => heldShare(dropped, ...span(column), prompt + row),
      label: `${methods[method]}: rows held, positions across, ${steps + 1} times down` });
    last.update({ columns, rows: methods.length, height: 20 * methods.length, value: (column, row) => heldShare(study.dropped(row, app.layer, first()), ...span(column), total),
      label: `Rows held at the end: ${methods.join(", ")} down, positions across` });
    const line = (n) => [...study.cacheBytes(n)].map((size, step) => [step, size]);
    grown.update({ lines: ["full cache", ...methods].map((name, n) => ({ name, look: n, faint: n > 0 && n - 1 !== method, points: line(n) })),
      told: `${methods[method]} ends with ${bytes(line(method + 1).at(-1)[1])} of ${bytes(line(0).at(-1)[1])}` });
    element.dataset.method = methods[method];
  }
  return { element, update, close: () => { over.close(); last.close(); } };
}
