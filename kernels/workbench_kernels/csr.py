"""Unstructured sparse weights row by row, for few tokens: `CSR`.

    y[n, t] = sum over entries e of row n:  value[e] x[index[e], t]

Entry e of a row adds to the partial sum e mod 16. Up to 3 tokens one register holds the 16 partial sums of a row and
activations are collected by single loads; with more, 16 registers do, each with 16 tokens. Both add the same numbers
in the same order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench_kernels import _memory
from workbench_kernels._jit import kernel
from workbench_kernels._kernel import register_matmul, unstructured
from workbench_kernels._pool import even, parallel
from workbench_kernels._tile import zeros
from workbench_kernels._tokens import tiles, unpack_tiles
from workbench_kernels._unstructured import (
    balanced,
    collect,
    first_of,
    fold,
    load_values,
    multiply_columns,
    multiply_last,
)
from workbench_kernels._vector import LANES, fma, splat, store, total
from workbench_kernels.formats.csr import CSR
from workbench_kernels.matmul import multiplies

FEW = 3  # tokens up to which collecting is faster than 16 tokens in lanes


@kernel
def gather_rows(lo, hi, start, index, value, scale, x, y, tokens, rows, inputs):
    """Rows lo to hi of y [tokens, rows], token by token."""
    for n in range(lo, hi):
        end = start[n + 1]
        whole = start[n] + (end - start[n]) // 16 * 16
        for t in range(tokens):
            line = x[t * inputs :]
            acc: Any = splat(np.float32(0))
            for e in range(start[n], whole, 16):
                acc = fma(load_values(value, e), collect(line, index, e), acc)
            if whole < end:
                weights = first_of(load_values(value, whole), end - whole)
                acc = fma(weights, first_of(collect(line, index, whole), end - whole), acc)
            y[t * rows + n] = total(acc) * scale[n] if scale.size else total(acc)


@kernel
def multiply_rows(lo, hi, start, index, value, x, sums, count, rows, inputs):
    """Rows lo to hi of ``sums`` [tile][rows padded to 16][16]."""
    full, deep = (rows + 15) // 16 * 16, (inputs + 15) // 16 * 16
    for tile in range(count):
        origin = tile * deep * LANES
        for n in range(lo, hi):
            end, acc = start[n + 1], zeros(16)
            whole = start[n] + (end - start[n]) // 16 * 16
            for e in range(start[n], whole, 16):
                acc = multiply_columns(acc, value, index, e, x, origin, acc)
            acc = multiply_last(acc, value, index, whole, x, origin, end - whole)
            store(sums, (tile * full + n) * LANES, fold(acc))


@multiplies(CSR)
def multiply_csr(weight: CSR, x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """``y = x W^T`` for the weights that are stored."""
    (rows, inputs), tokens = weight.shape, x.shape[0]
    bounds = balanced(weight.work, threads) if threads > 1 else [0, rows]
    arrays, flat = (weight.start, weight.index, weight.value), y.reshape(-1)
    if tokens <= FEW:
        parallel(gather_rows, bounds, *arrays, weight.scale, x.reshape(-1), flat, tokens, rows, inputs)
        return
    count = -(-tokens // LANES)
    packed = tiles(x, 0, count, 1, "fp32", threads)
    sums = _memory.empty(count * -(-rows // 16) * 16 * LANES, np.float32)
    parallel(multiply_rows, bounds, *arrays, packed, sums, count, rows, inputs)
    blocks = even(-(-rows // 16), threads)
    parallel(unpack_tiles, blocks, sums, count, LANES, flat, tokens, rows, weight.scale)


for _values, _words in {"fp32": "float32", "bf16": "bf16 widened", "int8": "int8 widened"}.items():
    register_matmul(CSR, _values, f"CSR, {_words}", unstructured)
