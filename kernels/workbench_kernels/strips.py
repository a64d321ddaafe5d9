"""Multiplying by matrices in strips of rows: `Dense`, the honest baseline of the same make, `Bitmap` and `NM`.

One token reads every weight once: bound by memory, the fewer bytes the faster. From 4 or 8 tokens on a strip's
weights are used again from the cache, and the register tile (2 registers of rows x 8 tokens) runs at the rate of the
multiply-add units; a bitmap then does all of the dense work, since expanded zeros are multiplied like any weight.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from workbench_kernels import _strips
from workbench_kernels._cpu import features
from workbench_kernels._jit import kernel
from workbench_kernels._kernel import blocks, register_matmul, unstructured
from workbench_kernels._memory import for_kernels
from workbench_kernels._panels import width
from workbench_kernels._pool import even, worth
from workbench_kernels._prepared import MULTIPLY, Prepared, flat, packing, prepared, scratch_words
from workbench_kernels.formats.strips import NM, Bitmap, Dense, strips_of
from workbench_kernels.matmul import multiplies


@lru_cache
def _dense(values: str, wide: int) -> Any:
    pack, multiply = packing(values, wide), _strips.dense(values, wide)

    @kernel
    def run(lo, hi, phase, value, scale, x, scratch, y):
        lanes, xs, xc = pack(phase, x, scratch)
        if phase & MULTIPLY:
            multiply(lo, hi, value, scale, lanes, xs, xc, flat(y), y.shape[1], x.shape[0], y.shape[1], x.shape[1])

    return run


@lru_cache
def _bitmap(values: str, wide: int) -> Any:
    pack, multiply = packing(values, wide), _strips.bitmap(values, wide)

    @kernel
    def run(lo, hi, phase, mask, value, start, scale, x, scratch, y):
        lanes, xs, xc = pack(phase, x, scratch)
        if phase & MULTIPLY:
            tokens, inputs, rows = x.shape[0], x.shape[1], y.shape[1]
            multiply(lo, hi, mask, value, start, scale, lanes, xs, xc, flat(y), rows, tokens, rows, inputs)

    return run


def _ready(weight: Dense | Bitmap, tokens: int, threads: int) -> Prepared:
    (rows, inputs), values = weight.shape, weight.values
    wide = width(tokens, features().tokens)
    if isinstance(weight, Dense):
        run, arrays = _dense(values, wide), (weight.value, weight.scale)
    else:
        run, arrays = _bitmap(values, wide), (weight.mask, weight.value, weight.start, weight.scale)
    bounds = even(strips_of(rows), worth(threads, weight.nbytes, 2 * rows * inputs * tokens))
    words = scratch_words(tokens, inputs, weight.sees, wide)
    return Prepared(run, bounds, tuple(for_kernels(a) for a in arrays), words)


def multiply_strips(weight: Dense | Bitmap, x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """``y = x W^T`` for all weights, or for those that are set."""
    prepared(weight, x.shape[0], threads, _ready).multiply(x, y)


for _kind in (Dense, Bitmap, NM):
    multiplies(_kind)(multiply_strips)


def _two_of_four(rng: np.random.Generator, weight: np.ndarray, density: float) -> np.ndarray:
    keep = np.argsort(rng.random((weight.shape[0], -(-weight.shape[1] // 4), 4)), axis=2) < round(2 * density)
    return np.where(keep.reshape(weight.shape[0], -1)[:, : weight.shape[1]], weight, 0).astype(np.float32)


_WORDS: dict[str, Any] = {"fp32": "float32", "bf16": "bf16 pairs", "int8": "int8 quads, activations in groups of 64"}
for _values, _words in _WORDS.items():
    register_matmul(Dense, _values, f"dense, {_words}", blocks(1))
    register_matmul(Bitmap, _values, f"bitmap, {_words}", unstructured)
    register_matmul(NM, _values, f"2 of 4, {_words}", _two_of_four, name="2:4", n=2, m=4)
