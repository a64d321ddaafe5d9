"""Scores of whole blocks of keys, and the largest of them, in compiled code.

    mean     max_g  q_g . (sum of the block's keys) / keys                     one product with the summary as keys
    bounds   max_g  sum_d max(q_gd low_d, q_gd high_d)                         no key of the block scores higher

Summaries lie as keys do, 16 blocks in lanes.
"""

from __future__ import annotations

import numpy as np

from workbench_kernels._attention_product import TILE_ROWS, tile_rows
from workbench_kernels._attention_rows import score_rows
from workbench_kernels._attention_tile import apart
from workbench_kernels._jit import inline, kernel
from workbench_kernels._vector import add, fma, load, maximum, mul, splat, spread, store

BLOCK = 64


@kernel
def mean_scores(lo, hi, q, sums, out, scratch, blocks, pages, length, dim, group, scale):
    """``out[h * blocks + b]`` for heads ``lo`` to ``hi``; ``scratch``: per head `TILE_ROWS` rows of ``16 pages``."""
    room = pages * 16
    full, last = scale / np.float32(BLOCK), scale / np.float32(length - (blocks - 1) * BLOCK)
    for h in range(lo, hi):
        row, s = 0, h * TILE_ROWS * room
        while row < group:
            some = tile_rows(group - row)
            at = (h * group + row) * dim
            none, lanes = np.int64(0), (blocks + 15) // 16
            score_rows(some, q, at, dim, sums, h * room * dim, dim, none, lanes, scratch, s, room)
            for b in range(blocks):
                best = scratch[s + b]
                for r in range(1, some):
                    best = _above(scratch[s + r * room + b], best)
                best = best * (last if b == blocks - 1 else full)
                out[h * blocks + b] = best if row == 0 else _above(best, out[h * blocks + b])
            row += some


@inline
def _above(x, y):
    """The larger; NaN if one is."""
    return x if x > y or np.isnan(x) else y


@kernel
def bound_scores(lo, hi, q, low, high, out, scratch, blocks, pages, dim, group, scale):
    """The same of the largest score that any key of a block could have."""
    apart()
    for h in range(lo, hi):
        s = h * pages * 16
        for page in range((blocks + 15) // 16):
            at = (h * pages + page) * dim * 16
            for g in range(group):
                total = splat(np.float32(0))
                for d in range(dim):
                    x = spread(q, (h * group + g) * dim + d)
                    total = add(total, maximum(mul(x, load(low, at + d * 16)), mul(x, load(high, at + d * 16))))
                total = fma(total, splat(scale), splat(np.float32(0)))
                store(scratch, s + page * 16, total if g == 0 else maximum(total, load(scratch, s + page * 16)))
        for b in range(blocks):
            out[h * blocks + b] = scratch[s + b]


@inline
def _rank(x):
    """A whole number that orders as the float32 does, NaN on top."""
    bits = np.int64(np.float32(x).view(np.int32))
    if np.isnan(x):
        return np.int64(0xFFFFFFFF)
    return bits + np.int64(0x80000000) if bits >= 0 else np.int64(0x7FFFFFFF) - (bits & np.int64(0x7FFFFFFF))


@kernel
def largest_blocks(scores, heads, blocks, keep, count, out):
    """Per head the ``keep`` blocks of the largest rank, ascending; of equals the earlier. ``count``: 256 int64."""
    for h in range(heads):
        at, left, prefix = h * blocks, keep, np.int64(0)
        for shift in (24, 16, 8, 0):  # the rank of the last one kept, eight bits at a time
            count[:] = 0
            for b in range(blocks):
                rank = _rank(scores[at + b])
                if rank >> (shift + 8) == prefix:
                    count[(rank >> shift) & 255] += 1
            digit = 255
            while digit > 0 and count[digit] < left:
                left -= count[digit]
                digit -= 1
            prefix = (prefix << 8) | digit
        n = h * keep
        for b in range(blocks):  # `left` blocks of exactly that rank belong to the kept ones
            rank = _rank(scores[at + b])
            if rank == prefix and left > 0:
                left -= 1
                out[n] = b
                n += 1
            elif rank > prefix:
                out[n] = b
                n += 1
