// Play, pause, speed and the slider; keys work from anywhere in the theatre.

import { button, el, uid } from "./dom.js";

const SPEEDS = [["0.25", "¼×"], ["0.5", "½×"], ["1", "1×"], ["2", "2×"], ["4", "4×"], ["16", "16×"]];

/**
 * The controls. `seek(position)` goes there; `mode(name)` changes what the slider counts. `update({position, clock, text})`
 * shows where things are; `heard`: to screen readers only, where stages say it themselves.
 */
export function createTransport({ modes, seek, changeMode, heard = false }) {
  let [position, clock, timer, last, owed] = [0, null, null, 0, 0];
  const play = button("▶ Play", () => toggle(), { class: "wb-button wb-primary wb-th-play", "aria-pressed": "false" });
  const [back, forward] = [button("‹", () => go(position - 1), { "aria-label": "Step back" }), button("›", () => go(position + 1), { "aria-label": "Step forward" })];
  const slider = el("input", { type: "range", min: 0, step: 1, class: "wb-slider", "aria-label": "Step", oninput: () => go(Number(slider.value)) });
  const speed = el("select", { class: "wb-select", id: uid("speed") }, SPEEDS.map(([v, text]) => el("option", { value: v, text, selected: v === "1" })));
  const mode = el("select", { class: "wb-select", id: uid("mode"), onchange: () => { stop(); changeMode(mode.value); } }, modes.map(([v, text]) => el("option", { value: v, text })));
  const status = el("p", { class: heard ? "wb-visually-hidden" : "wb-th-status", role: "status" });
  const label = (control, text) => el("label", { class: "wb-th-choice", for: control.id }, el("span", { text }), control);
  const element = el("div", { class: "wb-th-transport", role: "group", "aria-label": "Playback" }, play, back, slider, forward, label(speed, "Speed"), label(mode, "Scrub by"), status);

  function go(next) {
    stop();
    seek(Math.min(clock.length - 1, Math.max(0, next)));
  }
  function stop() {
    if (timer !== null) cancelAnimationFrame(timer);
    timer = null;
    play.textContent = "▶ Play";
    play.setAttribute("aria-pressed", "false");
    status.setAttribute("aria-live", "polite");
  }
  function tick(now) {
    owed += ((now - last) / 1000) * clock.rate * Number(speed.value);
    last = now;
    const whole = Math.floor(owed);
    owed -= whole;
    if (whole > 0) seek(Math.min(clock.length - 1, position + whole));
    if (position >= clock.length - 1) stop();
    else timer = requestAnimationFrame(tick);
  }
  function toggle() {
    if (timer !== null) { stop(); return; }
    if (position >= clock.length - 1) seek(0);
    [last, owed] = [performance.now(), 0];
    play.textContent = "❚❚ Pause";
    play.setAttribute("aria-pressed", "true");
    status.setAttribute("aria-live", "off"); // a screen reader would never come to an end
    timer = requestAnimationFrame(tick);
  }
  /** Keys that work wherever the focus is; whether one was taken. */
  function key(event) {
    const target = event.target;
    const own = target.closest?.("select, summary, button, [role=listbox], svg, canvas, input:not([type=range])");
    const moves = { ",": position - 1, ".": position + 1 };
    if (!own || target === slider) Object.assign(moves, { ArrowLeft: position - 1, ArrowRight: position + 1, Home: 0, End: clock.length - 1 });
    if (event.ctrlKey || event.altKey || event.metaKey) return false;
    if (event.key === " " && !target.closest?.("button, select, summary")) toggle();
    else if (event.key in moves) go(moves[event.key]);
    else return false;
    event.preventDefault();
    return true;
  }
  function update(state) {
    ({ position, clock } = state);
    slider.max = clock.length - 1;
    slider.value = position;
    slider.setAttribute("aria-valuetext", state.text);
    status.textContent = state.text;
    back.disabled = position === 0;
    forward.disabled = position >= clock.length - 1;
  }
  return { element, update, key, stop };
}
