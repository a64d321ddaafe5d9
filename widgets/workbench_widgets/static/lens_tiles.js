// Tiles of maps: asked for by message, latest wins, kept while they were used lately, coloured when they are drawn.

import { bytesOf } from "./link.js";
import { paintPixels } from "./canvas_map.js";
import { codeOf, colourTable, createLru, shareTable } from "./lens_maths.js";

const TOP = 65535;
const SIDE = 256;
const LIMIT = 96; // tiles: 37 MB with their colours

/** A canvas of codes, `width` across; `stamp` says with which colours it was filled last. */
export function createBitmap(codes, width) {
  const canvas = document.createElement("canvas");
  const bitmap = { canvas, codes, stamp: null };
  bitmap.colour = (table, stamp) => {
    if (bitmap.stamp === stamp) return canvas;
    paintPixels(canvas, width, Math.ceil(codes.length / width), (pixels) => { for (let i = 0; i < codes.length; i++) pixels[i] = table[codes[i]]; });
    bitmap.stamp = stamp;
    return canvas;
  };
  return bitmap;
}

/**
 * Tiles of one lens. `arrived()` is called when new ones can be drawn; without `live` none is ever asked for.
 * `want(layer, head, size, tiles)` asks for those that are missing.
 */
export function createTiles({ model, live, floor, arrived }) {
  const cache = createLru(LIMIT);
  const tables = new Map();
  const shares = shareTable(TOP, floor);
  let [seq, wanted] = [0, ""];
  const key = (layer, head, size, row, column) => `${layer}.${head}.${size}.${row}.${column}`;

  function heard(content, buffers) {
    if (!content.tile) return;
    const { layer, head, size, row, column } = content.tile;
    cache.set(key(layer, head, size, row, column), createBitmap(bytesOf(buffers[0], Uint16Array), SIDE));
    arrived();
  }
  if (live) model.on("msg:custom", heard);

  function want(layer, head, size, tiles) {
    if (!live) return;
    const missing = tiles.filter(([row, column]) => !cache.get(key(layer, head, size, row, column))).slice(0, LIMIT / 2);
    const asked = JSON.stringify([layer, head, size, missing]);
    if (!missing.length || asked === wanted) return;
    [seq, wanted] = [seq + 1, asked];
    model.send({ command: "tiles", seq, layer, head, size, tiles: missing });
  }
  /** Colours of 16-bit codes; made once for each scale. */
  function colours(scale) {
    if (!tables.has(scale.stamp)) {
      tables.clear();
      tables.set(scale.stamp, colourTable(scale.colours, TOP, floor, scale.high, scale.log));
    }
    return tables.get(scale.stamp);
  }
  return {
    want, colours,
    find: (layer, head, size, row, column) => cache.get(key(layer, head, size, row, column)),
    share: (tile, y, x) => shares[tile.codes[y * SIDE + x]],
    count: () => cache.size,
    forget: () => { wanted = ""; },
    close: () => live && model.off("msg:custom", heard),
  };
}

/** All heads as small maps side by side on one canvas: [canvas, side]. */
export function createAtlas(study, shrink, table, most = 64) {
  const code = (share) => codeOf(share, 255, study.floor);
  const small = Array.from({ length: study.count }, (_, n) => shrink(study.picture(n), study.cells, most, study.shares, code));
  const side = Math.round(Math.sqrt(small[0].length));
  const canvas = document.createElement("canvas");
  const place = (n) => [Math.floor(n / study.heads) * side, (n % study.heads) * side];
  paintPixels(canvas, side * study.layers, side * study.heads, (pixels) => small.forEach((codes, n) => {
    const [x0, y0] = place(n);
    for (let y = 0; y < side; y++) for (let x = 0; x <= y; x++) pixels[(y0 + y) * canvas.width + x0 + x] = table[codes[y * side + x]];
  }));
  return { canvas, side, place };
}
