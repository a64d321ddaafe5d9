// What it cost: tokens per pass, what a pass of n tokens costs and what it brought, where the time went.

import { el, put, svg } from "./dom.js";
import { linePath, percent, significant, ticks } from "./maths.js";
import { createAxes, drawingOf, plotOf } from "./axes.js";
import { beforeFirst, costAt, payoffs, spentText } from "./theatre_maths.js";

const PLOT = plotOf(380, 190, 46, 12, 10, 34);

/** Both axes begin at 0; whole numbers only, unless there is room for none. */
function axesOf(most, high, xName, yName) {
  const whole = ticks(0, most, 5).filter((v) => Number.isInteger(v) || most < 3);
  return createAxes(PLOT, { low: 0, high: most, values: whole, name: xName }, { low: 0, high, name: yName });
}

const drawn = (label) => drawingOf(PLOT, { class: "wb-chart", role: "img", "aria-label": label });

/** Tokens over passes, with the line of one token a pass. */
function createProgress(play) {
  const f = play.frames;
  const end = play.count - 1;
  const [most, high] = [Math.max(1, ...f.target), Math.max(1, ...f.tokens)];
  const { x, y, nodes } = axesOf(most, high, "passes of the target", "tokens");
  const step = Math.max(1, Math.floor(play.count / 400));
  const points = Array.from(f.target, (n, i) => [x(n), y(f.tokens[i])]).filter((_, i) => i % step === 0 || i === end);
  if (f.target[0] > 0) points.unshift([x(0), y(0)]);
  const both = Math.min(most, high);
  const dot = svg("circle", { class: "wb-th-dot", r: 4.5 });
  const label = high > 0 && most > 0 ? `${f.tokens[end]} tokens in ${f.target[end]} passes` : "";
  const element = drawn(`Tokens over passes of the target: ${label}`);
  put(element, nodes,
    svg("line", { class: "wb-th-even", x1: x(0), y1: y(0), x2: x(both), y2: y(both) }),
    svg("path", { class: "wb-th-line", d: linePath(points) }), dot);
  return { element, update(frame) { dot.setAttribute("cx", x(f.target[frame])); dot.setAttribute("cy", y(f.tokens[frame])); } };
}

/** What a pass of n tokens costs, and what such passes brought: above the line speculation pays. */
function createPayoff(play) {
  const marks = payoffs(play);
  const sizes = [...marks.map((m) => m.n), ...play.passes.map(([n]) => n)];
  const reach = Math.max(...marks.map((m) => m.n));
  const most = Math.max(2, Math.min(Math.max(...sizes), Math.max(reach * 1.25, 8)));
  const line = play.passes.filter(([n]) => n < most);
  if (line.length) line.push([most, costAt(play.passes, most)]);
  const high = Math.max(2, ...marks.map((m) => m.gained), ...line.map(([, v]) => v));
  const { x, y, nodes } = axesOf(most, high, "tokens in the pass, n", "plain passes");
  const total = marks.reduce((sum, m) => sum + m.count, 0);
  const ring = svg("circle", { class: "wb-th-dot", r: 5 });
  const average = marks.reduce((sum, m) => sum + m.gained * m.count, 0) / Math.max(1, total);
  const cost = marks.reduce((sum, m) => sum + costAt(play.passes, m.n) * m.count, 0) / Math.max(1, total);
  const verdict = Number.isFinite(cost) ? `A pass brought ${significant(average)} tokens and took as long as ${significant(cost)} plain ones on average: ${average > cost ? "it paid" : "it lost"}, ${significant(average / cost)}×, drafting not counted.` : `A pass brought ${significant(average)} tokens on average.`;
  const element = drawn(`Tokens gained over tokens in a pass. ${verdict}`);
  put(element, nodes,
    line.length ? svg("path", { class: "wb-th-cost", d: linePath(line.map(([n, v]) => [x(n), y(v)])) }) : null,
    line.length ? svg("text", { class: "wb-th-cost-name", x: x(line[line.length - 1][0]) - 2, y: y(line[line.length - 1][1]) - 6, "text-anchor": "end" }, "v(n): break-even") : null,
    marks.map((m) => svg("circle", { class: `wb-th-gain${m.gained < costAt(play.passes, m.n) ? " wb-th-loss" : ""}`, cx: x(m.n), cy: y(m.gained), r: 2.5 + 8 * Math.sqrt(m.count / total) },
      svg("title", null, `${m.count} passes of ${m.n} tokens gained ${m.gained}`))), ring);
  const source = play.passes.length ? (play.measured ? "The line is measured apart from this trace." : "The line is made of medians of this trace's own passes.") : "No line: passes of one token are missing to compare with.";
  const note = el("p", { class: "wb-faint", text: `${verdict} ${source}` });
  function update(frame) {
    const n = play.frames.verified[frame];
    ring.toggleAttribute("hidden", n <= 0);
    ring.style.display = n > 0 ? "" : "none";
    if (n > 0) { ring.setAttribute("cx", x(n)); ring.setAttribute("cy", y(play.frames.gained[frame])); }
  }
  return { element, note, update };
}

