// Step 4: everything that was timed, at one number of tokens. A kernel pointed at in one chart lights up in all.

import { el, put, step, uid } from "./dom.js";
import { createReadout } from "./primitives.js";
import { createPreview } from "./run.js";
import { bytes, percent, significant } from "./maths.js";
import { intervalText, kernelText, nextName, rowsAt, speedText, styleOf } from "./kernel_lab_maths.js";
import { createBars } from "./kernel_lab_bars.js";
import { createRoof } from "./kernel_lab_roof.js";
import { createBalance } from "./kernel_lab_balance.js";

const MARKS = "Circles fp32, squares bf16, triangles int8; small ones are other numbers of tokens. The way up to the roof is what could still be gained.";
const UNKNOWN = "Not looked for yet: tick “find the break-even sparsity too” and run. Patterns such as 2:4 leave no sparsity to vary.";
const COMING = "Press Run: speed-ups, the roofline and bytes appear here, a round at a time. What is timed, and what it stores:";
const STORES = { dense: "every weight, zeros too", bitmap: "the weights kept, and a bit for each that could be", "2:4": "two of every four weights, and which two", "4x1": "columns of 4 weights that hold anything",
  "16x1": "columns of 16 weights that hold anything", bsr16: "blocks of 16 × 16 that hold anything", bsr32: "blocks of 32 × 32 that hold anything", csr: "the weights kept, each with the number of its column",
  "csr-panels": "the same within panels of columns that stay in the first cache", condensed: "rows as long as the longest one's weights, side by side" };
const COLUMNS = [["kernel", (r) => r.name], ["ms", (r) => significant(r.ms)], ["speed-up", speedText], ["95 % interval", intervalText],
  ["to own dense", (r) => (Number.isFinite(r.own_ratio) ? `${significant(r.own_ratio)}×` : "–")], ["GFLOP/s", (r) => significant(r.gflops)],
  ["GB/s", (r) => significant(r.gbytes)], ["of the bound", (r) => percent(r.roofline, 0)], ["bytes moved", (r) => bytes(r.bytes_moved)],
  ["of it weights", (r) => bytes(r.weight_bytes)], ["FLOPs per byte", (r) => significant(r.intensity)],
  ["error / bound", (r) => (Number.isFinite(r.error) ? significant(r.error) : "–")]];

function tableOf(rows, tokens) {
  const cells = (r) => COLUMNS.map(([, text], i) => el(i ? "td" : "th", { scope: i ? null : "row", text: text(r) }));
  return el("table", null, el("caption", { text: `All figures at ${tokens === 1 ? "1 token" : `${tokens} tokens`}; speed-up is over torch's dense fp32` }),
    el("thead", null, el("tr", null, COLUMNS.map(([name]) => el("th", { scope: "col", text: name })))),
    el("tbody", null, rows.map((r) => el("tr", { "data-name": r.name }, cells(r)))));
}

function more(title, ...children) {
  return el("details", { class: "wb-more wb-lab-more" }, el("summary", { text: title }), children);
}

/** The instructions of one kernel: asked for when the disclosure is open, kept once they came. */
function createListing(ask) {
  const known = new Map();
  const body = el("div", { class: "wb-lab-listing", "aria-live": "polite" });
  const element = more("Vector instructions in the kernel's inner loop", body);
  const keyOf = (r) => [r.format, r.values, r.tokens].join("|");
  let [row, asked, busy, live] = [null, "", false, true];

  const waiting = () => (!live ? "run the notebook to see them" : busy ? "shown when timing is over" : "reading what was compiled…");

  function draw() {
    if (!row || !element.open) return;
    const found = known.get(keyOf(row));
    if (!found && live && !busy && asked !== keyOf(row)) {
      asked = keyOf(row);
      ask({ format: row.format, values: row.values, tokens: row.tokens });
    }
    const most = Math.max(1, ...(found?.counts ?? []).map(([, n]) => n));
    const rows = (found?.counts ?? []).map(([name, n]) => el("tr", null, el("th", { scope: "row" }, el("code", { text: name })), el("td", { text: String(n) }),
      el("td", { "aria-hidden": "true" }, el("span", { class: "wb-lab-count", style: `width: ${((n / most) * 100).toFixed(0)}%` }))));
    const caption = el("caption", { text: `${row.name} at ${row.tokens === 1 ? "1 token" : `${row.tokens} tokens`}, compiled for this processor` });
    const note = found?.note || waiting();
    put(body, rows.length ? el("table", null, caption, el("tbody", null, rows)) : el("p", { class: "wb-faint", text: `${row.name}: ${note}` }));
  }
  element.addEventListener("toggle", draw);
  return { element, show(next) { row = next; asked = ""; draw(); },
    take(found, timing, kernel) { [busy, live] = [timing, kernel]; if (found?.format) known.set(keyOf(found), found); draw(); } };
}

