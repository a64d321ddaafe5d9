// The kernel lab: a matrix -> its kernels -> time -> read. Traits in, traits and commands out.

import { createAlert, el, put, shieldKeys } from "./dom.js";
import { bytesOf, latestWins } from "./link.js";
import { createRun } from "./run.js";
import { createCode } from "./code.js";
import { createMatrix } from "./kernel_lab_choose.js";
import { createKernels } from "./kernel_lab_kernels.js";
import { createPattern } from "./kernel_lab_pattern.js";
import { createRead } from "./kernel_lab_read.js";

const LAB_TRAITS = ["options", "choice", "frame", "job", "timings", "listing", "controls", "live"];

function createTitle() {
  const [title, facts] = [el("strong", { class: "wb-model" }), el("span", { class: "wb-facts" })];
  const element = el("div", { class: "wb-header" }, el("span", { class: "wb-brand", text: "Kernel lab" }), title, facts);
  return { element, update({ frame, timings }) {
    title.textContent = frame.title ?? "";
    facts.textContent = timings.rows?.length ? `${timings.threads === 1 ? "1 thread" : `${timings.threads} threads`} · ${timings.cold ? "cold" : "warm"}` : "";
  } };
}

function render({ model, el: host }) {
  const send = (command, more) => model.send({ command, ...more });
  const set = (values) => { for (const [k, v] of Object.entries(values)) model.set(k, v); model.save_changes(); };
  const requests = latestWins((choice, request) => set({ choice, request }));
  let sliding = null;
  const change = (choice) => { requests.reset(); sliding = null; set({ choice }); };
  const start = () => { if (sliding) change(sliding); send("run"); };
  const header = createTitle();
  const alert = createAlert();
  const matrix = createMatrix({ change, slide: (choice) => { sliding = choice; requests.ask(choice); soon(); }, models: () => send("models") });
  const kernels = createKernels(change);
  const pattern = createPattern();
  const run = createRun(3, "Run", { start, cancel: () => send("cancel") });
  const code = createCode(() => send("code"));
  const read = createRead(code, (kernel) => send("instructions", kernel));
  const chosen = el("div", { class: "wb-lab-choose" }, matrix.element, kernels.element);
  const root = el("div", { class: "wb-studio wb-lab", role: "region", "aria-label": "Kernel lab" }, header.element, alert.element,
    el("div", { class: "wb-flow wb-lab-flow" }, chosen, el("div", { class: "wb-middle" }, pattern.element, run.element, read.element)));
  shieldKeys(root);

  function refresh() {
    const state = Object.fromEntries(LAB_TRAITS.map((name) => [name, model.get(name)]));
    state.choice = sliding ?? state.choice;
    state.locked = !state.live || ["running", "cancelling"].includes(state.job.state);
    for (const part of [header, matrix, kernels, run, read]) part.update(state);
    chosen.hidden = run.element.hidden = !state.controls || !state.live;
    root.classList.toggle("wb-lab-finished", chosen.hidden);
  }
  function draw() {
    const frame = model.get("frame");
    if (requests.settle(frame.request) !== null && sliding && frame.request === model.get("request")) sliding = null;
    pattern.draw(frame, bytesOf(model.get("whole"), Uint8Array), bytesOf(model.get("corner"), Uint8Array));
    root.dataset.frame = String(frame.request);
  }
  let pending = false;
  const soon = () => {
    if (pending) return;
    pending = true;
    queueMicrotask(() => { pending = false; refresh(); });
  };
  const handlers = [...LAB_TRAITS.map((name) => [`change:${name}`, soon]), ["change:frame", draw],
    ["change:error", () => alert.update(model.get("error"))],
    ["msg:custom", (message) => { if (message?.code !== undefined) code.show(message.code); }]];
  for (const [name, handler] of handlers) model.on(name, handler);
  put(host, root);
  refresh();
  alert.update(model.get("error"));
  draw();
  return () => { for (const [name, handler] of handlers) model.off(name, handler); pattern.close(); };
}

export default { render };
