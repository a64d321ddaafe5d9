// The smallest host of a view: holds its traits, tells its listeners, sends nothing anywhere.

/** Bytes out of {"__b64__": text}; anything else as it is. */
export function decode(value) {
  if (value?.__b64__ === undefined) return value;
  const text = atob(value.__b64__);
  const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
  return new DataView(bytes.buffer);
}

/** A model with the methods that views use. `saved` and `sent` collect what would go to the kernel. */
export function createModel(state) {
  const traits = Object.fromEntries(Object.entries(state).map(([k, v]) => [k, decode(v)]));
  const listeners = new Map();
  const pending = new Set();
  const emit = (name, ...rest) => { for (const f of [...(listeners.get(name) ?? [])]) f(...rest); };
  const model = {
    saved: [], sent: [],
    get: (name) => traits[name],
    set(name, value) { traits[name] = value; pending.add(name); emit(`change:${name}`); },
    on(name, f) { listeners.set(name, [...(listeners.get(name) ?? []), f]); },
    off(name, f) { listeners.set(name, (listeners.get(name) ?? []).filter((g) => f && g !== f)); },
    save_changes() { model.saved.push(Object.fromEntries([...pending].map((k) => [k, traits[k]]))); pending.clear(); },
    send(content) { model.sent.push(content); },
    receive(values) {
      for (const [k, v] of Object.entries(values)) traits[k] = decode(v);
      for (const k of Object.keys(values)) emit(`change:${k}`);
    },
    message: (content, buffers = []) => emit("msg:custom", content, buffers.map(decode)),
    count: () => [...listeners.values()].reduce((n, l) => n + l.length, 0),
  };
  return model;
}

/** Run a module's text. */
async function load(text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  return (await import(url)).default;
}

/** What a view uses to show the views inside it: `getWidget(reference)` gives one that renders. */
export function createHost(views, modules) {
  const models = new Map();
  const host = {
    models,
    async getWidget(reference) {
      const { module, state } = views[reference];
      if (!models.has(reference)) models.set(reference, createModel(state));
      const model = models.get(reference);
      return { async render({ el, signal }) {
        const close = await (await load(modules[module])).render({ model, el, host });
        if (signal?.aborted) close?.();
        else signal?.addEventListener("abort", () => close?.());
      } };
    },
  };
  return host;
}

/** Mount the module and the state that a page holds. */
export async function start(page) {
  const read = (id) => JSON.parse(page.getElementById(id)?.textContent ?? "{}");
  const host = createHost(read("views"), read("modules"));
  const model = createModel(read("state"));
  const close = await (await load(read("esm"))).render({ model, el: page.getElementById("view"), host });
  return { model, close, host };
}
