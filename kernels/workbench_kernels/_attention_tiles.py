"""Prefill of one block of 64 queries of one head: queries in lanes, so that softmax needs no sum over lanes.

    Qt [D][64]     scaled and transposed when the block begins          Ot [D][64]   outputs, turned back at its end
    P  [64][64]    scores of one block of keys, key by key              top, mass    per query, over the blocks so far

    P[j]  = sum_d K[j][d] Qt[d]        Ot[d] = Ot[d] e^(old top - top) + sum_j V[j][d] P[j]

K and V are read as they come, row by row, one number at a time for all 64 queries. In the block on the diagonal a
query never meets a later key, not even times zero.
"""

from __future__ import annotations

import numpy as np

from workbench_kernels._attention_product import FROM_ROWS, WIDE, product, product_from, tile_rows
from workbench_kernels._attention_tile import apart, larger, scale_tile, window
from workbench_kernels._jit import inline, kernel
from workbench_kernels._math import exp
from workbench_kernels._tile import put_outputs, put_some
from workbench_kernels._transpose import load_corner, load_square, transpose
from workbench_kernels._vector import add, div, largest, load, mul, splat, store, sub

BLOCK = 64
COLUMNS = 16 * WIDE  # queries of one tile
NONE = np.float32(-np.inf)


def scratch_of_prefill(dim: int) -> int:
    """Elements of scratch that one thread needs: Qt, Ot, P, top and mass, kept apart by a line."""
    return BLOCK * (2 * dim + BLOCK) + 2 * BLOCK + 16


@kernel
def pack_queries(q, q_at, dim, live, scale, s, qt):
    """``s[qt + d * 64 + i] = scale * q[i][d]``; queries behind the first ``live`` become zero."""
    apart()
    factor = splat(scale)
    for i in range(0, BLOCK, 16):
        for d in range(0, dim, 16):
            if i + 16 <= live:
                square = load_square(q, q_at + i * dim + d, dim)
            else:
                square = load_corner(q, q_at + i * dim + d, dim, live - i, np.int64(16))
            put_outputs(s, qt + d * BLOCK + i, np.int64(BLOCK), scale_tile(transpose(square), factor), 1)


@kernel
def unpack_outputs(s, ot, mass, dim, live, out, out_at):
    """Divide by the mass, turn and write the first ``live`` rows."""
    apart()
    for i in range(0, live, 16):
        factor = div(splat(np.float32(1)), load(s, mass + i))
        for d in range(0, dim, 16):
            rows = transpose(scale_tile(load_square(s, ot + d * BLOCK + i, np.int64(BLOCK)), factor))
            if i + 16 <= live:
                put_outputs(out, out_at + i * dim + d, dim, rows, 1)
            else:
                put_some(out, out_at + i * dim + d, dim, rows, 1, live - i, np.int64(16))


@kernel
def soften_lanes(s, p, keys, diagonal, top, mass, ot, dim):
    """Turn the scores of ``keys`` keys into weights, and bring what was summed before to the new maximum."""
    apart()
    none = splat(NONE)
    for i in range(0, BLOCK, 16):
        old = load(s, top + i)
        new = old
        for j in range(keys):
            x = load(s, p + j * BLOCK + i)
            if diagonal and j > i:
                x = window(x, j - i, np.int64(16), none)
                store(s, p + j * BLOCK + i, x)
            new = larger(new, x)
        factor = exp(sub(old, new))
        total = mul(load(s, mass + i), factor)
        for j in range(keys):
            e = exp(sub(load(s, p + j * BLOCK + i), new))
            if diagonal and j > i:
                e = window(e, j - i, np.int64(16), splat(np.float32(0)))
            total = add(total, e)
            store(s, p + j * BLOCK + i, e)
        store(s, top + i, new)
        store(s, mass + i, total)
        if largest(sub(new, old)) != 0:
            for d in range(dim):
                store(s, ot + d * BLOCK + i, mul(load(s, ot + d * BLOCK + i), factor))


@inline
def _scores(k, k_at, keys, dim, s, qt, p, column):
    one, lanes, line = np.int64(1), np.int64(16), np.int64(BLOCK)
    j = 0
    while j < keys:
        some = tile_rows(keys - j)
        product(
            some, k, k_at + j * dim, dim, one, s, qt + column, line, lanes, dim, s, p + j * line + column, line, one
        )
        j += some


@inline
def _outputs(v, v_at, keys, diagonal, dim, s, p, ot, column):
    one, lanes, line, d = np.int64(1), np.int64(16), np.int64(BLOCK), 0
    while d < dim:
        to = ot + d * line + column
        if diagonal:
            product_from(v, v_at + d, one, dim, s, p + column, line, lanes, keys, s, to, line, -column)
            d += FROM_ROWS
        else:
            some = tile_rows(dim - d)
            product(some, v, v_at + d, one, dim, s, p + column, line, lanes, keys, s, to, line, np.int64(0))
            d += some


@kernel
def prefill_blocks(lo, hi, bounds, start, index, q, k, v, out, scratch, sizes, scale):
    """Query blocks ``lo`` to ``hi`` (head by head); ``sizes`` holds length, dim, query heads per KV head."""
    length, dim, group = sizes[0], sizes[1], sizes[2]
    part = 0
    while bounds[part] != lo:
        part += 1
    blocks = (length + BLOCK - 1) // BLOCK
    qt = part * (BLOCK * (2 * dim + BLOCK) + 2 * BLOCK + 16)
    ot, p = qt + BLOCK * dim, qt + 2 * BLOCK * dim
    top = p + BLOCK * BLOCK
    mass = top + BLOCK
    for item in range(lo, hi):
        head, block = item // blocks, item % blocks
        live, at = min(BLOCK, length - block * BLOCK), (head * length + block * BLOCK) * dim
        if start[item] == start[item + 1]:
            out[at : at + live * dim] = np.float32(0)
            continue
        pack_queries(q, at, dim, live, scale, scratch, qt)
        scratch[ot:p] = np.float32(0)
        scratch[top:mass] = NONE
        scratch[mass : mass + BLOCK] = np.float32(0)
        for n in range(start[item], start[item + 1]):
            other = np.int64(index[n])
            keys, diagonal = min(BLOCK, length - other * BLOCK), other == block
            from_kv = (head // group * length + other * BLOCK) * dim
            for column in range(0, BLOCK, COLUMNS):
                _scores(k, from_kv, keys, dim, scratch, qt, p, column)
            soften_lanes(scratch, p, keys, diagonal, top, mass, ot, dim)
            for column in range(0, BLOCK, COLUMNS):
                _outputs(v, from_kv, keys, diagonal, dim, scratch, p, ot, column)
        unpack_outputs(scratch, ot, mass, dim, live, out, at)
