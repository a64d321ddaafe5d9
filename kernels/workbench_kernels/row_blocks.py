"""Multiplying by matrices in blocks of 4 rows and 1 column: `RowBlocks`.

Up to 3 tokens read x as it lies; more are packed into tiles with tokens in lanes, 64 at a time and what is left 16 at
a time. Packing x, quantising it and turning outputs back into rows are parts of the operation. Bf16 and int8 round
the activations too: to bf16, and to int8 with one scale per token.
"""

from __future__ import annotations

import numpy as np

from workbench_kernels import _memory
from workbench_kernels import _row_blocks_kernels as kernels
from workbench_kernels._kernel import blocks, register_matmul
from workbench_kernels._pool import even, parallel
from workbench_kernels._row_blocks_steps import words
from workbench_kernels.formats.row_blocks import DEPTH, GROUP, HEIGHT, RowBlocks
from workbench_kernels.matmul import multiplies

FEW = 3  # tokens that are multiplied one after the other
SPAN = 64  # tokens of a wide tile; up to half of it left over are taken 16 at a time
_NONE = _memory.zeros(FEW, np.float32)


@multiplies(RowBlocks)
def multiply(weight: RowBlocks, x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """``y = x W^T`` for the stored blocks."""
    tokens, (scale, inverse) = x.shape[0], _scales(weight, x, threads)
    bounds = strip_bounds(weight, threads)
    if tokens <= FEW:
        _few(weight, x, y, scale, inverse, bounds)
        return
    full = tokens // SPAN + (tokens % SPAN > SPAN // 2)
    if full:
        _tiles(weight, x, y, scale, inverse, bounds, 4, 0, full)
    if tokens > full * SPAN:
        _tiles(weight, x, y, scale, inverse, bounds, 1, full * SPAN, -(-(tokens - full * SPAN) // 16))


def strip_bounds(weight: RowBlocks, threads: int) -> list[int]:
    """Bounds of ``threads`` contiguous parts of the groups of 16 rows, with about as many stored blocks each.

    Examples
    --------
    >>> strip_bounds(RowBlocks.from_dense(np.tri(64, dtype=np.float32)), 2)
    [0, 3, 4]
    """
    per_group = GROUP // HEIGHT
    groups = (weight.start.size - 1) // per_group
    if threads == 1 or groups == 1:
        return [0, groups]
    work = weight.start[::per_group] + np.arange(groups + 1)  # a group without blocks is some work too
    cuts = np.searchsorted(work, [int(work[-1]) * p / threads for p in range(1, threads)])
    return sorted({0, *cuts.tolist(), groups})


def _scales(weight: RowBlocks, x: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Scales of the tokens and one over them, of int8; else two arrays that are long enough for few tokens."""
    if weight.values != "int8":
        return _NONE, _NONE
    tokens, inputs = x.shape
    scale, inverse = _memory.zeros((2, tokens + SPAN), np.float32)
    parallel(kernels.token_scales, even(tokens, threads), x.reshape(-1), inputs, scale, inverse)
    return scale, inverse


def _few(
    weight: RowBlocks, x: np.ndarray, y: np.ndarray, scale: np.ndarray, inverse: np.ndarray, bounds: list[int]
) -> None:
    tokens, inputs = x.shape
    rows, seen, stride = weight.shape[0], x.reshape(-1), inputs
    if weight.values != "fp32":
        stride = -(-inputs // 32) * 32
        seen = _memory.empty(tokens * stride, np.uint16 if weight.values == "bf16" else np.uint8)
        if weight.values == "bf16":
            kernels.narrow_bf16(0, tokens, x.reshape(-1), inputs, stride, seen)
        else:
            kernels.narrow_int8(0, tokens, x.reshape(-1), inputs, stride, inverse, seen)
    run = kernels.few(DEPTH[weight.values])
    parallel(run, bounds, *_arrays(weight), seen, stride, scale, y.reshape(-1), tokens, rows)


def _tiles(
    weight: RowBlocks,
    x: np.ndarray,
    y: np.ndarray,
    scale: np.ndarray,
    inverse: np.ndarray,
    bounds: list[int],
    vectors: int,
    first: int,
    tiles: int,
) -> None:
    """Tiles of ``16 vectors`` tokens each, from token ``first`` on."""
    tokens, inputs = x.shape
    rows, depth, columns = weight.shape[0], DEPTH[weight.values], -(-inputs // 16)
    packed = _memory.empty(tiles * columns * 16 * words(depth, vectors), np.float32)
    items = even(tiles * columns, len(bounds) - 1)
    parallel(kernels.packing(depth, vectors), items, x.reshape(-1), tokens, inputs, first, inverse, packed)
    run = kernels.wide(depth) if vectors > 1 else kernels.narrow(depth)
    given = (*_arrays(weight), packed, scale, y.reshape(-1), tokens, rows, columns * 16, first, tiles)
    parallel(run, bounds, *given)


def _arrays(weight: RowBlocks) -> tuple[np.ndarray, ...]:
    return weight.start, weight.index, weight.value, weight.scale, weight.offset


_WORDS = {"fp32": "float32", "bf16": "bf16 pairs", "int8": "int8 quads, activations per token"}
for _values, _said in _WORDS.items():
    register_matmul(RowBlocks, _values, f"blocks of 4 rows x 1 column, {_said}", blocks(HEIGHT))
