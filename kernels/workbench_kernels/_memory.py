"""Aligned memory: numpy aligns to 16 bytes, a vector load wants 64."""

from __future__ import annotations

from typing import Any

import numpy as np

ALIGN = 64
SLACK = 64


def empty(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialised C-contiguous array at a 64-byte boundary, with 64 readable bytes behind its end.

    Kernels that load a whole register where only part of it counts read into that slack.
    """
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    raw = np.empty(size + ALIGN + SLACK, np.uint8)
    raw[size:] = 0
    start = -raw.ctypes.data % ALIGN
    return raw[start : start + size].view(kind).reshape(shape)


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
