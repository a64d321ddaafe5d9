// A study as the front end holds it: typed arrays over one buffer, and what panels ask of them.

import { unpack } from "./link.js";
import { percent, significant } from "./maths.js";
import { shareTable, shown } from "./lens_maths.js";

/** Bytes out of deflated ones. */
export async function inflate(bytes) {
  if (!bytes.length) return new Uint8Array(0);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Everything that panels ask of a study. A head's number is layer * heads + head. */
export function createStudy(header, bytes) {
  const arrays = unpack(header.arrays, bytes.buffer);
  const { layers, heads, cells, cell, tokens, points = [], kv } = header;
  const count = layers * heads;
  const shares = shareTable(255, header.floor);
  const part = (array, n, size) => array.subarray(n * size, (n + 1) * size);
  const picture = (n) => part(arrays.picture, n, cells * cells);
  const bins = arrays.column.length / count;

  /** Mean shares of a head's cells in the row of a query, one for every token up to it. */
  function pictureRow(n, query) {
    const row = picture(n).subarray(Math.floor(query / cell) * cells);
    return Float32Array.from({ length: query + 1 }, (_, key) => shares[row[Math.floor(key / cell)]] || 0);
  }
  /** Mean share that later queries pay each token. */
  function received(n) {
    const [codes, step] = [part(arrays.column, n, bins), Math.ceil(tokens / bins)];
    return Float32Array.from({ length: tokens }, (_, key) => shares[codes[Math.floor(key / step)]] || 0);
  }
  const metric = (name) => part(arrays.metrics, header.metrics.findIndex(([m]) => m === name), count);
  const kindOf = (n) => header.kinds[arrays.kinds[n]];
  const nameOf = (n) => `${Math.floor(n / heads)}.${n % heads}`;
  const figure = (name, value) => (["entropy", "effective keys", "WAAD"].includes(name) || name.startsWith("keys for") ? significant(value) : percent(value));
  /** What is said of a head: "head 3.2 retrieval, entropy 1.2, ...". */
  function told(n, names = ["effective keys", "keys for 90 %", "sink", "local"]) {
    const known = names.filter((m) => header.metrics.some(([name]) => name === m));
    return `Layer ${Math.floor(n / heads)}, head ${n % heads}: ${[kindOf(n)[0], ...known.map((m) => `${m} ${figure(m, metric(m)[n])}`)].join(", ")}`;
  }
  const quoted = (token) => `${token} “${shown(header.pieces[token] ?? "")}”`;
  const per = (array, point) => part(array, point, count);
  const spread = points.length ? arrays.divergences.length / points.length : 0;
  const patterns = [...new Set(points.map((p) => p.name))];
  /** Drop times of a method's KV head, one more than they are; 0 where a row stays. */
  const dropped = (method, layer, head) => part(arrays.dropped, (method * layers + layer) * kv.heads + head, kv.prompt + kv.steps);
  const cacheBytes = (line) => part(arrays.nbytes, line, kv.steps + 1);
  return {
    ...header, points, patterns, count, shares, bins, spread, picture, pictureRow, received, metric, kindOf, nameOf, figure, told, quoted,
    recalls: (point) => per(arrays.recalls, point), costs: (point) => per(arrays.costs, point),
    divergences: (point) => part(arrays.divergences, point, spread), dropped, cacheBytes,
  };
}
