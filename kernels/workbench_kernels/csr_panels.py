"""Unstructured sparse weights, many tokens: columns in panels, tokens in lanes.

    y[n, t] = sum over panels p, entries e of row n in p:  value[e] x[p * width + index[e], t]

A tile of 64 tokens of a panel (36 KiB) stays in the first cache. Loads are what is scarce, two a cycle: each entry
needs four of activations for its four multiply-adds, so four entries share one load of values and one of indices. bf16
takes entries in pairs: two rows of the tile are interleaved in registers and one vdpbf16ps multiplies both, which
halves the loads. Sums of a block of rows wait in the second cache between panels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from workbench_kernels import _memory
from workbench_kernels._jit import inline, kernel
from workbench_kernels._kernel import register_matmul, unstructured
from workbench_kernels._pool import parallel
from workbench_kernels._tile import each_add, put_row, row, zeros
from workbench_kernels._tokens import added, dot_four, multiply_four, plan, tiles, unpack
from workbench_kernels._unstructured import balanced, either, load_values
from workbench_kernels._vector import LANES, load_i32, store_i32
from workbench_kernels._wide import pack_bf16
from workbench_kernels.formats.csr_panels import PanelCSR
from workbench_kernels.matmul import multiplies

_LANES = np.repeat(np.arange(4, dtype=np.int32), LANES)


@lru_cache
def _fp32(vectors: int) -> Any:
    wide = vectors * LANES

    @kernel
    def multiply(lo, hi, slot, sizes, group, runs, rows, index, value, scale, x, sums, spare, y):
        count, panels, height, width, full = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
        first, tokens, outputs = sizes[5], sizes[6], sizes[7]
        base = slot[lo] * ((height + 15) // 16 * 16 * wide)
        lanes = (load_i32(spare, 0), load_i32(spare, 16), load_i32(spare, 32), load_i32(spare, 48))
        for unit in range(lo, hi):
            block, tile = unit // count, unit % count
            clear(sums, base, height * wide)
            for g in range(block * panels, (block + 1) * panels):
                segment, j = group[g, 1], group[g, 2]
                origin = (tile * full + (g - block * panels) * width) * wide
                for r in range(group[g, 0], group[g + 1, 0]):
                    length = np.int64(runs[r, 0])
                    for _ in range(runs[r, 1]):
                        at = base + np.int64(rows[segment]) * wide
                        four = zeros(vectors) + zeros(vectors) + zeros(vectors) + zeros(vectors)
                        for i in range(j, j + length, 4):
                            four = multiply_four(four, value, index, i, x, origin, lanes)
                        put_row(sums, at, each_add(row(sums, at, vectors), added(four, vectors)))
                        j += length
                        segment += 1
            lines = min(height, outputs - block * height)
            unpack(sums, base, wide, y, first + tile * wide, tokens, block * height, lines, outputs, scale)

    return multiply


@lru_cache
def _pairs(vectors: int, decoded: int) -> Any:
    """For bf16 and, if ``decoded``, int8 values: a panel's are first written to ``spare`` as bf16, exactly."""
    wide = vectors * LANES

    @kernel
    def multiply(lo, hi, slot, sizes, group, runs, rows, index, value, scale, x, sums, spare, y):
        count, panels, height, width, full = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
        first, tokens, outputs, room = sizes[5], sizes[6], sizes[7], sizes[8]
        base = slot[lo] * ((height + 15) // 16 * 16 * wide)
        source = either(value, spare)
        for unit in range(lo, hi):
            block, tile = unit // count, unit % count
            clear(sums, base, height * wide)
            for g in range(block * panels, (block + 1) * panels):
                segment, j = group[g, 1], group[g, 2]
                shift = 0
                if decoded:
                    shift = slot[lo] * room - j
                    decode_pairs(value, j, group[g + 1, 2], spare, shift)
                origin = (tile * full + (g - block * panels) * width) * wide
                for r in range(group[g, 0], group[g + 1, 0]):
                    length = np.int64(runs[r, 0])
                    for _ in range(runs[r, 1]):
                        at = base + np.int64(rows[segment]) * wide
                        both = zeros(vectors) + zeros(vectors)
                        for i in range(j, j + length, 4):
                            both = dot_four(both, source, shift, index, i, x, origin)
                        put_row(sums, at, each_add(row(sums, at, vectors), added(both, vectors)))
                        j += length
                        segment += 1
            lines = min(height, outputs - block * height)
            unpack(sums, base, wide, y, first + tile * wide, tokens, block * height, lines, outputs, scale)

    return multiply


@inline
def clear(sums, start, count):
    """Zero ``count`` float32, a multiple of 16."""
    for i in range(start, start + count, 16):
        put_row(sums, i, zeros(1))


@inline
def decode_pairs(value, start, end, spare, shift):
    """Int8 values to bf16 at the same place + shift, in steps of 32."""
    for i in range(start, end, 32):
        store_i32(spare, i + shift, pack_bf16(load_values(value, i), load_values(value, i + 16)))


@multiplies(PanelCSR)
def multiply_panels(weight: PanelCSR, x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """``y = x W^T`` for the weights that are stored, tile by tile of up to 64 tokens."""
    rows, inputs = weight.shape
    narrow, decoded = weight.sees == "fp32", weight.values == "int8"
    lines, room = -(-weight.height // 16) * 16, weight.room
    arrays = (weight.group, weight.run, weight.row, weight.index, weight.value, weight.scale)
    for first, count, vectors in plan(x.shape[0], 4, 1 if narrow else 2):
        units = weight.blocks * count
        bounds = balanced(np.repeat(weight.work, count), threads) if threads > 1 else [0, units]
        packed = tiles(x, first, count, vectors, weight.sees, threads)
        slot = np.zeros(bounds[-1], np.int64)
        slot[bounds[:-1]] = range(len(bounds) - 1)
        sums = _memory.empty((len(bounds) - 1) * lines * vectors * LANES, np.float32)
        spare = _LANES if narrow else _memory.empty((len(bounds) - 1) * room if decoded else 0, np.uint16)
        full = -(-inputs // 16) * 16
        sizes = np.array((count, weight.panels, weight.height, weight.width, full, first, x.shape[0], rows, room))
        run = _fp32(vectors) if narrow else _pairs(vectors, int(decoded))
        parallel(run, bounds, slot, sizes, *arrays, packed, sums, spare, y.reshape(-1))


_WORDS = {"fp32": "float32", "bf16": "bf16 pairs", "int8": "int8 widened to bf16 pairs"}
for _values, _words in _WORDS.items():
    register_matmul(PanelCSR, _values, f"CSR in panels of columns, {_words}", unstructured)
