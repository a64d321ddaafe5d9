// Pure functions of the lens: codes and colours, tiles under a view, order of heads. No DOM, no state.

const TILE = 256; // cells of a tile's side

/** The share that a code stands for: NaN for no cell, 0 for the floor and less. */
export function shareOf(code, top, floor) {
  if (code === 0) return NaN;
  return code === 1 ? 0 : floor ** (1 - (code - 1) / (top - 1));
}

/** Shares of all codes. */
export function shareTable(top, floor) {
  return Float32Array.from({ length: top + 1 }, (_, code) => shareOf(code, top, floor));
}

/** Where a share lies between dark (0) and bright (1). */
export function brightness(share, floor, high, log) {
  if (!(share > 0)) return 0;
  const at = log ? Math.log(share / floor) / Math.log(Math.max(high, floor * 10) / floor) : share / high;
  return Math.min(1, Math.max(0, at));
}

/** RGBA as one number (little endian) for every code; no cell is transparent. */
export function colourTable(colours, top, floor, high, log) {
  const found = new Uint32Array(top + 1);
  for (let code = 1; code <= top; code++) {
    const i = Math.round(brightness(shareOf(code, top, floor), floor, high, log) * 255) * 3;
    found[code] = (255 << 24) | (colours[i + 2] << 16) | (colours[i + 1] << 8) | colours[i];
  }
  return found;
}

/** One head's picture with at most `side` cells a side, as colours' numbers; means of shares, not of codes. */
export function shrink(codes, cells, side, shares, code) {
  const step = Math.ceil(cells / side);
  const small = Math.ceil(cells / step);
  const out = new Uint8Array(small * small);
  for (let row = 0; row < small; row++) {
    for (let column = 0; column <= row; column++) {
      let [sum, count] = [0, 0];
      for (let r = row * step; r < Math.min(cells, (row + 1) * step); r++) {
        for (let c = column * step; c < Math.min(cells, (column + 1) * step); c++) {
          const share = shares[codes[r * cells + c]];
          sum += share === share ? share : 0; // NaN differs from itself
          count += 1;
        }
      }
      out[row * small + column] = code(sum / count);
    }
  }
  return out;
}

/** The code of a share. */
export function codeOf(share, top, floor) {
  return share > floor ? 1 + Math.round((top - 1) * (1 - Math.log(Math.min(share, 1)) / Math.log(floor))) : 1;
}

// Tiles

/** The coarsest size (tokens of a cell) that still gives a cell no more than 1.5 pixels; `sizes` from coarse to fine. */
export function sizeFor(sizes, scale) {
  return sizes.find((size) => size * scale <= 1.5) ?? sizes[sizes.length - 1];
}

/** Tiles of a size under a view of square cells, [row, column], those at its centre first; none above the diagonal. */
export function tilesUnder({ x, y, sx }, size, { columns, width, height }) {
  const span = TILE * size;
  const range = (at, room) => [Math.max(0, Math.floor(at / span)), Math.min(Math.ceil(columns / span) - 1, Math.floor((at + room / sx - 1e-9) / span))];
  const [[top, bottom], [left, right]] = [range(y, height), range(x, width)];
  const [my, mx] = [(y + height / sx / 2) / span - 0.5, (x + width / sx / 2) / span - 0.5];
  const found = [];
  for (let row = top; row <= bottom; row++) for (let column = left; column <= Math.min(right, row); column++) found.push([row, column]);
  const far = ([row, column]) => Math.hypot(row - my, column - mx);
  return found.sort((a, b) => far(a) - far(b));
}

// Heads

/** Indices of heads by a metric, the largest first; as they are without one. */
export function orderBy(values, count) {
  const order = Array.from({ length: count }, (_, i) => i);
  return values ? order.sort((a, b) => values[b] - values[a] || a - b) : order;
}

// Caches

/** Share of the positions of a column that a cache still holds at a time; NaN where nothing is read yet. */
export function heldShare(dropped, from, to, time) {
  let [held, read] = [0, 0];
  for (let p = from; p < Math.min(to, time); p++) {
    read += 1;
    if (dropped[p] === 0 || dropped[p] - 1 > time) held += 1;
  }
  return read ? held / read : NaN;
}

/** A token as a label: spaces and line breaks as signs. */
export function shown(piece) {
  return piece.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/^ /, "·") || "∅";
}

/** Keeps the `limit` values that were used last; `gone` hears of those that go. */
export function createLru(limit) {
  const kept = new Map();
  return {
    get(key) {
      const value = kept.get(key);
      if (value !== undefined) { kept.delete(key); kept.set(key, value); }
      return value;
    },
    set(key, value) {
      kept.delete(key);
      kept.set(key, value);
      while (kept.size > limit) kept.delete(kept.keys().next().value);
    },
    get size() { return kept.size; },
    clear: () => kept.clear(),
  };
}

/** Bit n of packed bits, the first one the highest. */
export function bitAt(bytes, n) {
  return (bytes[n >> 3] >> (7 - (n & 7))) & 1;
}
