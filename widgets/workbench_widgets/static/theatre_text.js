// The text of a trace as it stands after a frame; only tokens that changed are touched.

import { el } from "./dom.js";
import { upper } from "./theatre_data.js";
import { ORIGIN_NAMES } from "./theatre_maths.js";

const PROMPT_SHOWN = 240; // tokens of a prompt; what stands before is counted only
const MASK = "▒▒";

function promptOf(play) {
  const hidden = Math.max(0, play.prompt.length - PROMPT_SHOWN);
  const text = play.prompt.slice(hidden).join(play.loose ? " " : "");
  return el("span", { class: "wb-th-prompt" }, hidden ? el("em", { text: `(${hidden} tokens before) … ` }) : null, text);
}

/** A token's text; a line break is seen and breaks the line. */
function shownText(text) {
  return text.replaceAll("\n", "⏎\n");
}

/** The colours of a trace with their counts. */
function createLegend(play) {
  const present = play.origins.filter((name, code) => play.changes.origin.includes(code));
  const counts = new Map(present.map((name) => [name, el("span", { class: "wb-th-count" })]));
  const element = el("ul", { class: "wb-th-legend", "aria-label": "How tokens came to be" }, present.map((name) =>
    el("li", null, el("span", { class: `wb-th-token wb-th-${name}`, text: ORIGIN_NAMES[name] }), " ", counts.get(name))));
  return { element, update: (tally) => counts.forEach((node, name) => { node.textContent = `× ${tally.get(name) ?? 0}`; }) };
}

/** The panel; `pick(change)` hears which token is pointed at, null for none. */
export function createText(play, pick) {
  const masks = new Set(play.has("unmask") ? play.order : []);
  const spans = new Map(play.order.map((place) => [place, el("span", { role: "option", class: "wb-th-token wb-th-later", "data-place": place })]));
  const shown = new Map(); // place -> change that its span shows
  const tally = new Map();
  const legend = createLegend(play);
  const guess = el("span", { class: "wb-th-guess" });
  const list = el("span", { role: "listbox", tabindex: "0", class: "wb-th-tokens", "aria-label": "Tokens of the answer: arrow keys walk" }, [...spans.values()]);
  const box = el("div", { class: `wb-th-text${play.loose ? " wb-th-loose" : ""}` }, promptOf(play), list, guess);
  const stamp = Math.random().toString(36).slice(2, 8);
  let [upto, now, marked, guessed, cursor] = [-1, -1, [], -2, null];

  function dress(place, change) {
    const span = spans.get(place);
    const before = shown.get(place) ?? -1;
    if (before >= 0 && play.changes.token[before] >= 0) tally.set(play.origin(before), tally.get(play.origin(before)) - 1);
    shown.set(place, change);
    if (change < 0 || play.changes.token[change] < 0) {
      const empty = masks.has(place);
      span.className = `wb-th-token ${empty ? "wb-th-mask" : "wb-th-later"}`;
      if (empty) span.textContent = MASK;
      if (empty) delete span.dataset.n;
      span.setAttribute("aria-label", "masked");
      if (!empty && before < 0 && change < 0) fillText(span, place);
      return;
    }
    const name = play.origin(change);
    tally.set(name, (tally.get(name) ?? 0) + 1);
    span.className = `wb-th-token wb-th-${name}`;
    span.removeAttribute("aria-label");
    const text = shownText(play.piece(play.changes.token[change]));
    if (span.textContent !== text) span.textContent = text;
    number(span, change);
  }

  function number(span, change) {
    const n = play.changes.number[change];
    if (n < 0) delete span.dataset.n;
    else if (span.dataset.n !== String(n)) span.dataset.n = n;
  }

  /** Text that is not there yet keeps its room, so that nothing moves when it comes. */
  function fillText(span, place) {
    const first = play.places.get(place).find((c) => play.changes.token[c] >= 0);
    if (first === undefined) return;
    span.textContent = shownText(play.piece(play.changes.token[first]));
    number(span, first);
  }

  function showGuess(frame) {
    const leader = play.has("search") && play.frames.tokens[frame] > 0 && !shownAny() ? play.search.leader[frame] : -1;
    if (leader === guessed) return;
    guessed = leader;
    guess.textContent = leader < 0 ? "" : play.path(leader).map((n) => shownText(play.piece(play.events.token[play.search.row[n]]))).join(play.loose ? " " : "");
    list.classList.toggle("wb-th-aside", leader >= 0);
  }
  const shownAny = () => [...tally.values()].some((n) => n > 0);

  function keepInSight(span) {
    if (!span || !box.isConnected) return;
    const [top, bottom] = [span.offsetTop, span.offsetTop + span.offsetHeight];
    if (top < box.scrollTop || bottom > box.scrollTop + box.clientHeight) box.scrollTop = Math.max(0, bottom - box.clientHeight * 0.75);
  }

  function update(frame) {
    if (frame === now) return;
    const end = upper(play.changes.frame, frame);
    const [low, high] = upto < 0 ? [0, play.changes.frame.length] : [Math.min(upto, end), Math.max(upto, end)];
    const touched = new Set();
    for (let c = low; c < high; c++) touched.add(play.changes.place[c]);
    for (const place of touched) {
      const change = play.standing(place, frame);
      if (upto < 0 || change !== (shown.get(place) ?? -1)) dress(place, change);
    }
    [upto, now] = [end, frame];
    for (const span of marked) span.classList.remove("wb-th-now");
    marked = play.changesOf(frame).map((c) => spans.get(play.changes.place[c]));
    for (const span of marked) span.classList.add("wb-th-now");
    showGuess(frame);
    legend.update(tally);
    const last = play.newest(frame);
    if (cursor === null) keepInSight(last < 0 ? list : spans.get(play.changes.place[last]));
  }

  const changeAt = (node) => { const place = node?.closest?.("[data-place]")?.dataset.place; return place === undefined ? null : visibleChange(Number(place)); };
  const visibleChange = (place) => { const c = shown.get(place) ?? -1; return c >= 0 && play.changes.token[c] >= 0 ? c : null; };
  box.addEventListener("pointerover", (event) => { const c = changeAt(event.target); if (c !== null) pick(c); });
  box.addEventListener("pointerleave", () => pick(null));
  function point(place) {
    if (cursor !== null) spans.get(cursor).classList.remove("wb-th-cursor");
    cursor = place;
    if (place === null) { list.removeAttribute("aria-activedescendant"); pick(null); return; }
    const span = spans.get(place);
    span.id ||= `wb-th-${stamp}-${place}`;
    span.classList.add("wb-th-cursor");
    list.setAttribute("aria-activedescendant", span.id);
    keepInSight(span);
    pick(visibleChange(place));
  }
  list.addEventListener("keydown", (event) => {
    const places = play.order.filter((p) => visibleChange(p) !== null);
    const at = places.indexOf(cursor);
    const moves = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at < 0 ? places.length - 1 : at - 1, ArrowUp: at < 0 ? places.length - 1 : at - 1, Home: 0, End: places.length - 1 };
    if (!(event.key in moves) || !places.length) return;
    event.preventDefault();
    event.stopPropagation();
    point(places[Math.min(places.length - 1, Math.max(0, moves[event.key]))]);
  });
  list.addEventListener("blur", () => point(null));
  return { element: el("div", { class: "wb-th-reading" }, legend.element, box), update };
}
