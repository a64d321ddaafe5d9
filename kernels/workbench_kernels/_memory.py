"""Aligned memory: numpy aligns to 16 bytes, a vector load wants 64."""

from __future__ import annotations

import ctypes
import math
import threading
from typing import Any

import numpy as np

ALIGN = 64
SLACK = 64
KEPT = 1 << 26  # bytes of scratch that a thread keeps at most
_own = threading.local()


def empty(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialised C-contiguous array at a 64-byte boundary, with 64 readable bytes behind its end.

    Kernels that load a whole register where only part of it counts read into that slack.
    """
    count = shape if isinstance(shape, int) else math.prod(shape)
    raw = np.empty(count * np.dtype(dtype).itemsize + ALIGN + SLACK, np.uint8)
    start = -ctypes.addressof(ctypes.c_char.from_buffer(raw)) % ALIGN
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


def scratch(words: int) -> np.ndarray:
    """At least so many uninitialised 32-bit words that only this thread uses, until it asks again.

    Fresh memory would be mapped page by page in every call. It grows as needed; what is larger than `KEPT` bytes is
    not kept.
    """
    space: np.ndarray | None = getattr(_own, "space", None)
    if space is not None and space.size >= words:
        return space
    space = empty(max(words + words // 2, 1 << 12), np.uint32)
    if space.nbytes <= KEPT:
        _own.space = space
    return space


class _Writable:
    """Memory of an array, offered to numpy as writable."""

    def __init__(self, array: np.ndarray) -> None:
        interface = array.__array_interface__
        self.array, self.__array_interface__ = array, {**interface, "data": (interface["data"][0], False)}


def for_kernels(array: np.ndarray) -> np.ndarray:
    """The same memory, flat and marked as writable: kernels are compiled for writable arrays only once, and only read.

    An array that is not at a 64-byte boundary, or not known to have slack behind it, is copied.
    """
    base = array.base
    start = array.__array_interface__["data"][0]
    behind = 0
    if isinstance(base, np.ndarray) and base.flags.c_contiguous:
        behind = base.__array_interface__["data"][0] + base.nbytes - start - array.nbytes
    if start % ALIGN or behind < SLACK:
        return aligned(array).reshape(-1)
    return np.asarray(_Writable(array)).reshape(-1)


def writable(array: np.ndarray) -> np.ndarray:
    """The same memory marked as writable, for kernels that do not write."""
    return array if array.flags.writeable else np.asarray(_Writable(array))
