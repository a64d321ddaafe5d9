// Pure functions of the lens: codes and colours, what a view shows, order of heads. No DOM, no state.

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

// Views of a map: {x, y, scale}: the key and the query in the upper left corner, and pixels per token.

/** The whole map. */
export function wholeView(length, width, height) {
  return { x: 0, y: 0, scale: Math.min(width, height) / length };
}

/** The nearest view that shows no more than there is, at most 48 pixels a token. */
export function heldView(view, length, width, height) {
  const least = wholeView(length, width, height).scale;
  const scale = Math.min(Math.max(48, least), Math.max(least, view.scale));
  const hold = (at, room) => Math.max(0, Math.min(at, length - room / scale));
  return { x: hold(view.x, width), y: hold(view.y, height), scale };
}

/** The view after zooming around a point of the canvas. */
export function zoomed(view, factor, px, py, length, width, height) {
  const held = heldView({ ...view, scale: view.scale * factor }, length, width, height);
  return heldView({ x: view.x + px / view.scale - px / held.scale, y: view.y + py / view.scale - py / held.scale, scale: held.scale }, length, width, height);
}

/** The view moved so that a token pair is inside it, with some room. */
export function following(view, key, query, length, width, height) {
  const into = (at, value, room) => {
    const [wide, margin] = [room / view.scale, Math.min(3, room / view.scale / 8)];
    if (value < at + margin) return value - margin;
    return value + 1 > at + wide - margin ? value + 1 + margin - wide : at;
  };
  return heldView({ ...view, x: into(view.x, key, width), y: into(view.y, query, height) }, length, width, height);
}

/** The coarsest size (tokens of a cell) that still gives a cell no more than 1.5 pixels; `sizes` from coarse to fine. */
export function sizeFor(sizes, scale) {
  return sizes.find((size) => size * scale <= 1.5) ?? sizes[sizes.length - 1];
}

/** Tiles of a size under a view, [row, column], those at its centre first; none above the diagonal. */
export function tilesUnder(view, size, length, width, height) {
  const span = TILE * size;
  const range = (at, room) => [Math.max(0, Math.floor(at / span)), Math.min(Math.ceil(length / span) - 1, Math.floor((at + room / view.scale - 1e-9) / span))];
  const [[top, bottom], [left, right]] = [range(view.y, height), range(view.x, width)];
  const [my, mx] = [(view.y + height / view.scale / 2) / span - 0.5, (view.x + width / view.scale / 2) / span - 0.5];
  const found = [];
  for (let row = top; row <= bottom; row++) for (let column = left; column <= Math.min(right, row); column++) found.push([row, column]);
  const far = ([row, column]) => Math.hypot(row - my, column - mx);
  return found.sort((a, b) => far(a) - far(b));
}

/** Tokens that get a label: every so many, so that labels have room. */
export function labelled(at, room, scale, length, least = 13) {
  const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].find((n) => n * scale >= (n === 1 ? least : 24)) ?? 20000;
  const found = [];
  for (let token = Math.ceil(at / every) * every; token < Math.min(length, at + room / scale); token += every) found.push(token);
  return { every, tokens: found };
}

// Heads

/** Indices of heads by a metric, the largest first; as they are without one. */
export function orderBy(values, count) {
  const order = Array.from({ length: count }, (_, i) => i);
  return values ? order.sort((a, b) => values[b] - values[a] || a - b) : order;
}

/** The place in a grid of `columns` after a key, null for another key. */
export function stepInGrid(place, key, columns, count) {
  const rows = Math.ceil(count / columns);
  const [row, column] = [Math.floor(place / columns), place % columns];
  const steps = { ArrowLeft: place - 1, ArrowRight: place + 1, ArrowUp: row > 0 ? place - columns : place, ArrowDown: row < rows - 1 ? place + columns : place,
    Home: row * columns, End: row * columns + columns - 1, PageUp: column, PageDown: (rows - 1) * columns + column };
  return key in steps ? Math.min(count - 1, Math.max(0, steps[key])) : null;
}

// Charts

/** Round numbers from low to high, about `count` of them. */
export function roundTicks(low, high, count = 5) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(Number((n * step).toPrecision(12)));
  return found;
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
