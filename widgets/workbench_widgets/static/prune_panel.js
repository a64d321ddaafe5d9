// The pruning panel: choose -> see -> prune -> compare -> keep. Traits in, traits and commands out.

import { createAlert, el, put, shieldKeys } from "./dom.js";
import { compact } from "./maths.js";
import { bytesOf, latestWins } from "./link.js";
import { createRun } from "./run.js";
import { createChoose } from "./choose.js";
import { createSee } from "./see.js";
import { createCompare, createSample } from "./compare.js";
import { createKeep } from "./keep.js";

const TRAITS = ["catalogue", "options", "choice", "facts", "job", "quality", "size", "speed", "samples", "prompt",
  "variants", "selected", "history", "exported", "live"];

function createHeader() {
  const facts = el("span", { class: "wb-facts" });
  const title = el("strong", { class: "wb-model" });
  const state = el("span", { class: "wb-tag" });
  const element = el("div", { class: "wb-header" }, el("span", { class: "wb-brand", text: "Pruning" }), title, state, facts);
  return { element, update({ facts: f, history }) {
    title.textContent = f.name ?? "";
    facts.textContent = `${compact(f.parameters)} parameters · ${f.layers} layers · budget over ${f.of}`;
    state.textContent = history.current ? `on top of ${history.current}` : "dense";
  } };
}

function render({ model, el: host }) {
  const send = (command, more) => model.send({ command, ...more });
  const set = (values) => { for (const [k, v] of Object.entries(values)) model.set(k, v); model.save_changes(); };
  const requests = latestWins((sparsity, request) => set({ sparsity, request }));
  const header = createHeader();
  const alert = createAlert();
  const choose = createChoose((choice) => { requests.reset(); set({ choice }); });
  const see = createSee((sparsity) => requests.ask(sparsity));
  const run = createRun(3, "Prune", { start: () => send("prune"), cancel: () => send("cancel") }, "score");
  const compare = createCompare();
  const sample = createSample((prompt) => set({ prompt }));
  const keep = createKeep({ pick: (selected) => set({ selected }), apply: () => send("apply"), undo: () => send("undo"),
    redo: () => send("redo"), export: (folder) => send("export", { folder }), code: () => send("code") });
  const panels = [header, choose, see, run, sample, compare, keep];
  const root = el("div", { class: "wb-studio wb-prune", role: "region", "aria-label": "Prune panel" }, header.element, alert.element,
    el("div", { class: "wb-flow" }, choose.element, el("div", { class: "wb-middle" }, see.element, run.element, sample.element), compare.element), keep.element);
  shieldKeys(root);

  function refresh() {
    const state = Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
    const busy = ["running", "cancelling"].includes(state.job.state);
    state.locked = !state.live || (busy && state.job.kind !== "score");
    for (const panel of panels) panel.update(state);
    see.wait(busy && state.job.kind === "score" ? "Scoring every weight once…" : "");
  }
  function draw() {
    const frame = model.get("frame");
    if (!frame?.layers) return;
    const took = requests.settle(frame.request);
    see.draw(frame, bytesOf(model.get("cells"), Uint8Array), bytesOf(model.get("kept"), Float32Array), took);
    if (took !== null) root.dataset.latency = [...(root.dataset.latency ?? "").split(" ").slice(-99), took.toFixed(1)].join(" ").trim();
    root.dataset.frame = String(frame.request);
  }
  let pending = false;
  const soon = () => {
    if (pending) return;
    pending = true;
    queueMicrotask(() => { pending = false; refresh(); });
  };
  const handlers = [...TRAITS.map((name) => [`change:${name}`, soon]), ["change:frame", draw],
    ["change:sparsity", () => see.show(model.get("sparsity"))], ["change:error", () => alert.update(model.get("error"))],
    ["msg:custom", (message) => { if (message?.code !== undefined) keep.showCode(message.code); }]];
  for (const [name, handler] of handlers) model.on(name, handler);
  put(host, root);
  see.show(model.get("sparsity"));
  refresh();
  alert.update(model.get("error"));
  draw();
  return () => {
    for (const [name, handler] of handlers) model.off(name, handler);
    see.close();
  };
}

export default { render };
