// Tabs by the pattern of the ARIA authoring practices: one of them is in the tab order, arrow keys go to the others.

import { button, el, uid } from "./dom.js";

/** `names` are [name, text]; `changed(name, panel)` is called when one is shown. `panels` are the places for what they show. */
export function createTabs(names, label, changed) {
  const group = uid("tab");
  const tabs = names.map(([name, text]) => button(text, () => show(name), { class: "wb-tab", role: "tab", id: `${group}-${name}`, "aria-controls": `${group}-panel-${name}` }));
  const panels = names.map(([name]) => el("div", { id: `${group}-panel-${name}`, role: "tabpanel", "aria-labelledby": `${group}-${name}`, hidden: true }));
  const list = el("div", { class: "wb-tabs", role: "tablist", "aria-label": label }, tabs);
  let now = null;

  function show(name, focus = false) {
    const before = now;
    now = name;
    names.forEach(([other], i) => {
      const on = other === name;
      tabs[i].setAttribute("aria-selected", String(on));
      tabs[i].tabIndex = on ? 0 : -1;
      panels[i].hidden = !on;
      if (on && focus) tabs[i].focus();
      if (on) changed(name, panels[i], before);
    });
  }
  list.addEventListener("keydown", (event) => {
    const at = names.findIndex(([name]) => name === now);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(names[(to + names.length) % names.length][0], true);
  });
  return { list, panels, show, now: () => now };
}
