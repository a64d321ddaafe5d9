// Views inside a view, and what all panels of the studio have in common.

import { createAlert, el, put, shieldKeys } from "./dom.js";

const TRIES = 3; // anywidget gives up after ten seconds: too few on a machine that is busy

/** The widget that a trait names; waits for it as long as is reasonable. */
async function findWidget(host, reference, signal) {
  for (let tried = 1; ; tried++) {
    try {
      return await host.getWidget(reference);
    } catch (error) {
      if (signal.aborted || tried >= TRIES || !/timed out/i.test(error?.message ?? "")) throw error;
    }
  }
}

/** A place for the view that a trait names; `show(reference)` puts it there, `empty` is there without one. */
export function createInside(host, empty = null) {
  const element = el("div", { class: "wb-inside" });
  let [now, stop] = [null, null];

  async function show(reference) {
    if (reference === now) return;
    now = reference;
    stop?.abort();
    stop = null;
    put(element, reference ? el("p", { class: "wb-faint", text: "Opening…" }) : empty);
    if (!reference) return;
    const mine = new AbortController();
    stop = mine;
    const place = el("div");
    try {
      const view = await findWidget(host, reference, mine.signal);
      if (mine.signal.aborted) return;
      put(element, place);
      await view.render({ el: place, signal: mine.signal });
    } catch (error) {
      if (!mine.signal.aborted) put(element, el("p", { class: "wb-faint", text: `It could not be shown: ${error?.message ?? error}` }));
    }
  }
  return { element, show, close: () => { now = null; stop?.abort(); } };
}

/**
 * A panel: `parts(tools)` makes its elements and says how they follow the traits. `tools` has model, host, send(command,
 * more) and set(traits); what comes back has element, update(state) and perhaps close().
 */
export function createPanel({ name, className, traits, parts }) {
  return function render({ model, el: place, host }) {
    const send = (command, more) => model.send({ command, ...more });
    const set = (values) => { for (const [k, v] of Object.entries(values)) model.set(k, v); model.save_changes(); };
    const made = parts({ model, host, send, set });
    const alert = createAlert();
    const root = el("div", { class: `wb-studio ${className}`, role: "region", "aria-label": `${name} panel` }, alert.element, made.element);
    shieldKeys(root);
    const watched = [...traits, "job", "live"];
    function refresh() {
      const state = Object.fromEntries(watched.map((trait) => [trait, model.get(trait)]));
      const busy = ["running", "cancelling"].includes(state.job.state);
      state.locked = !state.live || (busy && state.job.kind !== "score");
      root.setAttribute("aria-busy", String(busy && state.job.kind !== "score"));
      made.update(state);
    }
    let pending = false;
    const soon = () => {
      if (pending) return;
      pending = true;
      queueMicrotask(() => { pending = false; refresh(); });
    };
    const handlers = [...watched.map((trait) => [`change:${trait}`, soon]), ["change:error", () => alert.update(model.get("error"))]];
    for (const [event, handler] of handlers) model.on(event, handler);
    put(place, root);
    refresh();
    alert.update(model.get("error"));
    return () => {
      for (const [event, handler] of handlers) model.off(event, handler);
      made.close?.();
    };
  };
}
