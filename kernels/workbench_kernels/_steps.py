"""The steps of a decoder's forward pass, as C functions for `program.Program`.

Every step's docstring lists its record in order; an array takes two places, address and length. The number of tokens
is fixed when a program is made; what changes from call to call is in arrays: the token ids, and ``state``, an int64
array whose first element is the position of the first token.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from workbench_kernels import _attention_rows, _panels, _strips, blocks
from workbench_kernels._decoder import add_to, append_key, copy_row, gate_row, norm_row, rotate_row
from workbench_kernels._jit import entry, inline
from workbench_kernels.formats._base import STORED
from workbench_kernels.formats.strips import MASKS, RAW
from workbench_kernels.program import RECORD, share, view

CHUNK = 24  # query rows that one thread takes at a time


@inline
def _record(address):
    return view(address, RECORD, np.int64)


@inline
def _floats(r, n):
    return view(r[n], r[n + 1], np.float32)


@inline
def _longs(r, n):
    return view(r[n], r[n + 1], np.int64)


@lru_cache
def begin() -> Any:
    """ids, embedding, h [T, H], first, last [T * G], state; T, H, G, window: embed, and say which keys a row sees.

    ``window`` is how many keys a token sees, itself included; 0 for all.
    """

    def step(address: int, thread: int, threads: int) -> None:
        r = _record(address)
        ids, table, h = _longs(r, 0), _floats(r, 2), _floats(r, 4)
        first, last, position = _longs(r, 6), _longs(r, 8), _longs(r, 10)[0]
        tokens, hidden, group, window = r[12], r[13], r[14], r[15]
        lo, hi = share(tokens, thread, threads)
        for t in range(lo, hi):
            copy_row(table, ids[t] * hidden, h, t * hidden, hidden)
            end = position + t + 1
            for n in range(t * group, (t + 1) * group):
                first[n] = max(0, end - window) if window > 0 else 0
                last[n] = end

    return entry(step)


@lru_cache
def norm() -> Any:
    """H [T, H], y [T, H] or nothing, bias [H] or nothing, weight [H], out [T, H], constants (epsilon); T, H.

    Adds y and the bias to h, then RMSNorm of h into out.
    """

    def step(address: int, thread: int, threads: int) -> None:
        r = _record(address)
        h, y, bias, weight, out = _floats(r, 0), _floats(r, 2), _floats(r, 4), _floats(r, 6), _floats(r, 8)
        epsilon, tokens, hidden = _floats(r, 10)[0], r[12], r[13]
        lo, hi = share(tokens, thread, threads)
        for t in range(lo, hi):
            if y.size > 0:
                add_to(h, t * hidden, y, t * hidden, hidden)
            if bias.size > 0:
                add_to(h, t * hidden, bias, 0, hidden)
            norm_row(h, t * hidden, weight, out, t * hidden, hidden, epsilon)

    return entry(step)


@lru_cache
def pack(sees: str, wide: int, unit: int = 16) -> Any:
    """X [T, K], out, scale, correction; T, K: pack activations into panels (see `_panels`)."""
    if sees == "int8":
        quads = _panels.pack_quads(wide)

        def quads_step(address: int, thread: int, threads: int) -> None:
            r = _record(address)
            out, correction = view(r[2], r[3], np.uint32), view(r[6], r[7], np.int32)
            lo, hi = share((r[8] + wide - 1) // wide, thread, threads)
            quads(lo, hi, _floats(r, 0), out, _floats(r, 4), correction, r[8], r[9])

        return entry(quads_step)
    plain = _panels.pack_fp32(wide, unit) if sees == "fp32" else _panels.pack_pairs(wide)

    def step(address: int, thread: int, threads: int) -> None:
        r = _record(address)
        lo, hi = share((r[8] + wide - 1) // wide, thread, threads)
        plain(lo, hi, _floats(r, 0), view(r[2], r[3], np.uint32), r[8], r[9])

    return entry(step)


@lru_cache
def dense(values: str, wide: int) -> Any:
    """bounds, value, scale, x, x scale, correction, y; stride, T, N, K: multiply by a `Dense` weight."""
    run, raw = _strips.dense(values, wide), RAW[values]

    def step(address: int, thread: int, threads: int) -> None:
        r = _record(address)
        bounds, value, scale = _longs(r, 0), view(r[2], r[3], raw), _floats(r, 4)
        x, xs, xc = view(r[6], r[7], np.uint32), _floats(r, 8), view(r[10], r[11], np.int32)
        if thread + 1 < bounds.size:
            lo, hi = bounds[thread], bounds[thread + 1]
            run(lo, hi, value, scale, x, xs, xc, _floats(r, 12), r[14], r[15], r[16], r[17])

    return entry(step)


@lru_cache
def bitmap(values: str, wide: int) -> Any:
    """bounds, mask, value, start, scale, x, x scale, correction, y; stride, T, N, K: by a `Bitmap` weight."""
    run, raw, word = _strips.bitmap(values, wide), RAW[values], MASKS[values]

    def step(address: int, thread: int, threads: int) -> None:
        r = _record(address)
        bounds, mask, value = _longs(r, 0), view(r[2], r[3], word), view(r[4], r[5], raw)
        start, scale, x = _longs(r, 6), _floats(r, 8), view(r[10], r[11], np.uint32)
        xs, xc = _floats(r, 12), view(r[14], r[15], np.int32)
        if thread + 1 < bounds.size:
            lo, hi = bounds[thread], bounds[thread + 1]
            run(lo, hi, mask, value, start, scale, x, xs, xc, _floats(r, 16), r[18], r[19], r[20], r[21])

    return entry(step)


@lru_cache
def column_blocks(values: str, wide: int, run_length: int, index: str) -> Any:
    """bounds, index, value, start, scale, x, y; stride, T, N, K: by a `ColumnBlocks` or `BlockRows` weight."""
    run, raw = blocks.column_blocks(values, wide, run_length), STORED[values]
    kind = np.uint16 if index == "uint16" else np.uint32

    def step(address: int, thread: int, threads: int) -> None:
        r = _record(address)
        bounds, place, value = _longs(r, 0), view(r[2], r[3], kind), view(r[4], r[5], raw)
        start, scale, x = _longs(r, 6), _floats(r, 8), view(r[10], r[11], np.uint32)
        if thread + 1 < bounds.size:
            lo, hi = bounds[thread], bounds[thread + 1]
            run(lo, hi, place, value, start, scale, x, _floats(r, 12), r[14], r[15], r[16], r[17])

    return entry(step)


@lru_cache
def rotate(dim: int) -> Any:
    """Positions and cache, one KV head after the other.

    qkv [T, N], bias [N] or nothing, query norm, key norm [D] or nothing, cosine, sine [positions, D],
    q [heads, T * G, D], K, V, state, constants (scale of q, epsilon), scratch [threads, 2 D], depth [T]; T, N, G,
    heads, keys. Token t stands at position + depth[t]; its key and value go to position + t.

    K is ``[heads][keys / 16][D][16]``, V ``[heads][keys][D]``; ``keys`` is what the cache has room for.
    """

    def step(address: int, thread: int, threads: int) -> None:
        r = _record(address)
        qkv, bias, q_norm, k_norm = _floats(r, 0), _floats(r, 2), _floats(r, 4), _floats(r, 6)
        cosine, sine, q, k, v = _floats(r, 8), _floats(r, 10), _floats(r, 12), _floats(r, 14), _floats(r, 16)
        position, constants, own, depth = _longs(r, 18)[0], _floats(r, 20), _floats(r, 22), _longs(r, 24)
        tokens, width, group, heads, keys = r[26], r[27], r[28], r[29], r[30]
        lo, hi = share(heads, thread, threads)
        mine = thread * 2 * dim
        for h in range(lo, hi):
            for t in range(tokens):
                if bias.size > 0:
                    add_to(qkv, t * width + h * group * dim, bias, h * group * dim, group * dim)
                    add_to(qkv, t * width + (heads * group + h) * dim, bias, (heads * group + h) * dim, dim)
                    add_to(qkv, t * width + (heads * (group + 1) + h) * dim, bias, (heads * (group + 1) + h) * dim, dim)
                at, place = (position + depth[t]) * dim, t * width
                for g in range(group):
                    row, to = place + (h * group + g) * dim, ((h * tokens + t) * group + g) * dim
                    copy_row(qkv, row, own, mine, dim)
                    if q_norm.size > 0:
                        norm_row(qkv, row, q_norm, own, mine, dim, constants[1])
                    rotate_row(own, mine, cosine, sine, at, q, to, dim, constants[0])
                row = place + (heads * group + h) * dim
                copy_row(qkv, row, own, mine, dim)
                if k_norm.size > 0:
                    norm_row(qkv, row, k_norm, own, mine, dim, constants[1])
                rotate_row(own, mine, cosine, sine, at, own, mine + dim, dim, np.float32(1))
                append_key(own, mine + dim, k, h * keys * dim, position + t, dim)
                copy_row(qkv, place + (heads * (group + 1) + h) * dim, v, (h * keys + position + t) * dim, dim)

    return entry(step)


@lru_cache
def attend(dim: int) -> Any:
    """q, K, V, scores, out [heads, T * G, D], first, last; T * G, heads, keys, scores a row: attention."""
    run, most = _attention_rows.rows_attention(dim), _attention_rows.TILE_ROWS

    def step(address: int, thread: int, threads: int) -> None:
        r = _record(address)
        q, k, v, scores, out = _floats(r, 0), _floats(r, 2), _floats(r, 4), _floats(r, 6), _floats(r, 8)
        first, last = _longs(r, 10), _longs(r, 12)
        rows, heads, keys, s_row = r[14], r[15], r[16], r[17]
        chunks = (rows + CHUNK - 1) // CHUNK
        mine = thread * most * s_row
        for item in range(thread, heads * chunks, threads):
            h, begun = item // chunks, item % chunks * CHUNK
            at, cache = (h * rows + begun) * dim, h * keys * dim
            some = min(CHUNK, rows - begun)
            run(q, at, dim, k, cache, v, cache, scores, mine, s_row, out, at, dim, first, last, begun, some)

    return entry(step)


@lru_cache
def attend_tree(dim: int) -> Any:
    """As `attend`, then G, seen [T], state: of the keys from position on, token t sees those of seen[t]'s bits."""
    run, most = _attention_rows.tree_attention(dim), _attention_rows.TILE_ROWS

    def step(address: int, thread: int, threads: int) -> None:
        r = _record(address)
        q, k, v, scores, out = _floats(r, 0), _floats(r, 2), _floats(r, 4), _floats(r, 6), _floats(r, 8)
        first, last = _longs(r, 10), _longs(r, 12)
        rows, heads, keys, s_row, group = r[14], r[15], r[16], r[17], r[18]
        seen, fresh = view(r[19], r[20], np.uint64), _longs(r, 21)[0]
        chunks = (rows + CHUNK - 1) // CHUNK
        mine = thread * most * s_row
        for item in range(thread, heads * chunks, threads):
            h, begun = item // chunks, item % chunks * CHUNK
            at, cache = (h * rows + begun) * dim, h * keys * dim
            some = min(CHUNK, rows - begun)
            run(q, at, k, cache, v, cache, scores, mine, s_row, out, at, first, last, begun, some, seen, group, fresh)

    return entry(step)


@lru_cache
def merge(dim: int) -> Any:
    """X [heads, T * G, D], out [T, heads * G * D]; T, G, heads: back to one row a token."""

    def step(address: int, thread: int, threads: int) -> None:
        r = _record(address)
        x, out, tokens, group, heads = _floats(r, 0), _floats(r, 2), r[4], r[5], r[6]
        lo, hi = share(tokens, thread, threads)
        for t in range(lo, hi):
            for h in range(heads):
                copy_row(x, (h * tokens + t) * group * dim, out, (t * heads + h) * group * dim, group * dim)

    return entry(step)


@lru_cache
def gate() -> Any:
    """X [T, 2 I], out [T, I]; T, I: silu of the first half times the second."""

    def step(address: int, thread: int, threads: int) -> None:
        r = _record(address)
        x, out, tokens, width = _floats(r, 0), _floats(r, 2), r[4], r[5]
        lo, hi = share(tokens, thread, threads)
        for t in range(lo, hi):
            gate_row(x, 2 * t * width, x, (2 * t + 1) * width, out, t * width, width)

    return entry(step)
