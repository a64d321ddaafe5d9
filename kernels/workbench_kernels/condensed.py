"""Weights of constant fan-in, `Condensed` (SRigL, arXiv 2305.02299): no row pointers, no uneven rows.

    y[n, t] = sum over j < F:  value[strip, j, lane] x[index[strip, j, lane], t]

Up to 3 tokens the 16 rows of a strip are lanes and activations are collected by single loads; with more, tokens are
lanes and several rows of a strip are summed side by side. Either way an output adds its products in order of j.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from workbench_kernels import _memory
from workbench_kernels._jit import kernel
from workbench_kernels._kernel import register_matmul
from workbench_kernels._pool import even, parallel
from workbench_kernels._tile import zeros
from workbench_kernels._tokens import tiles, unpack_tiles
from workbench_kernels._unstructured import collect, load_values, multiply_columns, put_named
from workbench_kernels._vector import LANES, fma, splat, store
from workbench_kernels.formats.condensed import Condensed
from workbench_kernels.matmul import multiplies

FEW = 3  # tokens up to which rows in lanes are faster
REGISTERS = 16  # sums of one step


@kernel
def gather_strips(lo, hi, fan_in, row, index, value, scale, x, y, tokens, rows, inputs):
    """Strips lo to hi of y [tokens, rows]; rows that are not listed are left alone."""
    lanes = np.empty(LANES, np.float32)
    for s in range(lo, hi):
        for t in range(tokens):
            line = x[t * inputs :]
            acc: Any = splat(np.float32(0))
            for j in range(s * fan_in, (s + 1) * fan_in):
                acc = fma(load_values(value, j * LANES), collect(line, index, j * LANES), acc)
            store(lanes, 0, acc)
            for i in range(min(LANES, row.size - s * LANES)):
                n = row[s * LANES + i]
                y[t * rows + n] = lanes[i] * scale[n] if scale.size else lanes[i]


@lru_cache
def _multiply(vectors: int) -> Any:
    wide, lines = vectors * LANES, REGISTERS // vectors

    @kernel
    def multiply(lo, hi, fan_in, row, index, value, x, sums, count, rows, inputs):
        full, deep = (rows + 15) // 16 * 16, (inputs + 15) // 16 * 16
        for s in range(lo, hi):
            for tile in range(count):
                for first in range(0, min(LANES, row.size - s * LANES), lines):
                    acc, group = zeros(REGISTERS), zeros(lines)
                    for j in range(s * fan_in, (s + 1) * fan_in):
                        acc = multiply_columns(acc, value, index, j * LANES + first, x, tile * deep * wide, group)
                    put_named(sums, tile * full * wide, row, s * LANES + first, acc, group)

    return multiply


@multiplies(Condensed)
def multiply_condensed(weight: Condensed, x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """``y = x W^T``; rows without weights become zeros."""
    (rows, inputs), tokens, flat = weight.shape, x.shape[0], y.reshape(-1)
    arrays = (weight.fan_in, weight.row, weight.index.reshape(-1), weight.value.reshape(-1))
    bounds = even(weight.strips, threads)
    if tokens <= FEW:
        if weight.row.size < rows:
            y.fill(0)
        parallel(gather_strips, bounds, *arrays, weight.scale, x.reshape(-1), flat, tokens, rows, inputs)
        return
    vectors = 1 if tokens <= LANES else 2
    count = -(-tokens // (vectors * LANES))
    packed = tiles(x, 0, count, vectors, "fp32", threads)
    make = _memory.empty if weight.row.size == rows else _memory.zeros
    sums = make(count * -(-rows // 16) * 16 * vectors * LANES, np.float32)
    parallel(_multiply(vectors), bounds, *arrays, packed, sums, count, rows, inputs)
    blocks = even(-(-rows // 16), threads)
    parallel(unpack_tiles, blocks, sums, count, vectors * LANES, flat, tokens, rows, weight.scale)


def constant_fan_in(rng: np.random.Generator, weight: np.ndarray, density: float) -> np.ndarray:
    """Zero all but a share ``density`` of each row, at random; and whole rows, about one in eight."""
    kept = round(density * weight.shape[1])
    order = np.argsort(rng.random(weight.shape), axis=1)
    alive = rng.random((weight.shape[0], 1)) < 7 / 8
    return np.where((order < kept) & alive, weight, 0).astype(np.float32)


for _values, _words in {"fp32": "float32", "bf16": "bf16 widened", "int8": "int8 widened"}.items():
    register_matmul(Condensed, _values, f"constant fan-in, {_words}", constant_fan_in)
