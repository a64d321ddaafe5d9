// Keeps count of what a view must give back when it is closed, and of WebGL, which no view uses. `watch.leaked` are the
// keys that came as far as the document, where a notebook would take them.
window.watch ??= (() => {
  const views = () => new Error("where").stack.includes("blob:"); // not the test driver, which listens too
  const shared = (target) => target === window || target === document || target === document.body ||
    target === document.documentElement || target instanceof MediaQueryList;
  const { addEventListener, removeEventListener } = EventTarget.prototype;
  const listening = new Map();
  const observing = new Set();
  const pending = new Set();
  const intervals = new Set();
  const watch = { leaked: [], webgl: 0, frames: 0 };
  const key = (target, type, f) => { watch.ids ??= new Map(); if (!watch.ids.has(f)) watch.ids.set(f, watch.ids.size); return `${target.constructor.name} ${type} ${watch.ids.get(f)}`; };

  EventTarget.prototype.addEventListener = function (type, f, options) {
    if (f && shared(this) && views()) {
      const name = key(this, type, f);
      listening.set(name, type);
      options?.signal && addEventListener.call(options.signal, "abort", () => listening.delete(name));
    }
    return addEventListener.call(this, type, f, options);
  };
  EventTarget.prototype.removeEventListener = function (type, f, options) {
    if (f && shared(this)) listening.delete(key(this, type, f));
    return removeEventListener.call(this, type, f, options);
  };
  for (const name of ["ResizeObserver", "MutationObserver", "IntersectionObserver"]) {
    window[name] = class extends window[name] {
      observe(...given) { if (views()) observing.add(this); super.observe(...given); }
      disconnect() { observing.delete(this); super.disconnect(); }
    };
  }
  const { requestAnimationFrame: ask, cancelAnimationFrame: drop, setInterval: every, clearInterval: stop } = window;
  window.requestAnimationFrame = (f) => {
    const id = ask((time) => { pending.delete(id); watch.frames += 1; f(time); });
    if (views()) pending.add(id);
    return id;
  };
  window.cancelAnimationFrame = (id) => { pending.delete(id); drop(id); };
  window.setInterval = (...given) => { const id = every(...given); if (views()) intervals.add(id); return id; };
  window.clearInterval = (id) => { intervals.delete(id); stop(id); };
  const { getContext } = HTMLCanvasElement.prototype;
  HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
    if (!kind.startsWith("2d")) watch.webgl += 1;
    return getContext.call(this, kind, ...rest);
  };
  watch.begin = () => { // the page's content was replaced, and with it what listened
    for (const kept of [listening, observing, pending, intervals]) kept.clear();
    watch.leaked.length = 0;
    addEventListener.call(document, "keydown", (event) => watch.leaked.push(event.key));
  };
  watch.left = (models) => Object.entries({ listeners: [...listening.values()], observers: observing.size, frames: pending.size,
    intervals: intervals.size, webgl: watch.webgl, traits: models.reduce((n, m) => n + m.count(), 0) })
    .filter(([, found]) => (Array.isArray(found) ? found.length : found));
  watch.close = async () => {
    window.host.close?.();
    const left = () => watch.left([window.host.model, ...window.host.host.models.values()]);
    for (let i = 0; i < 100; i++) { // what a view has asked for may be on its way, and a view inside it may be just opening
      await new Promise((f) => ask(() => ask(f)));
      if (left().length === 0) break;
    }
    return left();
  };
  return watch;
})();
window.watch.begin();
