// All heads as small maps on one canvas: found by eye, by keys, or sorted by a metric.

import { button, el, field, fillSelect, put, select } from "./dom.js";
import { createFallback, createReadout } from "./primitives.js";
import { cividis } from "./maths.js";
import { colourTable, orderBy, shrink, stepInGrid } from "./lens_maths.js";
import { createAtlas } from "./lens_tiles.js";

const LARGEST = 96; // pixels of a small map

/** The panel; `app` has study, head and open(n). */
export function createHeads(app) {
  const { study } = app;
  const atlas = createAtlas(study, shrink, colourTable(cividis(), 255, study.floor, 1, true));
  const canvas = el("canvas", { class: "wb-ln-heads", role: "application", tabindex: "0",
    "aria-label": `${study.layers} layers by ${study.heads} heads as small maps. Arrow keys move, Enter opens the map.` });
  const spot = el("div", { class: "wb-ln-spot", "aria-hidden": "true", hidden: true });
  const stage = el("div", { class: "wb-ln-heads-stage" }, canvas, spot);
  const spoken = createReadout();
  const axis = el("p", { class: "wb-faint" });
  const sort = select((name) => { sorted = name; arrange(); });
  const chips = el("div", { class: "wb-ln-chips", role: "group", "aria-label": "Kinds of heads to point out" });
  const fallback = createFallback("Heads, as a table", tabulate, "wb-ln-table");
  const element = el("div", { class: "wb-ln-panel" },
    el("div", { class: "wb-ln-bar" }, field("Order", sort), chips), stage,
    el("div", { class: "wb-ln-foot" }, spoken, axis), fallback.toggle, fallback.holder);
  let [sorted, order, place, only, columns, size] = [null, [], 0, null, study.layers, 0];
  fillSelect(sort, [[null, "layers across, heads down"], ...study.metrics.map(([name]) => [name, `by ${name}`])], null);

  /** The head in a place of the grid. */
  const headAt = (at) => (sorted ? order[at] : (at % study.layers) * study.heads + Math.floor(at / study.layers));
  const placeOf = (n) => (sorted ? order.indexOf(n) : (n % study.heads) * study.layers + Math.floor(n / study.heads));

  function arrange() {
    order = orderBy(sorted && study.metric(sorted), study.count);
    axis.textContent = sorted ? `Sorted by ${sorted}: ${study.metrics.find(([m]) => m === sorted)[1]}; the largest first.`
      : `Layer 0 to ${study.layers - 1} from left to right, head 0 to ${study.heads - 1} from top to bottom. Queries down, keys across; bright is much, logarithmic.`;
    place = placeOf(app.head);
    draw();
    point(place, false);
    fallback.update();
  }
  function draw() {
    const [width, ratio] = [stage.clientWidth, window.devicePixelRatio || 1];
    if (!width) return;
    size = Math.min(LARGEST, width / columns);
    const rows = Math.ceil(study.count / columns);
    [canvas.width, canvas.height] = [Math.round(size * columns * ratio), Math.round(size * rows * ratio)];
    Object.assign(canvas.style, { width: `${size * columns}px`, height: `${size * rows}px` });
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(element);
    const [ink, paper] = [style.getPropertyValue("--wb-ink"), style.getPropertyValue("--wb-bg")];
    pen.scale(ratio, ratio);
    const font = Math.max(8, Math.min(13, size * 0.28));
    for (let at = 0; at < study.count; at++) {
      const n = headAt(at);
      const [, letter, colour] = study.kindOf(n);
      const [x, y] = [(at % columns) * size, Math.floor(at / columns) * size];
      pen.globalAlpha = only === null || study.kindOf(n)[0] === only ? 1 : 0.18;
      pen.fillStyle = colour;
      pen.fillRect(x + 1, y + 1, size - 2, size - 2);
      pen.fillStyle = paper;
      pen.fillRect(x + 2.5, y + 2.5, size - 5, size - 5);
      const [ax, ay] = atlas.place(n);
      pen.imageSmoothingEnabled = size - 5 < atlas.side;
      pen.drawImage(atlas.canvas, ax, ay, atlas.side, atlas.side, x + 2.5, y + 2.5, size - 5, size - 5);
      if (size < 16) continue;
      pen.fillStyle = ink;
      pen.font = `600 ${font}px system-ui, sans-serif`;
      pen.textAlign = "right";
      pen.textBaseline = "top";
      pen.fillText(letter, x + size - 5, y + 4.5);
    }
    pen.globalAlpha = 1;
    mark();
  }
  function mark() {
    Object.assign(spot.style, { left: `${(place % columns) * size}px`, top: `${Math.floor(place / columns) * size}px`, width: `${size}px`, height: `${size}px` });
  }
  function point(at, speak = true) {
    place = at;
    spot.hidden = false;
    mark();
    const n = headAt(at);
    if (speak || !spoken.textContent) spoken.textContent = study.told(n, sorted ? [sorted, "effective keys", "sink", "local"] : undefined);
  }
  function tabulate(holder) {
    const names = study.metrics.map(([name]) => name);
    const values = names.map((name) => study.metric(name));
    const rows = order.map((n) => el("tr", null, el("th", { scope: "row" }, button(study.nameOf(n), () => app.open(n), { class: "wb-button wb-quiet", "aria-label": `Open head ${study.nameOf(n)}` })),
      el("td", { text: study.kindOf(n)[0] }), names.map((name, i) => el("td", { text: study.figure(name, values[i][n]) }))));
    put(holder, el("table", { class: "wb-table" }, el("thead", null, el("tr", null, el("th", { scope: "col", text: "head" }), el("th", { scope: "col", text: "kind" }), names.map((m) => el("th", { scope: "col", text: m })))), el("tbody", null, rows)));
  }
  function chip([name, letter, colour], i) {
    const mine = Array.from({ length: study.count }, (_, n) => n).filter((n) => study.kindOf(n) === study.kinds[i]).length;
    const node = el("button", { type: "button", class: "wb-ln-chip", "aria-pressed": "false", disabled: mine === 0, onclick: () => {
      only = only === name ? null : name;
      for (const other of chips.children) other.setAttribute("aria-pressed", String(other === node && only !== null));
      draw();
    } }, el("span", { class: "wb-ln-letter", style: `border-color: ${colour}`, text: letter }), `${name} ${mine}`);
    return node;
  }
  put(chips, study.kinds.map(chip));
  const under = (event) => {
    const box = canvas.getBoundingClientRect();
    const [column, row] = [Math.floor((event.clientX - box.left) / size), Math.floor((event.clientY - box.top) / size)];
    const at = row * columns + column;
    return column >= 0 && column < columns && at >= 0 && at < study.count ? at : null;
  };
  canvas.addEventListener("pointermove", (event) => { const at = under(event); if (at !== null) point(at); });
  canvas.addEventListener("click", (event) => { const at = under(event); if (at !== null) app.open(headAt(at)); });
  canvas.addEventListener("focus", () => point(place));
  canvas.addEventListener("keydown", (event) => {
    const next = event.ctrlKey || event.altKey || event.metaKey ? null : stepInGrid(place, event.key, columns, study.count);
    if (event.key === "Enter") app.open(headAt(place));
    else if (next === null) return;
    else point(next);
    event.preventDefault();
  });
  const observer = new ResizeObserver(draw);
  observer.observe(stage);
  return { element, update: arrange, close: () => observer.disconnect() };
}
