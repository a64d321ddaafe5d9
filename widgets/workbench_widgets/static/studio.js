// The studio: a header that all panels share, and the panels, each a view of its own, shown when they are visited.

import { button, createAlert, el, field, fillSelect, put, select, shieldKeys } from "./dom.js";
import { compact, duration } from "./maths.js";
import { createTabs } from "./primitives.js";
import { createInside } from "./inside.js";
import { createExport } from "./export.js";

const SHARED = ["facts", "panel", "places", "chooser", "written", "job", "live"];

/** What runs, whichever panel began it. */
function createBusy(cancel) {
  const bar = el("progress", { class: "wb-progress", max: "1", value: "0", "aria-label": "Progress of the studio" });
  const text = el("span", { class: "wb-busy-text", role: "status" });
  const stop = button("Cancel", cancel, { "aria-label": "Cancel what runs" });
  const element = el("div", { class: "wb-busy" }, text, bar, stop);
  function update({ job }) {
    const running = ["running", "cancelling"].includes(job.state);
    bar.hidden = stop.hidden = !running;
    stop.disabled = job.state !== "running";
    bar.value = job.fraction ?? 0;
    const after = Number.isFinite(job.seconds) && !running ? ` (${duration(job.seconds)})` : "";
    const words = job.kind === "score" && !running ? "" : (job.text ?? "") + after;
    if (text.textContent !== words) text.textContent = words;
    text.dataset.state = job.state;
  }
  return { element, update };
}

/** Which variant is looked at, in all panels; what is applied; back and forth. */
function createChooser({ pick, undo, redo }) {
  const variant = select((value) => pick(Number(value)));
  const [back, forth] = [button("Undo", undo), button("Redo", redo)];
  const applied = el("span", { class: "wb-tag" });
  const element = el("div", { class: "wb-chooser" }, field("Variant", variant), applied, back, forth);
  function update({ chooser, locked, live }) {
    const name = (number) => chooser.variants.find(([n]) => n === number)?.[1] ?? "dense";
    fillSelect(variant, chooser.variants.map(([n, text]) => [String(n), text]), String(chooser.selected));
    variant.title = name(chooser.selected);
    applied.textContent = `Prune on ${name(chooser.applied)}`;
    applied.title = `Prune goes on from ${name(chooser.applied)}`;
    variant.disabled = locked;
    back.disabled = locked || !chooser.can_undo;
    forth.disabled = locked || !chooser.can_redo;
    back.hidden = forth.hidden = !live;
    applied.hidden = !live || !chooser.applied;
  }
  return { element, update };
}

function render({ model, el: place, host }) {
  const send = (command, more) => model.send({ command, ...more });
  const live = model.get("live");
  const titles = model.get("titles");
  const openings = titles.map(() => el("p", { class: "wb-faint" }));
  const insides = new Map(titles.map(([name], i) => [name, createInside(host, openings[i])]));
  const tabs = createTabs(titles, "Panels", (name, panel) => {
    put(panel, insides.get(name).element);
    root.dataset.panel = name;
    if (model.get("panel") !== name) { model.set("panel", name); model.save_changes(); }
  });
  const chooser = createChooser({ pick: (number) => send("select", { number }), undo: () => send("undo"), redo: () => send("redo") });
  const busy = createBusy(() => send("cancel"));
  const menu = createExport((what, folder) => send("export", { what, folder }));
  const alert = createAlert();
  const [name, facts] = [el("strong", { class: "wb-model" }), el("span", { class: "wb-faint" })];
  const top = el("div", { class: "wb-top" }, el("div", { class: "wb-title" }, name, facts), chooser.element, menu.element);
  const root = el("div", { class: "wb-studio wb-joined", role: "region", "aria-label": "Studio" }, top,
    el("div", { class: "wb-tabline" }, tabs.list, busy.element), alert.element, tabs.panels);
  shieldKeys(root);

  function refresh() {
    const state = Object.fromEntries(SHARED.map((trait) => [trait, model.get(trait)]));
    state.locked = !state.live || (["running", "cancelling"].includes(state.job.state) && state.job.kind !== "score");
    name.textContent = state.facts.name ?? "";
    facts.textContent = `${compact(state.facts.parameters)} parameters · ${state.facts.layers} layers`;
    for (const part of [chooser, busy, menu]) part.update(state);
    for (const line of openings) line.textContent = state.live ? "Opening…" : "It was not opened before the kernel stopped.";
    for (const [panel, reference] of Object.entries(state.places)) insides.get(panel)?.show(reference);
    if (insides.has(state.panel) && tabs.now() !== state.panel) tabs.show(state.panel);
  }
  let pending = false;
  const soon = () => {
    if (pending) return;
    pending = true;
    queueMicrotask(() => { pending = false; refresh(); });
  };
  const handlers = [...SHARED.map((trait) => [`change:${trait}`, soon]), ["change:error", () => alert.update(model.get("error"))]];
  for (const [event, handler] of handlers) model.on(event, handler);
  put(place, root);
  root.classList.toggle("wb-saved", !live);
  refresh();
  if (tabs.now() === null) tabs.show(titles[0][0]);
  alert.update(model.get("error"));
  return () => {
    for (const [event, handler] of handlers) model.off(event, handler);
    for (const inside of insides.values()) inside.close();
  };
}

export default { render };
