"""Multiplications made ready: what depends on the weight and the number of tokens only is worked out once.

    matmul --> prepared(weight, T, threads) --> run(lo, hi, phase, weight's arrays, x, scratch, y)

``run`` is one compiled function that packs the activations (phase 1), multiplies strips lo to hi (phase 2), or both.
A call from Python costs a dictionary, a look at the scratch memory and one compiled call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from workbench_kernels import _memory, _pool
from workbench_kernels._jit import inline
from workbench_kernels._panels import STEP, pack_fp32, pack_pairs, pack_quads, padded
from workbench_kernels._pool import parallel
from workbench_kernels.program import view

PACK, MULTIPLY = 1, 2
MOST = 64  # numbers of tokens and threads that a weight keeps ready


class Prepared(NamedTuple):
    """What a call needs beside x and y.

    Attributes
    ----------
    run
        ``run(lo, hi, phase, *arrays, x, scratch, y)``.
    bounds
        Of the parts of the work, strips.
    arrays
        Of the weight: flat, aligned, with slack.
    words
        Of scratch, 4 bytes each.
    """

    run: Any
    bounds: Sequence[int]
    arrays: tuple[np.ndarray, ...]
    words: int

    def multiply(self, x: np.ndarray, y: np.ndarray) -> None:
        """``y = x W^T`` for x float32 [T, K] and y float32 [T, N], C-contiguous."""
        space = _memory.scratch(self.words)
        if len(self.bounds) == 2:
            parallel(self.run, self.bounds, PACK + MULTIPLY, *self.arrays, x, space, y)
            return
        self.run(0, 0, PACK, *self.arrays, x, space, y)
        parallel(self.run, self.bounds, MULTIPLY, *self.arrays, x, space, y)


def prepared(weight: Any, tokens: int, threads: int, make: Callable[[Any, int, int], Prepared]) -> Prepared:
    """What ``make(weight, tokens, threads)`` returned the first time, kept with the weight.

    A copy of a weight that took over what was kept, but has memory of its own, starts anew.
    """
    kept = weight.__dict__.get("_ready")
    if kept is None or kept[0] is not weight.value:
        kept = weight.__dict__["_ready"] = (weight.value, {})
    key, ready = (tokens if threads == 1 else (tokens, threads, _pool.GRAIN)), kept[1]
    found: Prepared | None = ready.get(key)
    if found is None:
        if len(ready) >= MOST:
            ready.clear()
        found = ready[key] = make(weight, tokens, threads)
    return found


def scratch_words(tokens: int, inputs: int, sees: str, wide: int, unit: int = 16) -> int:
    """Words of scratch that `packing` needs: the panels, for int8 scales and corrections, and slack."""
    count, full = -(-tokens // wide), -(-inputs // unit) * unit if sees == "fp32" else padded(inputs, sees)
    lanes = count * full // STEP[sees] * wide
    groups = -(-count * full * wide // 1024) * 16 if sees == "int8" else 0
    return lanes + 2 * groups + 16


@inline
def _room(count):
    return (count + 15) // 16 * 16


@inline
def flat(array):
    """All of a C-contiguous array, in one dimension."""
    return view(array.ctypes.data, array.size, np.float32)


def packing(sees: str, wide: int, unit: int = 16) -> Any:
    """``f(phase, x [T, K], scratch)``: pack x if asked to; panels, scales and corrections within the scratch."""
    if sees == "int8":
        return _quads(pack_quads(wide), wide)
    return _pairs(pack_pairs(wide), wide) if sees == "bf16" else _plain(pack_fp32(wide, unit), wide, unit)


def _plain(pack: Any, wide: int, unit: int) -> Any:
    @inline
    def packed(phase, x, scratch):
        tokens, inputs, at = x.shape[0], x.shape[1], scratch.ctypes.data
        full, count = (inputs + unit - 1) // unit * unit, (tokens + wide - 1) // wide
        if wide == 1 and full == inputs:  # it lies as it should
            lanes = view(x.ctypes.data, x.size, np.uint32)
        else:
            lanes = view(at, count * full * wide, np.uint32)
            if phase & PACK:
                pack(0, count, flat(x), lanes, tokens, inputs)
        return lanes, view(at, 0, np.float32), view(at, 0, np.int32)

    return packed


def _pairs(pack: Any, wide: int) -> Any:
    @inline
    def packed(phase, x, scratch):
        tokens, inputs, at = x.shape[0], x.shape[1], scratch.ctypes.data
        full, count = (inputs + 31) // 32 * 32, (tokens + wide - 1) // wide
        lanes = view(at, count * full // 2 * wide, np.uint32)
        if phase & PACK:
            pack(0, count, flat(x), lanes, tokens, inputs)
        return lanes, view(at, 0, np.float32), view(at, 0, np.int32)

    return packed


def _quads(pack: Any, wide: int) -> Any:
    @inline
    def packed(phase, x, scratch):
        tokens, inputs, at = x.shape[0], x.shape[1], scratch.ctypes.data
        full, count = (inputs + 63) // 64 * 64, (tokens + wide - 1) // wide
        size, groups = count * full // 4 * wide, count * full // 64 * wide
        lanes = view(at, size, np.uint32)
        scale = view(at + 4 * size, groups, np.float32)
        correction = view(at + 4 * (size + _room(groups)), groups, np.int32)
        if phase & PACK:
            pack(0, count, flat(x), lanes, scale, correction, tokens, inputs)
        return lanes, scale, correction

    return packed
