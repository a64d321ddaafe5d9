// Step 1: which method, what it prunes, in which pattern.

import { el, field, fillSelect, put, select, step } from "./dom.js";

const OWN = "its own";
const UNITS = { weight: "single weights", neuron: "MLP neurons", kv_group: "attention heads (KV groups)", layer: "whole layers" };

const RULES = { uniform: "same share a layer", global: "lowest of the model", standardised: "standardised (FLAP)", owl: "by outliers (OWL)",
  none: "no repair", bias: "mean into the bias", least_squares: "least squares", sparsegpt: "as SparseGPT" };
const ruled = (name) => RULES[name] ?? name.replaceAll("_", " ");

/** Options of the units menu: all that the method removes together, then each kind alone. */
export function unitOptions(units) {
  const name = (u) => UNITS[u] ?? u.replaceAll("_", " ");
  const all = [null, units.length > 1 ? units.map((u) => (u === "kv_group" ? "heads" : name(u))).join(" and ") : name(units[0])];
  return units.length > 1 ? [all, ...units.map((u) => [u, name(u)])] : [all];
}

/** The menu of methods, grouped by family in the order in which they come. */
export function methodGroups(catalogue) {
  const groups = new Map();
  for (const m of catalogue) {
    if (!groups.has(m.family)) groups.set(m.family, []);
    groups.get(m.family).push([m.name, m.title]);
  }
  return [...groups].map(([group, options]) => ({ group, options }));
}

/** The choice after picking a method: what it cannot do falls back to its own defaults. */
export function adapt(choice, method) {
  const within = (value, allowed) => (value !== null && allowed.includes(value) ? value : null);
  return { ...choice, method: method.name, units: within(choice.units, method.units), pattern: within(choice.pattern, method.patterns),
    allocation: null, repair: null };
}

function about(method) {
  const { text, url } = method.citation;
  return [el("code", { class: "wb-formula", text: method.formula }),
    el("p", { class: "wb-cite" }, text, url ? [" ", el("span", { class: "wb-cite-id", text: url })] : null),
    el("p", { class: "wb-needs", text: method.needs })];
}

/** `change(choice)` is called with the whole new choice. */
export function createChoose(change) {
  let now = null;
  const set = (key) => (value) => change({ ...now.choice, [key]: value });
  const chosen = () => now.catalogue.find((m) => m.name === now.choice.method);
  const method = select((name) => change(adapt(now.choice, now.catalogue.find((m) => m.name === name))));
  const [units, pattern, allocation, repair] = ["units", "pattern", "allocation", "repair"].map((k) => select(set(k)));
  const propagate = el("input", { type: "checkbox", onchange: () => change({ ...now.choice, propagate: propagate.checked }) });
  const card = el("div", { class: "wb-card" });
  const more = el("details", { class: "wb-more" }, el("summary", { text: "Allocation and repair" }),
    field("How the budget is shared", allocation), field("How the loss is repaired", repair),
    el("label", { class: "wb-check" }, propagate, "Re-run pruned layers before scoring the next (slower; the picture is then an estimate)"));
  const controls = [method, units, pattern, allocation, repair, propagate];
  const element = step(1, "Choose", field("Method", method), card,
    field("What goes", units), field("Pattern", pattern), more);

  function update(state) {
    now = state;
    const info = chosen();
    if (!info) return;
    const { choice, options, locked } = state;
    fillSelect(method, methodGroups(state.catalogue), choice.method);
    put(card, about(info));
    fillSelect(units, unitOptions(info.units), choice.units);
    fillSelect(pattern, [[null, "anywhere (unstructured)"], ...info.patterns.map((p) => [p, p])], choice.pattern);
    fillSelect(allocation, [[null, `${OWN}: ${ruled(info.allocation)}`], ...options.allocations.map((a) => [a, ruled(a)])], choice.allocation);
    fillSelect(repair, [[null, `${OWN}: ${ruled(info.repair)}`], ...options.repairs.map((r) => [r, ruled(r)])], choice.repair);
    for (const menu of [method, units, allocation, repair]) menu.title = menu.selectedOptions[0]?.text ?? "";
    propagate.checked = choice.propagate;
    for (const control of controls) control.disabled = locked;
    units.disabled = locked || info.units.length < 2;
    pattern.disabled = locked || !info.patterns.length;
  }
  return { element, update };
}
