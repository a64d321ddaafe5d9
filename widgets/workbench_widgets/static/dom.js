// Building blocks: elements, labelled controls, keys that JupyterLab must not see.

const SVG = "http://www.w3.org/2000/svg";
const own = Math.random().toString(36).slice(2, 8); // each view on a page runs a copy of this module
let counter = 0;

/** An id that is unique on the page. */
export function uid(name) {
  counter += 1;
  return `wb-${name}-${own}-${counter}`;
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "text") node.textContent = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined));
  return node;
}

/** An HTML element; `text` sets its text, `onclick` and the like listen. Text is never parsed as HTML. */
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Replace the children of a node. */
export function put(node, ...children) {
  node.replaceChildren(...children.flat().filter((c) => c !== null && c !== undefined));
  return node;
}

/** A numbered step of the flow, a region with its heading. */
export function step(number, title, ...children) {
  const id = uid("step");
  const heading = el("h3", { id, class: "wb-step-title" },
    el("span", { class: "wb-step-number", "aria-hidden": "true", text: String(number) }), title);
  return el("section", { class: `wb-step wb-step-${title.toLowerCase()}`, "aria-labelledby": id }, heading, ...children);
}

/** A label above its control. */
export function field(label, control, attributes) {
  control.id ||= uid("field");
  return el("div", { class: "wb-field", ...attributes }, el("label", { for: control.id, text: label }), control);
}

/** A select whose options are [value, text] or {group, options}; null stands for "the method's own". */
export function select(onchange) {
  const node = el("select", { class: "wb-select", onchange: () => onchange(node.value === "" ? null : node.value) });
  return node;
}

/** Fill a select, keeping it untouched (and the focus where it is) when nothing changed. */
export function fillSelect(node, options, value) {
  const key = JSON.stringify(options);
  if (node.dataset.options !== key) {
    node.dataset.options = key;
    const option = ([v, text]) => el("option", { value: v ?? "", text });
    put(node, options.map((o) => (o.group
      ? el("optgroup", { label: o.group }, o.options.map(option)) : option(o))));
  }
  node.value = value ?? "";
}

/** A push button. */
export function button(text, onclick, attributes) {
  return el("button", { type: "button", class: "wb-button", onclick, ...attributes }, text);
}

/** Keep handled keys from JupyterLab's shortcuts while a control has the focus. */
export function shieldKeys(root) {
  root.setAttribute("data-lm-suppress-shortcuts", "true");
  root.addEventListener("keydown", (event) => {
    if (event.target !== root) event.stopPropagation();
  });
}

/** What went wrong, until it is dismissed; `update({text})` shows it. */
export function createAlert() {
  const text = el("p");
  const box = el("div", { class: "wb-error", hidden: true }, text, button("Dismiss", () => { box.hidden = true; }, { class: "wb-button wb-quiet" }));
  const element = el("div", { role: "alert" }, box);
  return { element, update(error) { text.textContent = error?.text ?? ""; box.hidden = !error?.text; } };
}
