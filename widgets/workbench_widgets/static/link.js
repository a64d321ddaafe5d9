// Between a view and the kernel: bytes, and requests of which only the latest counts.

/** Bytes as they come: a DataView from Jupyter, an ArrayBuffer or a typed array from elsewhere. */
export function bytesOf(value, Type) {
  if (!value) return new Type(0);
  const buffer = value.buffer ?? value;
  const [start, length] = [value.byteOffset ?? 0, value.byteLength];
  return new Type(buffer.slice(start, start + length));
}

/**
 * Latest wins: one request is on its way at a time, and of those that come meanwhile only the last is sent.
 * `send(value, id)` sends; `settle(id)` tells that an answer came and returns how long it took, or null.
 */
export function latestWins(send, now = () => performance.now()) {
  let [id, sent, asked, waiting] = [0, null, 0, null];
  const go = (value, at) => { id += 1; [sent, asked] = [id, at]; send(value, id); };
  return {
    ask(value) { if (sent === null) go(value, now()); else waiting = { value, at: now() }; },
    settle(answer) {
      if (sent === null || answer < sent) return null;
      const took = now() - asked;
      sent = null;
      if (waiting) { const next = waiting; waiting = null; go(next.value, next.at); }
      return took;
    },
    reset() { [sent, waiting] = [null, null]; },
  };
}

const ARRAY_TYPES = { u1: Uint8Array, u2: Uint16Array, i4: Int32Array, f4: Float32Array };

/** Arrays by table, out of a header's places and one buffer: {events: {token: Int32Array, ...}, ...}. */
export function unpack(places, buffer) {
  const tables = {};
  for (const [path, [type, at, length]] of Object.entries(places)) {
    const [table, name] = path.split(".");
    const array = new ARRAY_TYPES[type](buffer, at, length);
    if (name === undefined) tables[table] = array;
    else (tables[table] ??= {})[name] = array;
  }
  return tables;
}
