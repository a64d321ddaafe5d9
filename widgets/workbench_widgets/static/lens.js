// The lens: a study in, panels out. What needs the kernel goes by messages; without one the rest still works.

import { createAlert, el, field, fillSelect, put, select, shieldKeys } from "./dom.js";
import { createTabs } from "./primitives.js";
import { bytesOf } from "./link.js";
import { createStudy, inflate } from "./lens_data.js";
import { createHeads } from "./lens_heads.js";
import { createMap } from "./lens_map.js";
import { createText } from "./lens_text.js";
import { createSparsity } from "./lens_sparsity.js";
import { createKv } from "./lens_kv.js";

/** Blocks of a pattern for a head: out of the page, or by message. */
function createBlocks(app, packed) {
  const { study, model, live } = app;
  let [seq, waiting, all] = [0, null, null];
  function heard(content, buffers) {
    if (content.blocks?.seq === seq && waiting) { waiting(bytesOf(buffers[0], Uint8Array)); waiting = null; }
  }
  if (live) model.on("msg:custom", heard);
  async function blocks(n, point) {
    if (live) {
      waiting?.(null);
      seq += 1;
      model.send({ command: "blocks", seq, layer: Math.floor(n / study.heads), head: n % study.heads, point });
      return new Promise((answer) => { waiting = answer; });
    }
    if (!packed.length) return null;
    all ??= inflate(packed);
    const size = Math.ceil((study.blocks * (study.blocks + 1)) / 16);
    return (await all).subarray((point * study.count + n) * size, (point * study.count + n + 1) * size);
  }
  return { blocks, close: () => live && model.off("msg:custom", heard) };
}

/** Tabs over panels that are made when they are first shown. */
function createPanels(names, make, changed) {
  const made = new Map();
  const tabs = createTabs(names, "Panels of the lens", (name, place) => {
    if (!made.has(name)) { made.set(name, make(name)); put(place, made.get(name).element); }
    changed(name);
    made.get(name).update();
  });
  return { ...tabs, current: () => made.get(tabs.now()), close: () => made.forEach((panel) => panel.close()) };
}

/** The choice of a head that all panels share. */
function createHeadChoice(app) {
  const { study } = app;
  const numbers = (count) => Array.from({ length: count }, (_, i) => [String(i), String(i)]);
  const layer = select((value) => app.turn(Number(value) * study.heads + app.inLayer));
  const head = select((value) => app.turn(app.layer * study.heads + Number(value)));
  const told = el("p", { class: "wb-ln-told", role: "status" });
  const element = el("div", { class: "wb-ln-choice" }, field("Layer", layer), field("Head", head), told);
  function update() {
    fillSelect(layer, numbers(study.layers), String(app.layer));
    fillSelect(head, numbers(study.heads), String(app.inLayer));
    const [kind, letter, colour] = study.kindOf(app.head);
    put(told, el("span", { class: "wb-ln-letter", style: `border-color: ${colour}`, text: letter }), study.told(app.head).replace(/^[^:]*: /, "").replace(kind, kind));
  }
  return { element, update };
}

async function render({ model, el: host }) {
  put(host, el("div", { class: "wb-studio wb-ln" }, el("p", { class: "wb-faint", text: "Unpacking the study…" })));
  const header = model.get("header");
  const study = createStudy(header, await inflate(bytesOf(model.get("data"), Uint8Array)));
  const [begin, live] = [model.get("begin"), model.get("live")];
  const app = {
    study, model, live, head: begin.layer * study.heads + begin.head, point: null,
    get layer() { return Math.floor(app.head / study.heads); },
    get inLayer() { return app.head % study.heads; },
    turn(n) { app.head = n; choice.update(); tabs.current().update(); root.dataset.head = study.nameOf(n); },
    open(n) { app.head = n; choice.update(); root.dataset.head = study.nameOf(n); tabs.show("map", true); },
    choose(point) { app.point = point; tabs.current().points?.(); },
  };
  const source = createBlocks(app, bytesOf(model.get("kept"), Uint8Array));
  app.blocks = source.blocks;
  const makers = { heads: createHeads, map: createMap, text: createText, sparsity: createSparsity, kv: createKv };
  const names = [["heads", "Heads"], ["map", "Map"], ["text", "Text"], ...(study.points.length ? [["sparsity", "Sparsity"]] : []), ...(study.kv ? [["kv", "KV cache"]] : [])];
  const tabs = createPanels(names, (name) => makers[name](app), (name) => { root.dataset.panel = name; });
  const choice = createHeadChoice(app);
  const alert = createAlert();
  const root = el("div", { class: "wb-studio wb-ln", role: "region", "aria-label": "Attention lens" },
    el("div", { class: "wb-header" }, el("span", { class: "wb-brand", text: "Attention lens" }), el("strong", { class: "wb-model", text: study.source }),
      el("span", { class: "wb-facts", text: `${study.layers} × ${study.heads} heads over ${study.tokens} tokens` })),
    el("div", { class: "wb-ln-top" }, tabs.list, choice.element), alert.element, tabs.panels);
  const failed = () => alert.update(model.get("error"));
  model.on("change:error", failed);
  shieldKeys(root);
  put(host, root);
  root.dataset.head = study.nameOf(app.head);
  choice.update();
  tabs.show(names.some(([name]) => name === begin.panel) ? begin.panel : "heads");
  return () => { model.off("change:error", failed); source.close(); tabs.close(); };
}

export default { render };
