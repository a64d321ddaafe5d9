"""Decoding straight from bitmap-compressed keys and values: rows are expanded in registers and never stored dense.

    masks   [Hkv][room][D / 16]    bit i of word c: dimension 16 c + i of that token is stored (uint16)
    packed  [Hkv][room][kept]      the stored numbers of a token, in ascending dimension; as many for every token

Keys in float32 expand 16 at a time; in bf16 32 at a time into pairs for dot_bf16, with q as a sum of two bf16 numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench_kernels._attention_decode import ROOM
from workbench_kernels._attention_expand import dot_each, expand_four, expanded, fma_each, put_totals
from workbench_kernels._attention_product import TILE_ROWS
from workbench_kernels._attention_rows import clear_row, soften
from workbench_kernels._attention_tile import apart, attend, get_tile, vectors
from workbench_kernels._jit import kernel
from workbench_kernels._tile import each_add, put_outputs, zeros
from workbench_kernels._vector import fma, load, spread, store
from workbench_kernels._wide import expand, expand_pairs, ones

ROWS = 4 if TILE_ROWS == 6 else 1  # query heads that share one expansion: 16 sums for 64 dimensions


def _score(rows: int) -> Any:
    """Scores of ``n`` tokens; ``words`` masks per token."""

    @kernel
    def run(q, q_at, q_row, masks, mask_at, words, packed, at, kept, n, s, s_at, s_row):
        apart()
        for j in range(n):
            acc, p, m = zeros(rows), at + j * kept, mask_at + j * words
            for c in range(words):
                mask = masks[m + c]
                acc = fma_each(acc, expand(packed, p, mask), vectors(q, q_at + c * 16, q_row, rows))
                p += ones(mask)
            put_totals(s, s_at + j, s_row, acc)

    return run


def _score_pairs(rows: int) -> Any:
    """The same of bf16; a row of ``q`` is its rounded half, then what rounding left, each padded to 32."""

    @kernel
    def run(q, q_at, q_row, masks, mask_at, words, packed, at, kept, n, s, s_at, s_row):
        apart()
        half = q_row // 2
        for j in range(n):
            acc, rest, p, m = zeros(rows), zeros(rows), at + j * kept, mask_at + j * words
            for c in range(0, words, 2):
                mask = np.uint32(masks[m + c])
                if c + 1 < words:
                    mask |= np.uint32(masks[m + c + 1]) << np.uint32(16)
                x = expand_pairs(packed, p, mask)
                acc = dot_each(acc, x, q, q_at + c * 16, q_row)
                rest = dot_each(rest, x, q, q_at + half + c * 16, q_row)
                p += ones(mask)
            put_totals(s, s_at + j, s_row, each_add(acc, rest))

    return run


def _weigh(rows: int) -> Any:
    """``out[r][64 columns] += sum_j s[r][j] V[j]`` from mask word ``word`` on."""

    @kernel
    def run(s, s_at, s_row, masks, mask_at, words, word, packed, at, kept, n, out, out_at, out_row):
        apart()
        acc = get_tile(out, out_at, out_row, rows, 4)
        for j in range(n):
            p, m = at + j * kept, mask_at + j * words
            for c in range(m, m + word):
                p += ones(masks[c])
            acc = attend(acc, expand_four(packed, p, masks, m + word), s, s_at + j, s_row)
        put_outputs(out, out_at, out_row, acc, 4)

    return run


@kernel
def _weigh_narrow(s, s_at, masks, mask_at, words, word, packed, at, kept, n, out, out_at):
    """The same of one row and 16 columns."""
    apart()
    acc = load(out, out_at)
    for j in range(n):
        p, m = at + j * kept, mask_at + j * words
        for c in range(m, m + word):
            p += ones(masks[c])
        acc = fma(expanded(packed, p, masks[m + word]), spread(s, s_at + j), acc)
    store(out, out_at, acc)


_score_four, _score_three, _score_two, _score_one = (_score(rows) for rows in (4, 3, 2, 1))
_pairs_four, _pairs_three, _pairs_two, _pairs_one = (_score_pairs(rows) for rows in (4, 3, 2, 1))
_weigh_four, _weigh_three, _weigh_two, _weigh_one = (_weigh(rows) for rows in (4, 3, 2, 1))


@kernel
def score_packed(rows, q, q_at, q_row, masks, mask_at, words, packed, at, kept, n, s, s_at, s_row):
    """Scores of float32 keys for up to `ROWS` query heads."""
    apart()
    if ROWS == 1 or rows == 1:
        _score_one(q, q_at, q_row, masks, mask_at, words, packed, at, kept, n, s, s_at, s_row)
    elif rows == 2:
        _score_two(q, q_at, q_row, masks, mask_at, words, packed, at, kept, n, s, s_at, s_row)
    elif rows == 3:
        _score_three(q, q_at, q_row, masks, mask_at, words, packed, at, kept, n, s, s_at, s_row)
    else:
        _score_four(q, q_at, q_row, masks, mask_at, words, packed, at, kept, n, s, s_at, s_row)


@kernel
def score_pairs(rows, q, q_at, q_row, masks, mask_at, words, packed, at, kept, n, s, s_at, s_row):
    """Scores of bf16 keys."""
    apart()
    if ROWS == 1 or rows == 1:
        _pairs_one(q, q_at, q_row, masks, mask_at, words, packed, at, kept, n, s, s_at, s_row)
    elif rows == 2:
        _pairs_two(q, q_at, q_row, masks, mask_at, words, packed, at, kept, n, s, s_at, s_row)
    elif rows == 3:
        _pairs_three(q, q_at, q_row, masks, mask_at, words, packed, at, kept, n, s, s_at, s_row)
    else:
        _pairs_four(q, q_at, q_row, masks, mask_at, words, packed, at, kept, n, s, s_at, s_row)


@kernel
def weigh_packed(rows, s, s_at, s_row, masks, mask_at, words, packed, at, kept, n, out, out_at, out_row):
    """Outputs of up to `ROWS` query heads, 64 columns at a time."""
    apart()
    word = np.int64(0)
    while word + 4 <= words:
        to = out_at + word * 16
        if ROWS == 1 or rows == 1:
            _weigh_one(s, s_at, s_row, masks, mask_at, words, word, packed, at, kept, n, out, to, out_row)
        elif rows == 2:
            _weigh_two(s, s_at, s_row, masks, mask_at, words, word, packed, at, kept, n, out, to, out_row)
        elif rows == 3:
            _weigh_three(s, s_at, s_row, masks, mask_at, words, word, packed, at, kept, n, out, to, out_row)
        else:
            _weigh_four(s, s_at, s_row, masks, mask_at, words, word, packed, at, kept, n, out, to, out_row)
        word += 4
    while word < words:
        for r in range(rows):
            to = out_at + r * out_row + word * 16
            _weigh_narrow(s, s_at + r * s_row, masks, mask_at, words, word, packed, at, kept, n, out, to)
        word += 1


def _bitmap_parts(half: bool) -> Any:
    """Parts of `ROOM` tokens, head by head, as of `_attention_decode.decode_parts`.

    ``q`` is scaled; in bf16 its rows are as `_score_pairs` wants them. ``sizes``: tokens, room, dim, query heads per
    KV head, numbers kept per key and per value, all parts of a row.
    """

    @kernel
    def run(lo, hi, bounds, q, q_row, mask_k, keys, mask_v, values, part, scratch, sizes):
        tokens, room, dim, group, kept_k, kept_v = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
        mine, wide = 0, sizes[6] * (dim + 16)
        while bounds[mine] != lo:
            mine += 1
        s, line, parts, words = mine * TILE_ROWS * ROOM, np.int64(ROOM), (tokens + ROOM - 1) // ROOM, dim // 16
        for item in range(lo, hi):
            head, number = item // parts, item % parts
            at = head * room + number * ROOM
            n, m = min(line, tokens - number * ROOM), at * words
            for done in range(0, group, ROWS):
                rows, row = min(ROWS, group - done), head * group + done
                from_q, from_k, to = row * q_row, at * kept_k, row * wide + number * (dim + 16)
                if half:
                    score_pairs(rows, q, from_q, q_row, mask_k, m, words, keys, from_k, kept_k, n, scratch, s, line)
                else:
                    score_packed(rows, q, from_q, q_row, mask_k, m, words, keys, from_k, kept_k, n, scratch, s, line)
                for r in range(rows):
                    here = to + r * wide
                    clear_row(part, here, dim)
                    part[here + dim], part[here + dim + 1] = soften(scratch, s + r * line, np.int64(0), n)
                weigh_packed(rows, scratch, s, line, mask_v, m, words, values, at * kept_v, kept_v, n, part, to, wide)

    return run


bitmap_parts, bitmap_parts_bf16 = _bitmap_parts(False), _bitmap_parts(True)


@kernel
def pack_rows(dense, dim, index, kept, masks, packed):
    """Masks and stored numbers of rows ``dense [R][D]`` (raw), from the kept dimensions ``index [R][kept]``."""
    words = dim // 16
    for r in range(masks.size // words):
        for c in range(words):
            masks[r * words + c] = 0
        for n in range(r * kept, r * kept + kept):
            d = np.int64(index[n])
            packed[n] = dense[r * dim + d]
            masks[r * words + d // 16] |= np.uint16(1) << np.uint16(d % 16)
