"""Attention of a few query rows over one head's keys: the inner kernel of decoding, of prefill and of chunks.

    K  [keys / 16][D][16]    blocks of 16 keys, transposed: keys in lanes        V  [keys][D]
    q  [rows][D], scaled already            row r sees the keys first[r] <= j < last[r]

    scores[r][j] = sum_d q[r][d] K[j][d]        d ascending
    out[r]       = sum_j softmax(scores[r])[j] V[j]        j ascending

Rows are taken up to six at a time, so that one row reads K and V once and many rows share what they read. Every score
and every output is one chain of additions in ascending order, whatever tile its row stands in: a row's result has the
same bits alone and among others. A key outside of a row's range never meets that row, not even times zero: NaN there
stays there. A row that sees no key gets zeros.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from workbench_kernels._attention_product import TILE_ROWS, WIDE, product, product_narrow, tile_rows
from workbench_kernels._attention_tile import apart, larger, scale_tile, window
from workbench_kernels._jit import inline, kernel
from workbench_kernels._math import exp
from workbench_kernels._tile import put_row, row
from workbench_kernels._vector import add, largest, load, splat, store, sub, total

__all__ = ["TILE_ROWS", "rows_attention", "score_rows", "scratch", "soften", "tree_attention", "weigh_rows"]

NONE = np.float32(-np.inf)


@kernel
def score_rows(rows, q, q_at, q_row, k, k_at, dim, first, last, s, s_at, s_row):
    """``s[s_at + r s_row + j] = q[r] . K[j]`` for the keys of blocks ``first`` to ``last`` (of 16 keys)."""
    apart()
    lanes, one, fresh = np.int64(16), np.int64(1), np.int64(1)  # numba would compile anew for every constant
    step, block = dim * 16, first
    while block + WIDE <= last:
        product(rows, q, q_at, q_row, one, k, k_at + block * step, lanes, step, dim, s, s_at + block * 16, s_row, fresh)
        block += WIDE
    while block < last:
        product_narrow(
            rows, q, q_at, q_row, one, k, k_at + block * step, lanes, step, dim, s, s_at + block * 16, s_row, fresh
        )
        block += 1


@kernel
def weigh_rows(rows, s, s_at, s_row, v, v_at, dim, first, last, out, out_at, out_row):
    """``out[r] += sum_j s[r][j] V[j]`` for ``first <= j < last``."""
    apart()
    lanes, one, more = np.int64(16), np.int64(1), np.int64(0)
    column = 0
    while column + 16 * WIDE <= dim:
        at = v_at + first * dim + column
        product(rows, s, s_at + first, s_row, one, v, at, dim, lanes, last - first, out, out_at + column, out_row, more)
        column += 16 * WIDE
    while column < dim:
        at = v_at + first * dim + column
        product_narrow(
            rows, s, s_at + first, s_row, one, v, at, dim, lanes, last - first, out, out_at + column, out_row, more
        )
        column += 16


@kernel
def soften(s, at, first, last):
    """Replace scores by ``exp(score - max)`` over ``first <= j < last``; return max and sum.

    ``s[at + j]`` is the score of key j. The sum is taken in lanes j % 16, then over lanes.
    """
    apart()
    top, none, zero = splat(NONE), splat(NONE), splat(np.float32(0))
    begin = first & ~15
    for j in range(begin, last, 16):
        x = load(s, at + j)
        if j < first or j + 16 > last:
            x = window(x, first - j, last - j, none)
        top = larger(top, x)
    most = largest(top)
    top, mass = splat(most), zero
    for j in range(begin, last, 16):
        e = exp(sub(load(s, at + j), top))
        if j < first or j + 16 > last:
            e = window(e, first - j, last - j, zero)
        mass = add(mass, e)
        store(s, at + j, e)
    return most, total(mass)


@inline
def scale_row(out, at, dim, factor):
    """Multiply ``dim`` consecutive numbers."""
    for d in range(at, at + dim, 16):
        put_row(out, d, scale_tile(row(out, d, 1), factor))


@inline
def clear_row(out, at, dim):
    """Zero ``dim`` consecutive numbers."""
    for d in range(at, at + dim, 16):
        store(out, d, splat(np.float32(0)))


def scratch(keys: int) -> int:
    """Elements of scratch per row of a tile, for rows that see no key behind the first ``keys``."""
    return (keys + 15) // 16 * 16 + 16


@lru_cache
def rows_attention(head_dim: int) -> Any:
    """Make the kernel for one head dimension (a multiple of 16).

    ``f(q, q_at, q_row, k, k_at, v, v_at, s, s_at, s_row, out, out_at, out_row, first, last, range_at, rows)``

    All arrays are flat and float32 (k and v may be raw bf16, uint16); ``*_at`` is the element where a part begins and
    ``*_row`` the elements between rows, all int64. Row r is ``q[q_at + r q_row ...]``, sees the keys
    ``first[range_at + r]`` to ``last[range_at + r]`` (int64, exclusive) and writes ``out[out_at + r out_row ...]``.
    ``s`` is scratch of `TILE_ROWS` rows of ``s_row = scratch(keys)`` elements. K is read up to the end of the block of
    16 that holds a row's last key; what lies behind that key has no effect.
    """

    @kernel
    def run(q, q_at, q_row, k, k_at, v, v_at, s, s_at, s_row, out, out_at, out_row, first, last, range_at, rows):
        done, dim = 0, np.int64(head_dim)
        while done < rows:
            some = tile_rows(rows - done)
            lo, hi = first[range_at + done], last[range_at + done]
            begin, end = lo, hi  # of all rows: what is scored; lo and hi: what they have in common
            for r in range(range_at + done, range_at + done + some):
                lo, hi = max(lo, first[r]), min(hi, last[r])
                begin, end = min(begin, first[r]), max(end, last[r])
            from_q, to = q_at + done * q_row, out_at + done * out_row
            score_rows(some, q, from_q, q_row, k, k_at, dim, begin // 16, (end + 15) // 16, s, s_at, s_row)
            _weigh(some, s, s_at, s_row, v, v_at, dim, lo, hi, first, last, range_at + done, out, to, out_row)
            done += some

    return run


@lru_cache
def tree_attention(head_dim: int) -> Any:
    """Make the kernel for rows of which some keys are hidden, as in a tree of tokens.

    ``f(q, q_at, k, k_at, v, v_at, s, s_at, s_row, out, out_at, first, last, range_at, rows, seen, group, fresh)``

    As `rows_attention`, with rows of q and out one behind the other. Row ``range_at + r`` belongs to token
    ``(range_at + r) // group``; of the keys ``fresh + n`` it sees those whose bit n is set in that token's word of
    ``seen`` (uint64). A hidden key weighs less than 2e-38.
    """

    @kernel
    def run(q, q_at, k, k_at, v, v_at, s, s_at, s_row, out, out_at, first, last, range_at, rows, seen, group, fresh):
        done, dim = 0, np.int64(head_dim)
        while done < rows:
            some = tile_rows(rows - done)
            lo, hi = first[range_at + done], last[range_at + done]
            begin, end = lo, hi
            for r in range(range_at + done, range_at + done + some):
                lo, hi = max(lo, first[r]), min(hi, last[r])
                begin, end = min(begin, first[r]), max(end, last[r])
            from_q, to = q_at + done * dim, out_at + done * dim
            score_rows(some, q, from_q, dim, k, k_at, dim, begin // 16, (end + 15) // 16, s, s_at, s_row)
            for r in range(some):
                word = seen[(range_at + done + r) // group]
                for n in range(end - fresh):
                    if (word >> np.uint64(n)) & np.uint64(1) == np.uint64(0):
                        s[s_at + r * s_row + fresh + n] = NONE
            _weigh(some, s, s_at, s_row, v, v_at, dim, lo, hi, first, last, range_at + done, out, to, dim)
            done += some

    return run


@kernel
def _weigh(rows, s, s_at, s_row, v, v_at, dim, lo, hi, first, last, range_at, out, out_at, out_row):
    """Softmax and outputs of one tile; keys ``lo <= j < hi`` are seen by all of its rows.

    A row's sum waits in the last 16 elements of its scratch.
    """
    apart()
    mass = s_at + s_row - 1
    for r in range(rows):
        a, z, at, to = first[range_at + r], last[range_at + r], s_at + r * s_row, out_at + r * out_row
        clear_row(out, to, dim)
        if a < z:
            s[mass + r * s_row] = soften(s, at, a, z)[1]
            stop = lo if lo < hi else z
            weigh_rows(np.int64(1), s, at, s_row, v, v_at, dim, a, stop, out, to, out_row)
    if lo < hi:
        weigh_rows(rows, s, s_at, s_row, v, v_at, dim, lo, hi, out, out_at, out_row)
    for r in range(rows):
        a, z, at, to = first[range_at + r], last[range_at + r], s_at + r * s_row, out_at + r * out_row
        if a < z:
            if lo < hi:
                weigh_rows(np.int64(1), s, at, s_row, v, v_at, dim, hi, z, out, to, out_row)
            scale_row(out, to, dim, splat(np.float32(1) / s[mass + r * s_row]))
