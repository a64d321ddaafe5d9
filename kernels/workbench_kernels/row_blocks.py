"""Multiplying by matrices in blocks of 4 rows and 1 column: `RowBlocks`.

Up to 3 tokens read x as it lies; more are packed into tiles with tokens in lanes, 64 at a time and what is left 16 at
a time. Packing x, quantising it and turning outputs back into rows are parts of the operation. Bf16 and int8 round
the activations too: to bf16, and to int8 with one scale per token.
"""

from __future__ import annotations

import threading

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
ROOM = 1 << 19  # words of packed activations at once: 2 MiB
_KEPT = threading.local()
_NONE = _memory.zeros(FEW, np.float32)


@multiplies(RowBlocks)
def multiply(weight: RowBlocks, x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """``y = x W^T`` for the stored blocks."""
    tokens, bounds = x.shape[0], strip_bounds(weight, threads)
    scales = _scales(weight, x, threads)
    if tokens <= FEW:
        _few(weight, x, y, scales, bounds)
        return
    full = tokens // SPAN + (tokens % SPAN > SPAN // 2)
    if full:
        _tiles(weight, x, y, scales, bounds, 4, range(0, full * SPAN, SPAN))
    if tokens > full * SPAN:
        _tiles(weight, x, y, scales, bounds, 1, range(full * SPAN, tokens, 16))


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
    scales: tuple[np.ndarray, np.ndarray] | None = getattr(_KEPT, "scales", None)
    if scales is None or scales[0].size < tokens + SPAN:  # what tokens that are missing read does not matter
        size = max(tokens + SPAN, 1 << 10)
        scales = _KEPT.scales = _memory.zeros(size, np.float32), _memory.zeros(size, np.float32)
    bounds = even(tokens, threads) if threads > 1 else [0, tokens]
    parallel(kernels.token_scales, bounds, x, inputs, *scales)
    return scales


def _few(
    weight: RowBlocks, x: np.ndarray, y: np.ndarray, scales: tuple[np.ndarray, np.ndarray], bounds: list[int]
) -> None:
    tokens, inputs = x.shape
    rows, seen, stride = weight.shape[0], x, inputs
    if weight.values != "fp32":
        stride = -(-inputs // 32) * 32
        seen = _memory.empty((tokens, stride), np.uint16 if weight.values == "bf16" else np.uint8)
        if weight.values == "bf16":
            kernels.narrow_bf16(0, tokens, x, inputs, stride, seen)
        else:
            kernels.narrow_int8(0, tokens, x, inputs, stride, scales[1], seen)
    run = kernels.few(DEPTH[weight.values])
    parallel(run, bounds, *_arrays(weight), seen, stride, scales[0], y, tokens, rows)


def _tiles(
    weight: RowBlocks,
    x: np.ndarray,
    y: np.ndarray,
    scales: tuple[np.ndarray, np.ndarray],
    bounds: list[int],
    vectors: int,
    firsts: range,
) -> None:
    """Tiles of ``16 vectors`` tokens each, which begin at tokens ``firsts``; no more at once than `ROOM` holds."""
    tokens, inputs = x.shape
    rows, depth, columns = weight.shape[0], DEPTH[weight.values], -(-inputs // 16)
    size = columns * 16 * words(depth, vectors)
    pack, run = kernels.packing(depth, vectors), kernels.wide(depth) if vectors > 1 else kernels.narrow(depth)
    at_once = max(1, ROOM // size)
    for n in range(0, len(firsts), at_once):
        some = firsts[n : n + at_once]
        packed, count = _space(len(some) * size), len(some) * columns
        parallel(
            pack,
            even(count, len(bounds) - 1) if len(bounds) > 2 else [0, count],
            x,
            tokens,
            inputs,
            some[0],
            scales[1],
            packed,
        )
        given = (packed, scales[0], y, tokens, rows, columns * 16, some[0], len(some))
        parallel(run, bounds, *_arrays(weight), *given)


def _space(size: int) -> np.ndarray:
    """Words for packed activations, kept for the next call: fresh memory would be mapped page by page."""
    space: np.ndarray | None = getattr(_KEPT, "space", None)
    if space is None or space.size < size:
        space = _KEPT.space = _memory.empty(max(size, 1 << 14), np.float32)
    return space


def _arrays(weight: RowBlocks) -> tuple[np.ndarray, ...]:
    return weight.start, weight.index, weight.value, weight.scale, weight.offset


_WORDS = {"fp32": "float32", "bf16": "bf16 pairs", "int8": "int8 quads, activations per token"}
for _values, _said in _WORDS.items():
    register_matmul(RowBlocks, _values, f"blocks of 4 rows x 1 column, {_said}", blocks(HEIGHT))
