// The text as tokens: shaded by what one of them looks at, or by how much later ones look at each.

import { button, el, field, fillSelect, put, select, uid } from "./dom.js";
import { createReadout } from "./primitives.js";
import { percent } from "./maths.js";
import { bytesOf } from "./link.js";
import { shown } from "./lens_maths.js";

const PAGE = 4096; // tokens on the page at once
const BEST = 8;
const FEW = 64; // the newest keys are seen by few queries: their means say little

/** The panel; `app` has study, head, model, live. */
export function createText(app) {
  const { study, model, live } = app;
  const list = el("div", { class: "wb-ln-text", role: "listbox", tabindex: "0", "aria-label": "Tokens of the text" });
  const mode = select((value) => { received = value === "received"; shade(); });
  fillSelect(mode, [["query", "what the chosen token looks at"], ["received", "what later tokens look at, mean"]], "query");
  const pages = select((value) => turn(Number(value)));
  const sinks = el("input", { type: "checkbox", id: uid("sinks"), checked: true, onchange: () => shade() });
  const spoken = createReadout();
  const note = el("p", { class: "wb-faint" });
  const best = el("ol", { class: "wb-ln-best", "aria-label": "Tokens with the largest shares" });
  const many = Math.ceil(study.tokens / PAGE);
  fillSelect(pages, Array.from({ length: many }, (_, i) => [String(i), `tokens ${i * PAGE} to ${Math.min(study.tokens, (i + 1) * PAGE) - 1}`]), "0");
  const element = el("div", { class: "wb-ln-panel" },
    el("div", { class: "wb-ln-bar" }, field("Shade by", mode), many > 1 ? field("Part of the text", pages) : null,
      el("label", { class: "wb-check", for: sinks.id }, sinks, el("span", { text: `Brightness without the first ${study.sinks} tokens, the sinks` }))),
    el("div", { class: "wb-ln-reading" }, list, el("div", null, spoken, best, note)));
  const prefix = uid("token");
  let [page, chosen, received, shares, exact, seq, spans, shaded] = [-1, Math.min(study.tokens - 1, PAGE - 1), false, null, false, 0, [], -1];

  function turn(to) {
    page = to;
    pages.value = String(to);
    const from = page * PAGE;
    spans = study.pieces.slice(from, from + PAGE).map((piece, i) => el("span", { id: `${prefix}-${from + i}`, role: "option", "aria-selected": "false", "data-n": from + i, "aria-label": piece.trim() ? null : shown(piece).replace(/ /g, "·"), text: piece.includes("\n") ? piece.replace(/\n/g, "⏎\n") : piece || "∅" }));
    put(list, spans);
    if (chosen < from || chosen >= from + PAGE) chosen = from;
    pick(chosen);
  }
  function heard(content, buffers) {
    const row = content.row;
    if (!row || row.seq !== seq || received) return;
    [shares, exact] = [bytesOf(buffers[0], Float32Array).slice(0, row.query + 1), true];
    paint();
  }
  if (live) model.on("msg:custom", heard);

  function shade() {
    seq += 1;
    exact = false;
    shares = received ? study.received(app.head) : study.pictureRow(app.head, chosen);
    paint();
    if (!received && live && study.sizes.length) model.send({ command: "row", seq, layer: app.layer, head: app.inLayer, query: chosen });
  }
  function paint() {
    const [from, skip] = [page * PAGE, sinks.checked ? Math.min(study.sinks, shares.length - 1) : 0];
    const last = received ? Math.max(skip + 1, study.tokens - FEW) : shares.length;
    const top = Math.max(shares.subarray(skip, last).reduce((a, b) => Math.max(a, b), 0), 1e-9);
    const largest = [...shares.keys()].filter((n) => n >= skip && n < last).sort((a, b) => shares[b] - shares[a]).slice(0, BEST);
    const marked = new Set(largest);
    spans.forEach((span, i) => {
      const n = from + i;
      const alpha = n < shares.length ? Math.min(1, Math.sqrt(shares[n] / top)) : 0;
      span.style.setProperty("--a", `${Math.round(alpha * 62)}%`);
      span.className = `${!received && n > chosen ? "wb-ln-later" : ""}${marked.has(n) ? " wb-ln-most" : ""}${n === chosen ? " wb-ln-chosen" : ""}`;
    });
    put(best, largest.map((n) => el("li", null, button(shown(study.pieces[n]), () => reveal(n), { class: "wb-button wb-quiet wb-ln-piece", title: "Scroll to this token", "aria-label": `Scroll to token ${study.quoted(n)}` }), el("span", { class: "wb-faint", text: ` ${n} ` }), percent(shares[n], 2))));
    say();
    const cells = !received && !exact ? ` From the picture: means of ${study.cell} × ${study.cell} tokens.` : "";
    note.textContent = `${received ? "Mean share that later queries pay a token" : "Share that the chosen token pays those before it"}, in layer ${app.layer}, head ${app.inLayer}. Underlined: the ${BEST} largest.${cells}`;
  }
  function say() {
    const share = shares[chosen];
    spoken.textContent = received ? `${study.quoted(chosen)} gets ${percent(share, 2)} of the attention of a later token`
      : `Query ${study.quoted(chosen)}: ${percent(sum(shares.subarray(0, study.sinks)))} on the first ${study.sinks} tokens, ${percent(share, 2)} on itself`;
    element.dataset.exact = String(exact);
  }
  function pick(n) {
    spans[shaded - page * PAGE]?.setAttribute("aria-selected", "false");
    chosen = Math.min(study.tokens - 1, Math.max(0, n));
    const wanted = Math.floor(chosen / PAGE);
    if (wanted !== page) { turn(wanted); return; }
    shaded = chosen;
    const span = spans[chosen - page * PAGE];
    span.setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", span.id);
    reveal(chosen);
    if (received) paint(); else shade();
  }
  /** Scroll to a token, if it is on this page of the text. */
  function reveal(n) {
    const span = spans[n - page * PAGE];
    if (!span) return;
    const [up, down] = [span.offsetTop - 24, span.offsetTop + 36 - list.clientHeight];
    if (list.scrollTop > up || list.scrollTop < down) list.scrollTop = Math.max(0, span.offsetTop - list.clientHeight / 2);
  }
  /** The token above or below: the nearest one of the next line. */
  function beside(direction) {
    const here = spans[chosen - page * PAGE];
    let at = chosen - page * PAGE;
    while (spans[at] && spans[at].offsetTop === here.offsetTop) at += direction;
    if (!spans[at]) return chosen;
    const line = spans[at].offsetTop;
    let found = at;
    for (; spans[at] && spans[at].offsetTop === line; at += direction) {
      if (Math.abs(spans[at].offsetLeft - here.offsetLeft) < Math.abs(spans[found].offsetLeft - here.offsetLeft)) found = at;
    }
    return found + page * PAGE;
  }
  list.addEventListener("click", (event) => { const n = event.target.dataset?.n; if (n !== undefined) pick(Number(n)); });
  list.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const moves = { ArrowLeft: () => chosen - 1, ArrowRight: () => chosen + 1, ArrowUp: () => beside(-1), ArrowDown: () => beside(1), PageUp: () => chosen - 64, PageDown: () => chosen + 64,
      Home: () => page * PAGE, End: () => Math.min(study.tokens, (page + 1) * PAGE) - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    pick(moves[event.key]());
  });
  return { element, update: () => { if (page < 0) turn(Math.floor(chosen / PAGE)); else shade(); }, close: () => live && model.off("msg:custom", heard) };
}

const sum = (values) => values.reduce((a, b) => a + b, 0);