/** Where the time went until now: a bar of parts. */
function createSpent(play) {
  const parts = play.spent && play.spentOn(play.count - 1);
  const used = parts.map((p, i) => (p.seconds > 0 ? i : -1)).filter((i) => i >= 0);
  const pieces = used.map((i) => el("span", { class: `wb-th-spent-${i}` }));
  const texts = used.map(() => el("span"));
  const bar = el("div", { class: "wb-th-stack", role: "img" }, pieces);
  const key = el("ul", { class: "wb-th-spent", "aria-hidden": "true" }, used.map((i, k) => el("li", null, el("span", { class: `wb-th-swatch wb-th-spent-${i}` }), `${parts[i].name} `, texts[k])));
  function update(frame) {
    const now = play.spentOn(frame);
    const total = now.reduce((sum, p) => sum + p.seconds, 0);
    used.forEach((i, k) => {
      pieces[k].style.flexGrow = total ? now[i].seconds / total : 0;
      texts[k].textContent = total ? percent(now[i].seconds / total, now[i].seconds / total < 0.01 ? 1 : 0) : "";
    });
    bar.setAttribute("aria-label", `Time until now: ${spentText(now)}`);
  }
  return { element: el("div", null, bar, key), update };
}

/** Figures, charts and the bar of one trace. */
export function createCost(play) {
  const names = ["tokens", "passes", "tokens a pass", "seconds", "tokens a second"];
  const values = names.map(() => el("dd"));
  const tiles = el("dl", { class: "wb-th-tiles" }, names.map((name, i) => el("div", null, el("dt", { text: name }), values[i])));
  const parts = [createProgress(play), createSpent(play)];
  const payoff = play.has("drafts") ? createPayoff(play) : null;
  const figure = (title, ...children) => el("figure", null, el("figcaption", { text: title }), children);
  const both = [figure("Tokens over passes (dashed: one a pass)", parts[0].element), figure("Where the time went", parts[1].element)];
  const element = el("div", null, tiles, el("div", { class: "wb-th-charts" },
    payoff ? [el("div", { class: "wb-th-charts" }, both), figure("Circles: what passes brought. Line: what they cost", payoff.element, payoff.note)] : both));
  function update(frame) {
    const f = play.frames;
    const before = beforeFirst(play);
    const [gained, after] = [f.tokens[frame] - before.tokens, f.seconds[frame] - before.seconds];
    const shown = [f.tokens[frame], f.target[frame], f.target[frame] ? significant(gained / f.target[frame]) : "–", f.seconds[frame].toFixed(2),
      after > 0 ? significant(gained / after) : "–"];
    shown.forEach((value, i) => { values[i].textContent = String(value); });
    for (const part of parts) part.update(frame);
    payoff?.update(frame);
  }
  return { element, update };
}
