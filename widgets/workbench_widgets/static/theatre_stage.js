// One trace on the stage: its panels, as many as it has events for.

import { el, uid } from "./dom.js";
import { createText } from "./theatre_text.js";
import { createToken } from "./theatre_token.js";
import { createAcceptance, createDraft } from "./theatre_draft.js";
import { createConstraint, createSearch } from "./theatre_search.js";
import { createCost } from "./theatre_cost.js";
import { createExits, createUnmask } from "./theatre_maps.js";
import { createEvents } from "./theatre_events.js";
import { frameText } from "./theatre_maths.js";

function framed(name, title, part, stage) {
  const id = uid("panel");
  const named = stage === null ? { "aria-labelledby": id } : { "aria-label": `${title}, ${stage}` };
  return el("section", { class: `wb-th-panel wb-th-panel-${name}`, ...named }, el("h4", { id, text: title }), part.element);
}

/** The panels; `show(frame)` brings all of them to a frame. On a stage beside another one they are named after it. */
export function createStage(play, named, paired = false) {
  let [frame, picked] = [-1, null];
  const token = createToken(play);
  const text = createText(play, (change) => {
    picked = change;
    if (frame >= 0) token.update(frame, picked);
  });
  const where = el("span", { class: "wb-th-where" });
  const parts = [["text", "Text", text], ["token", "Token", token]];
  if (play.has("drafts")) parts.push(["draft", "Draft of the step", createDraft(play)]);
  if (play.has("search")) parts.push(["search", "Search", createSearch(play)]);
  if (play.has("constraints")) parts.push(["constraint", "Constraint", createConstraint(play)]);
  if (play.has("unmask")) parts.push(["unmask", "Order of unmasking", createUnmask(play)]);
  if (play.has("exits")) parts.push(["exits", "Where tokens left the model", createExits(play)]);
  parts.push(["cost", "Cost", createCost(play)]);
  if (play.has("acceptance")) parts.push(["acceptance", "Accepted by position in the draft", createAcceptance(play)]);
  const events = createEvents(play, paired ? named : null);
  const head = el("div", { class: "wb-th-head" }, el("strong", { text: named }), where, play.settings ? el("span", { class: "wb-faint", text: play.settings }) : null);
  const element = el("section", { class: "wb-th-stage", "aria-label": named }, head,
    el("div", { class: "wb-th-panels" }, parts.map(([name, title, part]) => framed(name, title, part, paired ? named : null))), events.element);

  function show(next) {
    if (next === frame) return;
    frame = next;
    for (const [name, , part] of parts) if (name !== "token") part.update(frame);
    token.update(frame, picked);
    events.update(frame);
    where.textContent = frameText(play, frame);
    element.dataset.frame = String(frame);
  }
  return { element, show, text: () => `${play.method}: ${frameText(play, frame)}`, close: () => parts.forEach(([, , part]) => part.close?.()) };
}
