// The picture of what is kept: layers from left to right, modules from top to bottom, one tile per weight matrix.

import { cellAt, cividis, flat, mosaic, moduleMeans, moveCursor, percent, readout, shade } from "./maths.js";
import { el, put, uid } from "./dom.js";
import { createFallback, createReadout } from "./primitives.js";

const TABLE_OF_COLOURS = cividis();

function legend() {
  const stops = Array.from({ length: 9 }, (_, i) => shade(TABLE_OF_COLOURS, i / 8)).join(", ");
  return el("div", { class: "wb-legend", "aria-hidden": "true" }, el("span", { text: "all gone" }),
    el("span", { class: "wb-legend-bar", style: `background: linear-gradient(90deg, ${stops})` }),
    el("span", { text: "all kept" }));
}

function table(names, layers, kept) {
  const head = el("tr", null, el("th", { scope: "col", text: "layer" }),
    names.map((n) => el("th", { scope: "col", text: n })));
  const rows = Array.from({ length: layers }, (_, layer) => el("tr", null,
    el("th", { scope: "row", text: String(layer) }),
    names.map((_, module) => el("td", { text: percent(kept[flat({ layer, module }, names.length)]) }))));
  return el("table", { class: "wb-table" }, el("caption", { text: "Share of the weights kept" }),
    el("thead", null, head), el("tbody", null, rows));
}

/** Draw tiles of whole pixels with a gap between layers and modules. */
function paint(canvas, buffer, frame) {
  const { layers, names, tile } = frame;
  const context = canvas.getContext("2d");
  const [w, h] = [canvas.width / layers, canvas.height / names.length];
  const gap = Math.max(1, Math.round(Math.min(w, h) * 0.08));
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = w - gap < tile;
  for (let layer = 0; layer < layers; layer++) {
    const [x0, x1] = [Math.round(layer * w), Math.round((layer + 1) * w) - gap];
    for (let module = 0; module < names.length; module++) {
      const [y0, y1] = [Math.round(module * h), Math.round((module + 1) * h) - gap];
      context.drawImage(buffer, layer * tile, module * tile, tile, tile, x0, y0, x1 - x0, y1 - y0);
    }
  }
}

function axis(layers) {
  const every = layers > 20 ? 5 : layers > 10 ? 2 : 1;
  return Array.from({ length: layers }, (_, i) => i).filter((i) => i % every === 0)
    .map((i) => el("span", { style: `left: ${((i + 0.5) / layers) * 100}%`, text: String(i) }));
}

/** The picture with its labels, cell cursor, readout and table. `update(frame, cells, kept)` redraws it. */
export function createPicture() {
  const canvas = el("canvas", { class: "wb-canvas", role: "img", tabindex: "0" });
  const cursorRing = el("div", { class: "wb-cursor", hidden: true });
  const [labels, means, ticks] = ["wb-modules", "wb-means", "wb-ticks"].map((c) => el("div", { class: c, "aria-hidden": "true" }));
  const hint = el("span", { id: uid("hint"), class: "wb-visually-hidden",
    text: "Arrow keys move over layers and modules; the readout below says what is kept." });
  const spoken = createReadout();
  const fallback = createFallback("Share kept, as a table", (holder) => { if (now) put(holder, table(now.names, now.layers, now.kept)); });
  const waiting = el("p", { class: "wb-waiting" });
  const stage = el("div", { class: "wb-stage" }, canvas, cursorRing, waiting);
  const element = el("div", { class: "wb-picture" },
    el("div", { class: "wb-picture-grid" }, labels, stage, means, el("span", { class: "wb-axis", "aria-hidden": "true", text: "layer" }), ticks), hint,
    el("div", { class: "wb-picture-foot" }, spoken, legend()), fallback.toggle, fallback.holder);
  canvas.setAttribute("aria-describedby", hint.id);

  const buffer = document.createElement("canvas");
  let now = null;
  let cursor = { layer: 0, module: 0 };
  let image = null;

  function point(at) {
    if (!now || !at) return;
    cursor = at;
    const [w, h] = [100 / now.layers, 100 / now.names.length];
    cursorRing.style.cssText = `left: ${at.layer * w}%; top: ${at.module * h}%; width: ${w}%; height: ${h}%`;
    cursorRing.hidden = false;
    spoken.textContent = readout(cursor, now.names, now.kept);
  }

  function resize() {
    if (!now) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(stage.clientWidth * ratio), Math.round(stage.clientHeight * ratio)];
    if (width && height && (canvas.width !== width || canvas.height !== height)) {
      [canvas.width, canvas.height] = [width, height];
    }
    paint(canvas, buffer, now);
  }

  function label(frame) {
    const total = frame.total ? 1 - frame.removed / frame.total : NaN;
    canvas.setAttribute("aria-label", `${frame.layers} layers by ${frame.names.length} modules: ${percent(total)} of the weights kept`);
    put(means, moduleMeans(frame.kept, frame.layers, frame.names.length).map((m) => el("span", { text: percent(m, 0) })));
  }

  function update(header, cells, kept) {
    const shape = (f) => f && [f.layers, f.tile, f.names].join();
    const changed = shape(now) !== shape(header);
    now = { ...header, kept };
    const [width, height] = [now.layers * now.tile, now.names.length * now.tile];
    if (changed) {
      [buffer.width, buffer.height] = [width, height];
      image = new ImageData(width, height);
      put(labels, now.names.map((n) => el("span", { text: n })));
      put(ticks, axis(now.layers));
      stage.style.setProperty("--wb-rows", now.names.length);
      cursor = { layer: 0, module: 0 };
      cursorRing.hidden = true;
    }
    mosaic(cells, now.layers, now.names.length, now.tile, TABLE_OF_COLOURS, image.data);
    buffer.getContext("2d").putImageData(image, 0, 0);
    resize();
    label(now);
    if (!cursorRing.hidden) point(cursor);
    fallback.update();
  }

  const under = (event) => {
    const box = canvas.getBoundingClientRect();
    return now && cellAt(event.clientX - box.left, event.clientY - box.top, box.width, box.height, now.layers, now.names.length);
  };
  canvas.addEventListener("pointermove", (event) => point(under(event)));
  canvas.addEventListener("focus", () => point(cursor));
  canvas.addEventListener("keydown", (event) => {
    const next = now && moveCursor(cursor, event.key, now.layers, now.names.length);
    if (!next) return;
    event.preventDefault();
    event.stopPropagation();
    point(next);
  });
  const observer = new ResizeObserver(resize);
  observer.observe(stage);
  return {
    element, update, wait: (text) => { waiting.textContent = text; waiting.hidden = !text; stage.classList.toggle("wb-stale", Boolean(text)); },
    close: () => observer.disconnect(),
  };
}
