"""Multiplying by matrices in strips of rows: `Dense`, the honest baseline of the same make, `Bitmap` and `NM`.

One token reads every weight once: bound by memory, the fewer bytes the faster. From 4 or 8 tokens on a strip's
weights are used again from the cache, and the register tile (2 registers of rows x 8 tokens) runs at the rate of the
multiply-add units; a bitmap then does all of the dense work, since expanded zeros are multiplied like any weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench_kernels import _strips
from workbench_kernels._cpu import features
from workbench_kernels._kernel import blocks, register_matmul, unstructured
from workbench_kernels._panels import panels, width
from workbench_kernels._pool import even, parallel
from workbench_kernels.formats.strips import NM, Bitmap, Dense, strips_of
from workbench_kernels.matmul import multiplies


def _flat(*arrays: np.ndarray) -> list[np.ndarray]:
    return [a.reshape(-1) for a in arrays]


@multiplies(Dense)
def multiply_dense(weight: Dense, x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """``y = x W^T`` for all weights."""
    rows, inputs = weight.shape
    wide = width(x.shape[0], features().tokens)
    packed = panels(x, weight.sees, wide)
    run, bounds = _strips.dense(weight.values, wide), even(strips_of(rows), threads)
    arrays = _flat(weight.value, weight.scale)
    parallel(run, bounds, *arrays, *packed, y.reshape(-1), rows, x.shape[0], rows, inputs)


def multiply_bitmap(weight: Bitmap, x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """``y = x W^T`` for the weights that are set."""
    rows, inputs = weight.shape
    wide = width(x.shape[0], features().tokens)
    packed = panels(x, weight.sees, wide)
    run, bounds = _strips.bitmap(weight.values, wide), even(strips_of(rows), threads)
    arrays = _flat(weight.mask, weight.value, weight.start, weight.scale)
    parallel(run, bounds, *arrays, *packed, y.reshape(-1), rows, x.shape[0], rows, inputs)


multiplies(Bitmap)(multiply_bitmap)
multiplies(NM)(multiply_bitmap)


def _two_of_four(rng: np.random.Generator, weight: np.ndarray, density: float) -> np.ndarray:
    keep = np.argsort(rng.random((weight.shape[0], -(-weight.shape[1] // 4), 4)), axis=2) < round(2 * density)
    return np.where(keep.reshape(weight.shape[0], -1)[:, : weight.shape[1]], weight, 0).astype(np.float32)


_WORDS: dict[str, Any] = {"fp32": "float32", "bf16": "bf16 pairs", "int8": "int8 quads, activations in groups of 64"}
for _values, _words in _WORDS.items():
    register_matmul(Dense, _values, f"dense, {_words}", blocks(1))
    register_matmul(Bitmap, _values, f"bitmap, {_words}", unstructured)
    register_matmul(NM, _values, f"2 of 4, {_words}", _two_of_four, name="2:4", n=2, m=4)
