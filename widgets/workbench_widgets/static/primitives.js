// Controls that several views are made of: tabs, a range with its number, a tick, a line that is read out, a table.

import { button, el, uid } from "./dom.js";

/**
 * Tabs by the pattern of the ARIA authoring practices: one of them is in the tab order, arrow keys go to the others.
 * `names` are [name, text]; `changed(name, panel)` is called when one is shown; `panels` are the places for what they show.
 */
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

/** A slider and its number for a share in percent, up to `most`; `changed(share)` is called while it moves. */
export function createRange({ label, most, className = "" }, changed) {
  const id = uid("range");
  const slider = el("input", { id, type: "range", class: "wb-slider", min: "0", max: String(most), step: "1" });
  const box = el("input", { type: "number", class: "wb-number", min: "0", max: String(most), step: "0.5", "aria-label": `${label} in percent` });
  const element = el("div", { class: `wb-slider-row ${className}` }, el("label", { for: id, text: label }), slider,
    el("span", { class: "wb-number-box" }, box, el("span", { "aria-hidden": "true", text: "%" })));

  function show(share) {
    const value = String(Math.round(share * 1000) / 10);
    slider.value = value;
    if (document.activeElement !== box) box.value = value;
    slider.setAttribute("aria-valuetext", `${value} percent`);
  }
  for (const control of [slider, box]) {
    control.addEventListener("input", () => {
      const value = Number(control.value);
      if (control.value === "" || !(value >= 0 && value <= most)) return;
      show(value / 100);
      changed(value / 100);
    });
  }
  return { element, show, lock(locked) { slider.disabled = box.disabled = locked; } };
}

/** A check box with its text. */
export function createTick(text, changed = () => {}) {
  const input = el("input", { type: "checkbox", onchange: () => changed(input.checked) });
  return { input, element: el("label", { class: "wb-check" }, input, text) };
}

/** A line under a picture that says what is pointed at, to screen readers too. */
export function createReadout(className = "") {
  return el("p", { class: `wb-readout ${className}`.trim(), "aria-live": "polite" });
}

/** A picture's numbers as a table, behind a button; `fill(holder)` makes it when it is open, `update()` makes it anew. */
export function createFallback(name, fill, className = "") {
  const id = uid("table");
  const holder = el("div", { id, class: `wb-table-holder ${className}`.trim(), hidden: true, tabindex: "0", role: "region", "aria-label": name });
  const toggle = button("Show as table", () => { holder.hidden = !holder.hidden; update(); }, { class: "wb-button wb-quiet", "aria-controls": id });
  function update() {
    toggle.setAttribute("aria-expanded", String(!holder.hidden));
    toggle.textContent = holder.hidden ? "Show as table" : "Hide table";
    if (!holder.hidden) fill(holder);
  }
  update();
  return { toggle: el("div", null, toggle), holder, update };
}
