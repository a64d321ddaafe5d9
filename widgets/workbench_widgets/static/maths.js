// Pure functions of the views: no DOM, no state. Tested by widgets/tests-js with `node --test`.

const CIVIDIS_STOPS = [
  [0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115],
  [138, 134, 120], [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56],
];

/** Colour table: 256 RGB triples of cividis, dark for 0 and bright for 255. */
export function cividis() {
  const table = new Uint8Array(256 * 3);
  const last = CIVIDIS_STOPS.length - 1;
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * last;
    const low = Math.min(Math.floor(at), last - 1);
    for (let c = 0; c < 3; c++) {
      const [a, b] = [CIVIDIS_STOPS[low][c], CIVIDIS_STOPS[low + 1][c]];
      table[i * 3 + c] = Math.round(a + (b - a) * (at - low));
    }
  }
  return table;
}

/** CSS colour of a share in [0, 1]. */
export function shade(table, share) {
  const i = Math.round(Math.min(1, Math.max(0, share)) * 255) * 3;
  return `rgb(${table[i]} ${table[i + 1]} ${table[i + 2]})`;
}

/** The colours of a table as RGBA in one number each (little endian), opaque. */
export function inks(table) {
  return Uint32Array.from({ length: table.length / 3 }, (_, i) => (255 << 24) | (table[3 * i + 2] << 16) | (table[3 * i + 1] << 8) | table[3 * i]);
}

/**
 * Pixels of the whole picture: layers side by side, modules stacked, one pixel per cell.
 * `cells` is uint8 [layers, modules, tile, tile]; a tile's rows are outputs (down), its columns inputs (right).
 */
export function mosaic(cells, layers, modules, tile, colours, pixels) {
  const width = layers * tile;
  let from = 0;
  for (let layer = 0; layer < layers; layer++) {
    for (let module = 0; module < modules; module++) {
      for (let row = 0; row < tile; row++) {
        let to = (module * tile + row) * width + layer * tile;
        for (let column = 0; column < tile; column++) pixels[to++] = colours[cells[from++]];
      }
    }
  }
  return pixels;
}

/** Mean share kept of each module over the layers. */
export function moduleMeans(kept, layers, modules) {
  const means = new Array(modules).fill(0);
  for (let i = 0; i < layers * modules; i++) means[i % modules] += kept[i] / layers;
  return means;
}

/** "50.0 %" of 0.5. */
export function percent(share, digits = 1) {
  return Number.isFinite(share) ? `${(share * 100).toFixed(digits)} %` : "–";
}

/** "106 M" of 106e6: three significant digits. */
export function compact(count) {
  if (!Number.isFinite(count)) return "–";
  for (const [size, letter] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(count) >= size) return `${significant(count / size)} ${letter}`;
  }
  return String(Math.round(count));
}

/** "538 MB" of 538e6 bytes (powers of ten, as disks are sold). */
export function bytes(count) {
  if (!Number.isFinite(count)) return "–";
  for (const [size, unit] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
    if (Math.abs(count) >= size) return `${significant(count / size)} ${unit}`;
  }
  return `${Math.round(count)} B`;
}

/** Three significant digits without an exponent where that stays short. */
export function significant(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.floor(Math.log10(Math.abs(value)));
  if (size >= 6) return value.toExponential(1).replace("e+", "e");
  return value.toFixed(Math.max(0, 2 - size));
}

/** "3.2 s", "1 min 05 s". */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
}

/** Round tick values that cover [low, high]; powers and halves of ten when `log`. */
export function ticks(low, high, count = 4, log = false) {
  if (!(high > low)) return [low];
  if (log) {
    const all = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
      for (const m of [1, 2, 5]) all.push(m * 10 ** e);
    }
    const inside = all.filter((v) => v >= low * 0.999 && v <= high * 1.001);
    const step = Math.ceil(inside.length / (count + 1));
    return inside.filter((_, i) => i % step === 0);
  }
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const first = Math.ceil(low / step - 1e-9) * step;
  const values = [];
  for (let v = first; v <= high + step * 1e-9; v += step) values.push(Number(v.toPrecision(12)));
  return values;
}

/** A function from the domain to pixels, linear or logarithmic. */
export function scale(low, high, from, to, log = false) {
  const f = log ? Math.log : (v) => v;
  const span = f(high) - f(low) || 1;
  return (v) => from + ((f(v) - f(low)) / span) * (to - from);
}

/**
 * Domain of the chart. A curve is a list of [tokens, perplexity, low, high]; the first points are noisy,
 * so intervals may widen the axis by no more than twice the span of the estimates themselves.
 */
export function chartDomain(curves) {
  const points = curves.flat().filter((p) => Number.isFinite(p[1]) && p[1] > 0);
  if (!points.length) return null;
  const values = points.map((p) => p[1]);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const log = high / low > 4;
  const room = Math.max(Math.log(high / low), 0.1);
  for (const [, , a, b] of points) {
    if (a > 0) low = Math.max(Math.min(low, a), Math.min(...values) / Math.exp(room));
    if (b > 0) high = Math.min(Math.max(high, b), Math.max(...values) * Math.exp(room));
  }
  return { tokens: Math.max(...points.map((p) => p[0])), low: low * 0.97, high: high * 1.03, log };
}

/** SVG path through points, and a closed band from two edges. */
export function linePath(points) {
  return points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

export function bandPath(upper, lower) {
  return upper.length ? `${linePath(upper)}L${linePath([...lower].reverse()).slice(1)}Z` : "";
}

/** Two label heights moved apart until they do not overlap. */
export function separate(a, b, gap) {
  const distance = Math.abs(a - b);
  if (distance >= gap) return [a, b];
  const push = (gap - distance) / 2;
  return a <= b ? [a - push, b + push] : [a + push, b - push];
}

/** Shares of the dense model's parameters: kept, zeroed (a mask) and removed (gone); they add up to 1. */
export function shares(dense, parameters, nonzero) {
  const removed = Math.max(0, dense - parameters) / dense;
  const kept = Math.min(nonzero, parameters) / dense;
  return { kept, zeroed: Math.max(0, 1 - kept - removed), removed };
}