function tokensGroup(pick) {
  const list = el("div", { class: "wb-lab-checks" });
  const element = el("fieldset", { class: "wb-lab-set wb-lab-tokens" }, el("legend", { text: "Tokens at once" }), list);
  const group = uid("tokens");
  let key = "";
  function update(all, chosen) {
    if (key !== JSON.stringify(all)) {
      key = JSON.stringify(all);
      put(list, all.map((n) => el("label", null, el("input", { type: "radio", name: group, value: String(n), onchange: () => pick(n) }), String(n))));
    }
    for (const label of list.children) label.firstChild.checked = Number(label.firstChild.value) === chosen;
    element.hidden = all.length < 2;
  }
  return { element, update };
}

/** Panels with a heading each; `hidden` until there is something in them. */
function panelOf(title, note, ...children) {
  return el("div", { class: "wb-panel" }, el("h4", { text: title }), children, note ? el("p", { class: "wb-faint", text: note }) : null);
}

/** `code` is what shows the Python; `ask({format, values, tokens})` asks for the instructions of a kernel. */
export function createRead(code, ask) {
  let [now, tokens, picked] = [null, null, ""];
  const hint = el("span", { id: uid("hint"), class: "wb-visually-hidden", text: "Arrow keys move over the kernels; the line above the charts says their figures." });
  const spoken = createReadout("wb-lab-readout");
  const listen = (node) => {
    node.addEventListener("pointerover", (event) => { const name = event.target.closest?.("[data-name]")?.dataset.name; if (name) point(name); });
    node.addEventListener("keydown", (event) => {
      const next = now && nextName(shown().map((r) => r.name), picked, event.key);
      if (!next) return;
      event.preventDefault();
      event.stopPropagation();
      point(next);
    });
    node.addEventListener("focus", () => { if (now) point(picked || shown()[0]?.name); });
  };
  const [bars, roof, balance] = [createBars(hint.id, listen), createRoof(hint.id, listen), createBalance(listen)];
  const choose = tokensGroup((n) => { tokens = n; draw(); });
  const even = panelOf("Break-even: the share of zeros from which on a kernel pays", null, balance.element);
  const panels = el("div", { class: "wb-lab-panels" },
    panelOf("Speed and bytes", "The dashed line is break-even. Bytes: weights dark, what comes in and goes out light.", bars.element),
    panelOf("Roofline of this machine", MARKS, roof.element), even);
  const holder = el("div", { class: "wb-table-holder", tabindex: "0", role: "region", "aria-label": "All figures, as a table" });
  const table = more("All figures as a table", holder);
  const skipped = el("dl", { class: "wb-figures wb-lab-skipped" });
  const [left, listing] = [more("Not timed, and why", skipped), createListing(ask)];
  const [protocol, machine] = [el("p", { class: "wb-faint" }), el("p", { class: "wb-faint" })];
  const nothing = el("div");
  const figures = el("div", { class: "wb-lab-figures" }, choose.element, spoken, hint, panels, table, listing.element, left, protocol, machine);
  const element = step(4, "Read", nothing, figures, el("div", { class: "wb-actions" }, code.button), code.element);

  const shown = () => rowsAt(now.timings.rows, tokens);
  const style = (r) => styleOf(r.format, r.values, now.options.formats);

  function point(name) {
    picked = name ?? "";
    for (const node of element.querySelectorAll("[data-name]")) node.classList.toggle("wb-lab-picked", node.dataset.name === picked);
    const row = now && shown().find((r) => r.name === picked);
    const words = row ? kernelText(row) : "";
    if (spoken.textContent !== words) spoken.textContent = words;
    if (row) listing.show(row);
  }

  function draw() {
    const { timings } = now;
    if (!timings.tokens.includes(tokens)) tokens = timings.tokens[0];
    const rows = shown();
    choose.update(timings.tokens, tokens);
    bars.update(rows, style);
    roof.update(timings.rows, timings.roof, tokens, style);
    balance.update(timings.break_even, tokens, style, timings.break_even.rows ? "Not looked for at this number of tokens." : UNKNOWN);
    put(holder, tableOf(rows, tokens));
    left.hidden = !timings.skipped.length;
    put(skipped, timings.skipped.map(([what, why]) => el("div", null, el("dt", { text: what }), el("dd", { text: why }))));
    protocol.textContent = `${timings.title}: ${timings.protocol}`;
    machine.textContent = timings.provenance;
    point(rows.some((r) => r.name === picked) ? picked : (rows.find((r) => !r.format.startsWith("torch")) ?? rows[0])?.name);
  }

  function update(state) {
    now = state.timings.rows?.length ? state : now && { ...now, options: state.options };
    const waiting = !state.timings.rows?.length;
    figures.classList.toggle("wb-lab-stale", waiting);
    nothing.hidden = Boolean(now);
    if (!now) put(nothing, createPreview(COMING, (state.frame.suits ?? []).filter((name) => STORES[name]).map((name) => [name, STORES[name]])));
    figures.hidden = !now;
    element.dataset.rows = String(state.timings.rows?.length ?? 0);
    element.dataset.complete = String(Boolean(state.timings.complete));
    code.button.disabled = !state.live;
    code.button.hidden = !state.controls;
    const busy = state.job.state === "running" || state.job.state === "cancelling";
    spoken.setAttribute("aria-live", busy ? "off" : "polite"); // figures change ten times a second
    listing.take(state.listing, busy, state.live);
    if (!waiting) draw();
  }
  return { element, update };
}
