"""Aligned memory: numpy aligns to 16 bytes, a vector load wants 64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

ALIGN = 64
SLACK = 64


def empty(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialised C-contiguous array at a 64-byte boundary, with 64 readable bytes behind its end.

    Kernels that load a whole register where only part of it counts read into that slack.
    """
    count = shape if isinstance(shape, int) else math.prod(shape)
    raw = np.empty(count * np.dtype(dtype).itemsize + ALIGN + SLACK, np.uint8)
    start = -raw.__array_interface__["data"][0] % ALIGN
    return np.ndarray(shape, dtype, raw, start)


def zeros(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """Like `empty`, filled with zeros."""
    out = empty(shape, dtype)
    out.fill(0)
    return out


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy at a 64-byte boundary, C-contiguous, with slack behind it."""
    out = empty(array.shape, array.dtype)
    out[...] = array
    return out
