"""Decoding one token: parts of eight blocks of 64 keys, each with its maximum, mass and outputs, then merged.

    part  [Hq][parts][D + 16]     sum_j e^(score - top) V[j],  then top and mass in the two numbers behind

Parts are the same for any number of threads, and are merged in order.
"""

from __future__ import annotations

import numpy as np

from workbench_kernels._attention_cache import BLOCK
from workbench_kernels._attention_product import TILE_ROWS, tile_rows
from workbench_kernels._attention_rows import clear_row, score_rows, soften, weigh_rows
from workbench_kernels._attention_tile import apart
from workbench_kernels._jit import inline, kernel
from workbench_kernels._math import exp
from workbench_kernels._vector import div, fma, load, mul, splat, store, sub

PART = 8  # blocks
ROOM = PART * BLOCK  # scratch per row of a tile


@inline
def _run(index, n, end, length):
    """Blocks that follow each other from entry n on: the entry behind them, their first key, how many keys."""
    last = n + 1
    while last < end and index[last] == index[last - 1] + 1:
        last += 1
    key = np.int64(index[n]) * BLOCK
    return last, key, min((last - n) * BLOCK, length - key)


@kernel
def _one_part(rows, q, q_at, keys, values, base, index, begin, end, length, dim, s, s_at, part, to, part_row):
    """One part of up to `TILE_ROWS` query heads; ``base`` is where the KV head begins in keys and in values."""
    apart()
    none, room, seen, n = np.int64(0), np.int64(ROOM), np.int64(0), begin
    while n < end:
        n, key, live = _run(index, n, end, length)
        lanes, at = (live + 15) // 16, base + key * dim
        score_rows(rows, q, q_at, dim, keys, at, dim, none, lanes, s, s_at + seen, room)
        seen += live
    for r in range(rows):
        at = to + r * part_row
        clear_row(part, at, dim)
        part[at + dim], part[at + dim + 1] = soften(s, s_at + r * room, none, seen)
    seen, n = none, begin
    while n < end:
        n, key, live = _run(index, n, end, length)
        weigh_rows(rows, s, s_at + seen, room, values, base + key * dim, dim, none, live, part, to, part_row)
        seen += live


@kernel
def decode_parts(lo, hi, bounds, index, chosen, q, keys, values, part, scratch, sizes):
    """Parts ``lo`` to ``hi``, head by head.

    ``index[h * chosen + n]`` is the n-th block of head h, ascending. ``sizes``: length, capacity, dim, query heads per
    KV head, all parts of a row, and how many of them come before these. ``q`` is scaled.
    """
    length, capacity, dim, group = sizes[0], sizes[1], sizes[2], sizes[3]
    mine = 0
    while bounds[mine] != lo:
        mine += 1
    s, parts, wide = mine * TILE_ROWS * ROOM, (chosen + PART - 1) // PART, dim + 16
    for item in range(lo, hi):
        head, number = item // parts, item % parts
        begin, end = head * chosen + number * PART, head * chosen + min(chosen, number * PART + PART)
        first, base = head * group, head * capacity * dim
        row = 0
        while row < group:
            rows, to = tile_rows(group - row), ((first + row) * sizes[4] + sizes[5] + number) * wide
            _one_part(
                rows,
                q,
                (first + row) * dim,
                keys,
                values,
                base,
                index,
                begin,
                end,
                length,
                dim,
                scratch,
                s,
                part,
                to,
                sizes[4] * wide,
            )
            row += rows


@kernel
def merge_parts(rows, parts, dim, part, out):
    """``out[r]`` from the parts of row r, in their order."""
    apart()
    wide = dim + 16
    for r in range(rows):
        at = r * parts * wide
        top = part[at + dim]
        for p in range(parts):
            top = max(top, part[at + p * wide + dim])
        mass = splat(np.float32(0))
        for d in range(0, dim, 16):
            store(out, r * dim + d, mass)
        for p in range(parts):
            here = at + p * wide
            factor = exp(sub(splat(part[here + dim]), splat(top)))
            mass = fma(factor, splat(part[here + dim + 1]), mass)
            for d in range(0, dim, 16):
                store(out, r * dim + d, fma(load(part, here + d), factor, load(out, r * dim + d)))
        whole = div(splat(np.float32(1)), mass)
        for d in range(0, dim, 16):
            store(out, r * dim + d, mul(whole, load(out, r * dim + d)))
