"""The compiled loops of multiplying by blocks of 4 rows and 1 column.

Every output is one chain of additions over the units of its strip, whatever the number of tokens: few tokens, 16 in
lanes and 64 in lanes give the same bytes. One strip has too few chains to hide the latency of the multiply-add units
when only 16 tokens are in lanes, so there four strips go side by side.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from workbench_kernels._jit import inline, kernel
from workbench_kernels._row_blocks_few import (
    begin_strip,
    largest_magnitude,
    magnitude,
    put_bytes,
    put_strip,
    unit,
)
from workbench_kernels._row_blocks_steps import begin, block, finish, put_inputs, words
from workbench_kernels._tile import put_outputs, put_row, put_some, row
from workbench_kernels._transpose import load_corner, load_square, transpose
from workbench_kernels._vector import bits_as_f32, load, load_first, splat_i32, store_i32
from workbench_kernels._wide import pack_bf16, prefetch

AHEAD = 128  # units, of 16 bytes each, between what is read and what is asked for
TOGETHER = 4  # groups of 16 rows whose outputs are turned together: 256 bytes of y per token, not 64


@kernel
def token_scales(lo, hi, x, inputs, scale, inverse):
    """Per token, what one step of int8 stands for and one over it; tokens of next to nothing become zeros."""
    for t in range(lo, hi):
        most: Any = splat_i32(np.int32(0))
        more: Any = most
        pairs, whole = inputs // 32 * 32, inputs // 16 * 16
        for k in range(0, pairs, 32):
            most = magnitude(most, load(x, t * inputs + k))
            more = magnitude(more, load(x, t * inputs + k + 16))
        if pairs < whole:
            most = magnitude(most, load(x, t * inputs + pairs))
        if whole < inputs:
            most = magnitude(most, load_first(x, t * inputs + whole, inputs - whole))
        step = largest_magnitude(magnitude(most, bits_as_f32(more))) * np.float32(1 / 127)
        scale[t] = step
        inverse[t] = np.float32(1) / step if step >= np.float32(2.0**-126) else np.float32(0)


@kernel
def narrow_bf16(lo, hi, x, inputs, stride, out):
    """Rows of x [T, inputs] rounded to bf16, ``stride`` halves apart, a multiple of 32."""
    for t in range(lo, hi):
        for k in range(0, inputs, 32):
            low: Any = load_first(x, t * inputs + k, inputs - k)
            high = load_first(x, t * inputs + min(k + 16, inputs), inputs - k - 16)
            store_i32(out, t * stride + k, pack_bf16(low, high))


@kernel
def narrow_int8(lo, hi, x, inputs, stride, inverse, out):
    """Rows of x [T, inputs] quantised to uint8, ``stride`` bytes apart, a multiple of 32."""
    for t in range(lo, hi):
        for k in range(0, inputs, 16):
            put_bytes(out, t * stride + k, load_first(x, t * inputs + k, inputs - k), inverse[t])


@lru_cache
def packing(depth: int, vectors: int) -> Any:
    """Tiles of ``16 vectors`` tokens; an item of work is 16 inputs of one tile."""
    span, width = 16 * vectors, words(depth, vectors)

    @kernel
    def pack(lo, hi, x, tokens, inputs, first, inverse, out):
        scratch = np.empty(16 * span, np.float32)
        columns = (inputs + 15) // 16
        for item in range(lo, hi):
            k, token = item % columns * 16, first + item // columns * span
            for v in range(vectors):
                t = token + 16 * v
                if tokens - t >= 16 and inputs - k >= 16:
                    square: Any = load_square(x, t * inputs + k, inputs)
                else:
                    square = load_corner(x, t * inputs + k, inputs, tokens - t, inputs - k)
                if depth == 1:  # float32 stays as it is
                    put_outputs(out, item * 16 * width + 16 * v, width, transpose(square), 1)
                else:
                    put_outputs(scratch, 16 * v, span, transpose(square), 1)
            if depth > 1:
                for i in range(16):
                    put_inputs(depth, out, (item * 16 + i) * width, row(scratch, i * span, vectors), inverse, token)

    return pack


@inline
def _put(y, token, tokens, first, rows, square):
    """Write 16 tokens of 16 rows, of which only those that exist."""
    if tokens - token >= 16 and rows - first >= 16:
        put_outputs(y, token * rows + first, rows, square, 1)
    elif tokens > token:
        put_some(y, token * rows + first, rows, square, 1, tokens - token, rows - first)


@inline
def _ahead(value, index, unit, depth):
    """Ask for a unit that is needed soon: the processor does not foresee four short streams at once."""
    prefetch(value, unit * 4 * depth)
    prefetch(index, unit * depth)


@lru_cache
def wide(depth: int) -> Any:
    """64 tokens in lanes, one strip at a time: 4 rows x 4 registers of sums."""
    vectors, span, width = 4, 64, words(depth, 4)

    @kernel
    def multiply(lo, hi, start, index, value, scale, offset, x, seen, y, tokens, rows, inputs, first, tiles):
        space = np.empty(TOGETHER * 16 * span + 16, np.float32)
        scratch = space[-(space.ctypes.data // 4) % 16 :]
        for tile in range(tiles):
            base, token = tile * inputs * width, first + tile * span
            for chunk in range(lo, hi, TOGETHER):
                end = min(hi, chunk + TOGETHER)
                for strip in range(4 * chunk, 4 * end):
                    acc: Any = begin(depth, vectors, offset, 4 * strip)
                    for j in range(start[strip], start[strip + 1]):
                        prefetch(value, (j + AHEAD) * 4 * depth)
                        acc = block(depth, acc, value, index, j, x, base)
                    to = 4 * (strip - 4 * chunk) * span
                    put_row(scratch, to, finish(depth, acc, scale, 4 * strip, seen, token))
                for v in range(vectors):
                    for group in range(chunk, end):
                        square: Any = transpose(load_square(scratch, 16 * ((group - chunk) * span + v), span))
                        _put(y, token + 16 * v, tokens, 16 * group, rows, square)

    return multiply


@lru_cache
def narrow(depth: int) -> Any:
    """16 tokens in lanes, four strips side by side: 4 x 4 rows of sums."""
    width = words(depth, 1)

    @kernel
    def multiply(lo, hi, start, index, value, scale, offset, x, seen, y, tokens, rows, inputs, first, tiles):
        for tile in range(tiles):
            base, token = tile * inputs * width, first + tile * 16
            for group in range(lo, hi):
                s = 4 * group
                i, j, k, m, last = start[s], start[s + 1], start[s + 2], start[s + 3], start[s + 4]
                both = min(j - i, k - j, m - k, last - m)
                a: Any = begin(depth, 1, offset, 4 * s)
                b: Any = begin(depth, 1, offset, 4 * s + 4)
                c: Any = begin(depth, 1, offset, 4 * s + 8)
                d: Any = begin(depth, 1, offset, 4 * s + 12)
                for n in range(both):
                    _ahead(value, index, last + 4 * n, depth)
                    a = block(depth, a, value, index, i + n, x, base)
                    b = block(depth, b, value, index, j + n, x, base)
                    c = block(depth, c, value, index, k + n, x, base)
                    d = block(depth, d, value, index, m + n, x, base)
                for n in range(i + both, j):
                    a = block(depth, a, value, index, n, x, base)
                for n in range(j + both, k):
                    b = block(depth, b, value, index, n, x, base)
                for n in range(k + both, m):
                    c = block(depth, c, value, index, n, x, base)
                for n in range(m + both, last):
                    d = block(depth, d, value, index, n, x, base)
                a = finish(depth, a, scale, 4 * s, seen, token)
                b = finish(depth, b, scale, 4 * s + 4, seen, token)
                c = finish(depth, c, scale, 4 * s + 8, seen, token)
                d = finish(depth, d, scale, 4 * s + 12, seen, token)
                _put(y, token, tokens, 16 * group, rows, transpose(a + b + c + d))

    return multiply


@lru_cache
def few(depth: int) -> Any:
    """One token after the other, four strips side by side, 4 rows in a quarter of a register."""

    @kernel
    def multiply(lo, hi, start, index, value, scale, offset, x, stride, seen, y, tokens, rows):
        for group in range(lo, hi):
            s = 4 * group
            i, j, k, m, last = start[s], start[s + 1], start[s + 2], start[s + 3], start[s + 4]
            both = min(j - i, k - j, m - k, last - m)
            for t in range(tokens):
                base, to, own = t * stride, t * rows + 4 * s, seen[t]
                a: Any = begin_strip(depth, offset, 4 * s)
                b: Any = begin_strip(depth, offset, 4 * s + 4)
                c: Any = begin_strip(depth, offset, 4 * s + 8)
                d: Any = begin_strip(depth, offset, 4 * s + 12)
                for n in range(both):
                    _ahead(value, index, last + (last - i) // 2 + 4 * n, depth)
                    a = unit(depth, a, value, index, i + n, x, base)
                    b = unit(depth, b, value, index, j + n, x, base)
                    c = unit(depth, c, value, index, k + n, x, base)
                    d = unit(depth, d, value, index, m + n, x, base)
                for n in range(i + both, j):
                    a = unit(depth, a, value, index, n, x, base)
                for n in range(j + both, k):
                    b = unit(depth, b, value, index, n, x, base)
                for n in range(k + both, m):
                    c = unit(depth, c, value, index, n, x, base)
                for n in range(m + both, last):
                    d = unit(depth, d, value, index, n, x, base)
                put_strip(depth, y, to, a, scale, 4 * s, own, rows - 4 * s)
                put_strip(depth, y, to + 4, b, scale, 4 * s + 4, own, rows - 4 * s - 4)
                put_strip(depth, y, to + 8, c, scale, 4 * s + 8, own, rows - 4 * s - 8)
                put_strip(depth, y, to + 12, d, scale, 4 * s + 12, own, rows - 4 * s - 12)

    return multiply
