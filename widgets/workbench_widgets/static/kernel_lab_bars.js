// Bars of kernels: speed-ups with their intervals and the line of break-even; beside them the bytes that are moved.

import { el, put } from "./dom.js";
import { bytes, ticks } from "./maths.js";
import { barEnd, intervalText, short, speedText } from "./kernel_lab_maths.js";

const share = (value, end) => `${Math.max(0, Math.min(100, (value / end) * 100)).toFixed(2)}%`;

function whisker(row, end) {
  if (!Number.isFinite(row.low) || !Number.isFinite(row.high) || row.low === row.high) return null;
  const cut = row.high > end ? " wb-lab-cut" : "";
  const width = ((Math.min(row.high, end) - Math.min(row.low, end)) / end) * 100;
  return el("span", { class: `wb-lab-whisker${cut}`, style: `left: ${share(row.low, end)}; width: ${width.toFixed(2)}%` });
}

function filled(style, part, width) {
  return el("span", { class: `wb-lab-fill wb-lab-${part} wb-lab-c${style.colour}${style.hollow ? " wb-lab-hollow" : ""}`, style: `width: ${width}` });
}

function line(kind, cells) {
  const parts = ["name", "track", "value", "track wb-lab-bytes", "value wb-lab-bytes"];
  return el("div", { class: `wb-lab-bar${kind}` }, cells.map((cell, i) => el("span", { class: `wb-lab-${parts[i]}` }, cell)));
}

function bar(row, style, end, most, one) {
  const made = line("", [row.name, [filled(style, "main", share(row.ratio, end)), one, whisker(row, end)],
    [el("strong", { text: speedText(row) }), el("span", { class: "wb-lab-interval", text: intervalText(row) })],
    [filled(style, "main", share(row.weight_bytes, most)), filled(style, "rest", share(row.bytes_moved - row.weight_bytes, most))],
    bytes(row.bytes_moved)]);
  made.dataset.name = row.name;
  return made;
}

/** The bars, in the order of the rows; `update(rows, style)` draws them. */
export function createBars(hint, listen) {
  const element = el("div", { class: "wb-lab-bars", role: "img", tabindex: "0", "aria-describedby": hint });
  listen(element);

  function update(rows, style) {
    const end = barEnd(rows.map((r) => r.ratio), rows.map((r) => r.high));
    const most = Math.max(1, ...rows.map((r) => r.bytes_moved)) * 1.02;
    const one = () => el("span", { class: "wb-lab-one", style: `left: ${share(1, end)}` });
    const said = rows.map((r) => `${r.name} ${speedText(r)} ${intervalText(r)}, ${bytes(r.bytes_moved)}`).join("; ");
    const marks = ticks(0, end, 4).map((v) => el("span", { class: "wb-lab-tick", style: `left: ${share(v, end)}`, text: `${short(v)}×` }));
    element.setAttribute("aria-label", `Speed relative to torch fp32, break-even at 1; bytes moved: ${said}`);
    put(element, line(" wb-lab-head", ["", "speed over torch fp32", "95 % interval", "", "bytes moved"]),
      rows.map((r) => bar(r, style(r), end, most, one())), line(" wb-lab-axis", ["", marks, "", "", ""]));
  }
  return { element, update };
}
