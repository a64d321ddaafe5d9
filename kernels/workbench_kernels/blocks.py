"""Multiplying by blocks of 16 rows: one register of weights by the activations of one input.

    acc[t, r] += w[r, index[j]] x[t, index[j]]          j over the blocks of a strip, rows r in lanes

The layout makes sparsity cheap: an index of two bytes serves 16 weights, a block costs what it costs in a dense
kernel, and outputs are written row-major as they are. For one token it is bound by memory.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from workbench_kernels._cpu import features
from workbench_kernels._jit import inline, kernel
from workbench_kernels._kernel import blocks, register_matmul
from workbench_kernels._memory import for_kernels
from workbench_kernels._panels import width
from workbench_kernels._pool import worth
from workbench_kernels._prepared import MULTIPLY, Prepared, flat, packing, prepared, scratch_words
from workbench_kernels._strips import AHEAD, row_scales
from workbench_kernels._tile import each_mul, outer, put_outputs, put_some, zeros
from workbench_kernels._vector import fetch, load, load_bf16, load_int8
from workbench_kernels._wide import prefetch
from workbench_kernels.formats.blocks import BlockRows, ColumnBlocks
from workbench_kernels.matmul import multiplies


@inline
def _finish(y, token, stride, strip, acc, tokens, rows, wide):
    if strip * 16 + 16 <= rows and token + wide <= tokens:
        put_outputs(y, token * stride + strip * 16, stride, acc, 1)
    else:
        put_some(y, token * stride + strip * 16, stride, acc, 1, tokens - token, rows - strip * 16)


@lru_cache
def column_blocks(values: str, wide: int, run: int = 1) -> Any:
    """``f(lo, hi, index, value, start, scale, x, y, stride, tokens, rows, inputs)`` for strips lo to hi of 16 rows.

    index, value, start, scale: of `ColumnBlocks`, flat. x: float32 panels of ``wide`` tokens,
    inputs rounded up to 16, or to the run if it is longer. y float32, flat.
    """
    return _MAKE[values](wide, run)


def _ahead(wide: int, size: int) -> int:
    """Weights of ``size`` bytes between use and request; 0: one token is so quick that the processor's own are best."""
    return AHEAD // size if wide > 1 else 0


def _fp32(wide: int, run: int) -> Any:
    unit, ahead = max(16, run), _ahead(wide, 4)

    @kernel
    def multiply(lo, hi, index, value, start, scale, x, y, stride, tokens, rows, inputs):
        full = (inputs + unit - 1) // unit * unit
        for panel in range((tokens + wide - 1) // wide):
            at = panel * full * wide
            for strip in range(lo, hi):
                acc = zeros(wide)
                for j in range(fetch(start, strip), fetch(start, strip + 1)):
                    k, w = np.int64(fetch(index, j)) * run, j * run * 16
                    for i in range(run):
                        if ahead:
                            prefetch(value, w + i * 16 + ahead)
                        acc = outer(acc, (load(value, w + i * 16),), x, at + (k + i) * wide)
                _finish(y, panel * wide, stride, strip, acc, tokens, rows, wide)

    return multiply


def _bf16(wide: int, run: int) -> Any:
    unit, ahead = max(16, run), _ahead(wide, 2)

    @kernel
    def multiply(lo, hi, index, value, start, scale, x, y, stride, tokens, rows, inputs):
        full = (inputs + unit - 1) // unit * unit
        for panel in range((tokens + wide - 1) // wide):
            at = panel * full * wide
            for strip in range(lo, hi):
                acc = zeros(wide)
                for j in range(fetch(start, strip), fetch(start, strip + 1)):
                    k, w = np.int64(fetch(index, j)) * run, j * run * 16
                    for i in range(run):
                        if ahead:
                            prefetch(value, w + i * 16 + ahead)
                        acc = outer(acc, (load_bf16(value, w + i * 16),), x, at + (k + i) * wide)
                _finish(y, panel * wide, stride, strip, acc, tokens, rows, wide)

    return multiply


def _int8(wide: int, run: int) -> Any:
    unit, ahead = max(16, run), _ahead(wide, 1)

    @kernel
    def multiply(lo, hi, index, value, start, scale, x, y, stride, tokens, rows, inputs):
        full = (inputs + unit - 1) // unit * unit
        for panel in range((tokens + wide - 1) // wide):
            at = panel * full * wide
            for strip in range(lo, hi):
                acc = zeros(wide)
                for j in range(fetch(start, strip), fetch(start, strip + 1)):
                    k, w = np.int64(fetch(index, j)) * run, j * run * 16
                    for i in range(run):
                        if ahead:
                            prefetch(value, w + i * 16 + ahead)
                        acc = outer(acc, (load_int8(value, w + i * 16),), x, at + (k + i) * wide)
                acc = each_mul(acc, row_scales(scale, strip * 16, wide, 1))
                _finish(y, panel * wide, stride, strip, acc, tokens, rows, wide)

    return multiply


_MAKE = {"fp32": _fp32, "bf16": _bf16, "int8": _int8}


def balanced(start: np.ndarray, threads: int) -> list[int]:
    """Bounds of up to ``threads`` contiguous parts with about equal numbers of blocks (each strip counts as 4 more).

    Examples
    --------
    >>> balanced(np.array([0, 90, 95, 100]), 2)
    [0, 1, 3]
    """
    strips = len(start) - 1
    if threads == 1:
        return [0, strips]
    work = start + 4 * np.arange(strips + 1)
    cuts = np.searchsorted(work, work[-1] * np.arange(1, threads) / threads)
    return sorted({0, strips, *(int(c) for c in np.clip(cuts, 1, max(1, strips - 1)))})


@lru_cache
def _call(values: str, wide: int, run: int) -> Any:
    pack, blocks = packing("fp32", wide, max(16, run)), column_blocks(values, wide, run)

    @kernel
    def call(lo, hi, phase, index, value, start, scale, x, scratch, y):
        lanes, _, _ = pack(phase, x, scratch)
        if phase & MULTIPLY:
            tokens, inputs, rows = x.shape[0], x.shape[1], y.shape[1]
            blocks(lo, hi, index, value, start, scale, lanes, flat(y), rows, tokens, rows, inputs)

    return call


def _ready(weight: ColumnBlocks, tokens: int, threads: int) -> Prepared:
    wide = width(tokens, 16 if features().wide else 4)
    bounds = balanced(weight.start, worth(threads, weight.nbytes, 2 * weight.stored * tokens))
    arrays = weight.index, weight.value, weight.start, weight.scale
    words = scratch_words(tokens, weight.shape[1], "fp32", wide, max(16, weight.run))
    return Prepared(_call(weight.values, wide, weight.run), bounds, tuple(for_kernels(a) for a in arrays), words)


def multiply_blocks(weight: ColumnBlocks, x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """``y = x W^T`` for the blocks that are stored."""
    prepared(weight, x.shape[0], threads, _ready).multiply(x, y)


multiplies(ColumnBlocks)(multiply_blocks)
multiplies(BlockRows)(multiply_blocks)
for _values in _MAKE:
    register_matmul(ColumnBlocks, _values, f"16x1 blocks, {_values} weights", blocks(16))
    for _block in (16, 32):
        _title, _prune = f"{_block}x{_block} blocks, {_values} weights", blocks(_block, _block)
        register_matmul(BlockRows, _values, _title, _prune, name=f"bsr{_block}", block=_block)
