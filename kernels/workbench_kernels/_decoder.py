"""What a decoder does between its matrices: norms, rotary positions, the cache, the gated activation.

Everything is row-major float32 by token; vectors run along the hidden dimension. A token's result does not depend on
the other tokens of the call.
"""

from __future__ import annotations

import numpy as np

from workbench_kernels._jit import inline, kernel
from workbench_kernels._math import silu
from workbench_kernels._vector import add, fma, load, load_first, mul, splat, store, store_first, total


@inline
def add_to(h, h_at, y, y_at, count):
    """``h[h_at ...] += y[y_at ...]``, ``count`` numbers."""
    for i in range(0, count, 16):
        left = count - i
        value = add(load_first(h, h_at + i, left), load_first(y, y_at + i, left))
        store_first(h, h_at + i, value, left)


@inline
def norm_row(x, x_at, weight, out, out_at, count, epsilon):
    """RMSNorm: ``out = w x / sqrt(mean(x^2) + eps)``; squares are summed in lanes i % 16."""
    squares = splat(np.float32(0))
    for i in range(0, count, 16):
        value = load_first(x, x_at + i, count - i)
        squares = fma(value, value, squares)
    factor = splat(np.float32(1) / np.sqrt(total(squares) / np.float32(count) + epsilon))
    for i in range(0, count, 16):
        left = count - i
        value = mul(mul(load_first(x, x_at + i, left), factor), load_first(weight, i, left))
        store_first(out, out_at + i, value, left)


@inline
def rotate_row(x, at, cosine, sine, c_at, out, out_at, dim, scale):
    """Rotary position of one head: ``x cos + rotate_half(x) sin``, times ``scale``; ``dim`` is a multiple of 32."""
    half, by = dim // 2, splat(scale)
    for i in range(0, half, 16):
        low, high = load(x, at + i), load(x, at + half + i)
        first = fma(sub0(high), load(sine, c_at + i), mul(low, load(cosine, c_at + i)))
        second = fma(low, load(sine, c_at + half + i), mul(high, load(cosine, c_at + half + i)))
        store(out, out_at + i, mul(first, by))
        store(out, out_at + half + i, mul(second, by))


@inline
def sub0(x):
    """``-x``."""
    return mul(x, splat(np.float32(-1)))


@inline
def gate_row(gate, g_at, up, u_at, out, out_at, count):
    """``silu(gate) * up``."""
    for i in range(0, count, 16):
        left = count - i
        value = mul(silu(load_first(gate, g_at + i, left)), load_first(up, u_at + i, left))
        store_first(out, out_at + i, value, left)


@inline
def copy_row(x, x_at, out, out_at, count):
    """Copy ``count`` numbers."""
    for i in range(0, count, 16):
        left = count - i
        store_first(out, out_at + i, load_first(x, x_at + i, left), left)


@inline
def append_key(row, at, cache, c_at, position, dim):
    """Write one key of ``dim`` numbers into blocks of 16 keys, transposed: ``cache[block][d][position % 16]``."""
    to = c_at + (position // 16) * 16 * dim + position % 16
    for d in range(dim):
        cache[to + 16 * d] = row[at + d]


@kernel
def move_rows(k, v, heads, keys, dim, start, rows):
    """Copy what is cached of tokens ``start + rows[n]`` to ``start + n``, n ascending; rows ascend."""
    for h in range(heads):
        base = h * keys * dim
        for n in range(rows.size):
            old, new = start + rows[n], start + n
            for d in range(dim):
                k[base + new // 16 * 16 * dim + 16 * d + new % 16] = k[base + old // 16 * 16 * dim + 16 * d + old % 16]
                v[base + new * dim + d] = v[base + old * dim + d]
