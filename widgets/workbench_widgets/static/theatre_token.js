// One token: how it came to be, p, q, u, entropy and what else was likely.

import { el, put } from "./dom.js";
import { significant } from "./maths.js";
import { originText, short2, visible } from "./theatre_maths.js";

const FIGURES = [["p", "p, target", "the target's probability of it"], ["q", "q, draft", "the draft's probability of it"], ["u", "u, drawn", "the uniform number that decided"],
  ["entropy", "entropy, nats", "of the target's distribution"]];

/** The card; `update(frame, picked)` shows the token that is pointed at, else the newest one. */
export function createToken(play) {
  const title = el("p", { class: "wb-th-big" });
  const about = el("p", { class: "wb-faint" });
  const figures = el("dl", { class: "wb-th-figures" });
  const list = el("ol", { class: "wb-th-top" });
  const element = el("div", { class: "wb-th-card" }, title, about, figures, list);
  let shown = -2;

  function update(frame, picked) {
    const change = picked ?? play.newest(frame);
    const guess = change < 0 ? play.guessed(frame) : null;
    if (change === shown && !guess) return;
    shown = change;
    if (change < 0 && !guess) {
      put(title);
      about.textContent = "No token stands yet. Later, point at one in the text, or walk there with arrow keys, to see how it came to be.";
      put(figures);
      put(list);
      return;
    }
    const t = guess ?? play.told(change);
    put(title, el("span", { class: `wb-th-token wb-th-${t.origin}`, text: visible(t.text) }));
    about.textContent = `${guess ? "newest token of the best hypothesis" : originText(t.origin, t.number)}${t.origin === "unmasked" ? "" : ` · step ${t.step}`} · place ${t.place}`;
    put(figures, FIGURES.filter(([key]) => Number.isFinite(t[key])).map(([key, name, hint]) =>
      el("div", { title: hint }, el("dt", { text: name }), el("dd", { text: significant(t[key]) }))));
    list.setAttribute("aria-label", `The target's most likely tokens at place ${t.place}`);
    put(list, t.top.slice(0, 8).map((x) => el("li", { class: x.token === t.token ? "wb-th-this" : null },
      el("span", { class: "wb-th-piece", text: visible(x.text) }),
      el("span", { class: "wb-th-track", "aria-hidden": "true" }, el("span", { style: `width: ${(100 * x.p).toFixed(1)}%` })), el("span", { text: short2(x.p) }))));
  }
  return { element, update };
}
