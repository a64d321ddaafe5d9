// Every event of a step as the trace has it; filled in only while it is open.

import { el, put } from "./dom.js";
import { significant } from "./maths.js";
import { short2, visible } from "./theatre_maths.js";

const MOST = 80;

/** The table behind a disclosure; `stage` names it where there are two. */
export function createEvents(play, stage = null) {
  const body = el("tbody");
  const caption = el("caption");
  const head = ["event", "token", "place", "p", "q", "u", "entropy", "value"];
  const table = el("table", null, caption, el("thead", null, el("tr", null, head.map((name) => el("th", { scope: "col", text: name })))), body);
  const element = el("details", { class: "wb-more wb-th-events" }, el("summary", { text: "All events of the step" }), el("div", { class: "wb-table-holder", tabindex: "0", role: "region", "aria-label": `Events of the step${stage === null ? "" : `, ${stage}`}` }, table));
  let [frame, drawn] = [0, -1];
  function draw() {
    if (!element.open || drawn === frame) return;
    drawn = frame;
    const rows = play.rows(frame);
    caption.textContent = `${rows.length} events in step ${play.frames.label[frame]}${rows.length > MOST ? `; the first ${MOST}` : ""}`;
    const number = (v) => (Number.isFinite(v) ? significant(v) : "");
    put(body, rows.slice(0, MOST).map((r) => {
      const [e, f] = [play.events, play.figures(r)];
      const cells = [e.token[r] >= 0 ? visible(play.piece(e.token[r])) : "", e.position[r] >= 0 ? String(e.position[r]) : "", Number.isFinite(f.p) ? short2(f.p) : "",
        Number.isFinite(f.q) ? short2(f.q) : "", number(f.u), number(f.entropy), number(f.value)];
      return el("tr", null, el("th", { scope: "row", text: play.kindOf(r) }), cells.map((text) => el("td", { text })));
    }));
  }
  element.addEventListener("toggle", draw);
  return { element, update(next) { frame = next; draw(); } };
}
