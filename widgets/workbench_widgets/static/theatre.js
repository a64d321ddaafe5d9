// The theatre: traces in, nothing out. All that moves is computed here, from bytes that came once.

import { el, put, shieldKeys } from "./dom.js";
import { bytesOf } from "./link.js";
import { createPlay } from "./theatre_data.js";
import { createClock, frameText, positionOf } from "./theatre_maths.js";
import { createStage } from "./theatre_stage.js";
import { createTransport } from "./theatre_transport.js";

const ALONE = [["step", "steps"], ["clock", "the clock"]];
const PAIRED = [["step", "share of steps"], ["tokens", "tokens"], ["clock", "the clock"]];

function render({ model, el: host }) {
  const bytes = bytesOf(model.get("data"), Uint8Array);
  const plays = model.get("plays").map((header) => createPlay(header, bytes.buffer));
  const paired = plays.length > 1;
  const same = paired && plays[0].method === plays[1].method;
  const given = model.get("names") ?? [];
  const names = plays.map((play, i) => given[i] ?? (same ? `${play.method} (${i ? "right" : "left"})` : play.method));
  const stages = plays.map((play, i) => createStage(play, names[i], paired));
  let [mode, clock, position] = ["step", createClock("step", plays), 0];

  function seek(next) {
    position = next;
    const frames = clock.frames(position);
    frames.forEach((frame, i) => stages[i].show(frame));
    const text = plays.map((play, i) => (paired ? `${names[i]}: ` : "") + frameText(play, frames[i])).join(" · ");
    transport.update({ position, clock, text });
    root.dataset.position = String(position);
  }
  function changeMode(next) {
    const frame = clock.frames(position)[0];
    [mode, clock] = [next, createClock(next, plays)];
    seek(positionOf(clock, frame));
    root.dataset.mode = mode;
  }
  const transport = createTransport({ modes: paired ? PAIRED : ALONE, seek, changeMode, heard: paired });
  const header = el("div", { class: "wb-header" }, el("span", { class: "wb-brand", text: "Decoding theatre" }),
    el("strong", { class: "wb-model", text: given.length ? names.join(" beside ") : plays.map((p) => p.method).join(" beside ") }),
    paired || !plays[0].settings ? null : el("span", { class: "wb-faint wb-th-settings", text: plays[0].settings }),
    el("span", { class: "wb-facts", text: "Space plays · , and . step · arrow keys walk inside a panel" }));
  const root = el("div", { class: `wb-studio wb-th${paired ? " wb-th-pair" : ""}`, role: "region", "aria-label": "Decoding theatre", "data-mode": mode }, header, transport.element,
    el("div", { class: "wb-th-stages" }, stages.map((s) => s.element)));
  root.addEventListener("keydown", (event) => { if (transport.key(event)) event.stopPropagation(); });
  shieldKeys(root);
  put(host, root);
  const start = model.get("start");
  seek(start < 0 ? clock.length - 1 : positionOf(clock, start));
  return () => { transport.stop(); stages.forEach((stage) => stage.close()); };
}

export default { render };
