// Pure functions of the kernel lab: no DOM, no state. Tested by widgets/tests-js with `node --test`.

import { percent, significant } from "./maths.js";

const HUES = 7; // of Okabe and Ito's colours, without the grey that dense kernels have
const SHAPES = { fp32: "circle", bf16: "square", int8: "triangle" };

/** How a kernel looks: a colour for its format (hollow in the second round), a mark for its values. */
export function styleOf(format, values, formats) {
  const mark = SHAPES[values] ?? "circle";
  if (format === "torch" || format === "torch-csr") return { colour: "torch", hollow: format !== "torch", mark };
  const at = formats.indexOf(format);
  return at < 0 ? { colour: "dense", hollow: false, mark } : { colour: String(at % HUES), hollow: at >= HUES, mark };
}

/** The rows at so many tokens, the fastest first. */
export function rowsAt(rows, tokens) {
  return rows.filter((r) => r.tokens === tokens).sort((a, b) => b.ratio - a.ratio);
}

/** Upper end of the bars: intervals may widen it by no more than a third, so that one noisy bar flattens none. */
export function barEnd(values, ends) {
  const top = Math.max(1, ...values.filter(Number.isFinite));
  const widest = Math.max(top, ...ends.filter(Number.isFinite));
  return Math.min(widest, top * 1.33) * 1.02;
}

/** "0.5" of 0.5 and "1074" of 1074.2: ticks without trailing zeros. */
export function short(value) {
  return String(Number(value.toPrecision(value >= 1000 ? 4 : 3)));
}

/** "10.3×". */
export function speedText(row) {
  return `${significant(row.ratio)}×`;
}

/** "[6.80, 13.6]". */
export function intervalText(row) {
  return Number.isFinite(row.low) && Number.isFinite(row.high) ? `[${significant(row.low)}, ${significant(row.high)}]` : "";
}

/** One kernel in words, for the line below the charts and for screen readers. */
export function kernelText(row) {
  const tokens = row.tokens === 1 ? "1 token" : `${row.tokens} tokens`;
  const bound = Number.isFinite(row.roofline) ? `, ${percent(row.roofline, 0)} of what the machine allows` : "";
  return `${row.name}, ${tokens}: ${speedText(row)} torch fp32 ${intervalText(row)}, ${significant(row.ms)} ms, `
    + `${significant(row.gflops)} GFLOP/s${bound}`;
}

/** The row after a key among rows in their order, by name; null for other keys. */
export function nextName(names, name, key) {
  const last = names.length - 1;
  const at = names.indexOf(name);
  const moves = { ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: last };
  if (!(key in moves) || last < 0) return null;
  return names[Math.min(last, Math.max(0, moves[key]))];
}

/** Peaks that the kernels timed can reach: float32 always, others where a kernel multiplies them. */
export function peaksOf(rows, roof) {
  return ["fp32", "bf16", "int8"].filter((v) => Number.isFinite(roof[v]) && (v === "fp32" || rows.some((r) => r.computes === v)))
    .map((name) => ({ name, peak: roof[name] }));
}

/** Domain of the roofline: every point, every peak, and the ridge where memory meets the highest peak. */
export function roofDomain(rows, roof) {
  const points = rows.filter((r) => r.intensity > 0 && r.gflops > 0);
  const peaks = peaksOf(rows, roof).map((p) => p.peak);
  if (!points.length || !peaks.length) return null;
  const [top, x] = [Math.max(...peaks), points.map((r) => r.intensity)];
  return { x0: Math.min(...x) / 1.8, x1: Math.max(...x, top / roof.dram) * 1.8,
    y0: Math.min(...points.map((r) => r.gflops)) / 1.8, y1: Math.max(top, ...points.map((r) => r.gflops)) * 1.7 };
}

/** Bandwidth lines clipped to the domain, from the floor or the left edge up to the highest peak. */
export function slopesOf(rows, roof, domain) {
  const top = Math.max(...peaksOf(rows, roof).map((p) => p.peak));
  return [["memory", roof.dram], ["last cache", roof.cache_l3], ["second cache", roof.cache_l2]]
    .filter(([, speed]) => Number.isFinite(speed) && speed > 0)
    .map(([name, speed]) => ({ name, speed, from: Math.max(domain.x0, domain.y0 / speed), to: Math.min(domain.x1, top / speed) }))
    .filter((line) => line.to > line.from);
}

/** Labels beside points, not over labels, points, edges nor `blocked` boxes; null for the later ones that find no room. */
export function placeLabels(points, { left, right, top, bottom }, blocked = [], letter = 5.7, height = 11) {
  const taken = [...points.map(({ x, y }) => ({ x0: x - 5, x1: x + 5, y0: y - 5, y1: y + 5 })), ...blocked];
  const free = (b, own) => b.x0 >= left && b.x1 <= right && b.y0 >= top && b.y1 <= bottom
    && !taken.some((t, i) => i !== own && b.x0 < t.x1 && b.x1 > t.x0 && b.y0 < t.y1 && b.y1 > t.y0);
  return points.map(({ x, y, text }, i) => {
    const width = text.length * letter;
    const places = [[x + 8, y], [x - 8 - width, y], [x - width / 2, y - 12], [x - width / 2, y + 12],
      [x + 7, y - 10], [x + 7, y + 10], [x - 7 - width, y - 10], [x - 7 - width, y + 10]];
    for (const [x0, middle] of places) {
      const box = { x0, x1: x0 + width, y0: middle - height / 2, y1: middle + height / 2 };
      if (!free(box, i)) continue;
      taken.push(box);
      return { x: x0, y: middle };
    }
    return null;
  });
}

/** From which share of zeros on a kernel pays: 0 always, unknown never. */
export function balanceText(sparsity) {
  if (!Number.isFinite(sparsity)) return "never";
  return sparsity <= 0 ? "always" : `from ${percent(sparsity, 0)}`;
}

/** Points of a fitted line of time over sparsity, as far as they stay below the edge of the chart. */
export function fitPoints({ fixed, slope }, high, count = 50) {
  return Array.from({ length: count + 1 }, (_, i) => [i / count, fixed + slope * (1 - i / count)]).filter(([, time]) => time >= 0 && time <= high);
}

/** Layers as a grouped menu: "layers.3.mlp.up_proj" under "layer 3", everything else by its own name. */
export function layerGroups(layers) {
  const groups = new Map();
  for (const name of layers) {
    const found = /^layers\.(\d+)\.(.+)$/.exec(name);
    const group = found ? `layer ${found[1]}` : "other";
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push([name, found ? `${found[1]}: ${found[2]}` : name]);
  }
  return [...groups].map(([group, options]) => ({ group, options }));
}

/** A list with a value put in or taken out, in the order of all there are. */
export function toggled(chosen, value, all) {
  const wanted = new Set(chosen);
  if (!wanted.delete(value)) wanted.add(value);
  return all.filter((v) => wanted.has(v));
}
