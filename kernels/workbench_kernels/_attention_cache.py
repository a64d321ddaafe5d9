"""A cache of keys and values in the order that decoding reads them, with what block selection asks about.

    keys    [Hkv][capacity / 16][D][16]    blocks of 16 keys, transposed: keys in lanes; four make a block of 64
    values  [Hkv][capacity][D]             row by row
    sums, low, high  [Hkv][capacity / 1024][D][16]    per block of 64 keys, blocks in lanes: sum, smallest, largest key

Numbers are float32, or raw bf16 (uint16, nearest even). Appending writes one column and one row per token and brings
the block's summary up to date, in the order of the tokens: how they came together leaves no trace.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from workbench_kernels import _memory
from workbench_kernels._errors import KernelError, check_array, check_choice
from workbench_kernels._jit import kernel
from workbench_kernels.formats._base import from_bf16, to_bf16

BLOCK = 64
PAGE = 16 * BLOCK  # keys whose blocks fill the lanes of one summary: capacity grows by whole pages


@kernel
def _append(keys, values, sums, low, high, at, raw_k, raw_v, k):
    """Write tokens ``[Hkv][T][D]`` from place ``at`` on; ``k`` is ``raw_k`` as float32."""
    heads, tokens, dim = k.shape
    for h in range(heads):
        for t in range(tokens):
            place = at + t
            block, lane, page, slot = place // 16, place % 16, place // PAGE, place // BLOCK % 16
            fresh = place % BLOCK == 0
            for d in range(dim):
                keys[h, block, d, lane] = raw_k[h, t, d]
                values[h, place, d] = raw_v[h, t, d]
                x = k[h, t, d]
                total, small, large = sums[h, page, d, slot], low[h, page, d, slot], high[h, page, d, slot]
                sums[h, page, d, slot] = x if fresh else total + x
                low[h, page, d, slot] = x if fresh or not (x >= small or np.isnan(small)) else small
                high[h, page, d, slot] = x if fresh or not (x <= large or np.isnan(large)) else large


class KVCache:
    """Keys and values of one layer, one sequence.

    Attributes
    ----------
    heads, dim : int
        KV heads Hkv, and head dimension D, a multiple of 16.
    kind : str
        ``"fp32"`` or ``"bf16"``.
    length : int
        Tokens stored.
    keys, values, sums, low, high : ndarray
        As above; replaced when the cache grows.

    Examples
    --------
    >>> cache = KVCache.from_dense(np.zeros((2, 70, 16), np.float32), np.ones((2, 70, 16), np.float32), "bf16")
    >>> cache
    KVCache(2 heads x 16, bf16, 70 tokens, 2 blocks)
    """

    def __init__(self, heads: int, dim: int, kind: str = "fp32", capacity: int = 0) -> None:
        if heads < 1 or dim < 1 or dim % 16:
            raise KernelError(f"heads={heads}, dim={dim}: at least one head, and a multiple of 16")
        self.heads, self.dim, self.length = heads, dim, 0
        self.kind: str = check_choice("kind", kind, ("fp32", "bf16"))
        self._allocate(-(-capacity // PAGE))

    def _allocate(self, pages: int) -> None:
        stored = np.float32 if self.kind == "fp32" else np.uint16
        self.keys = _memory.zeros((self.heads, pages * PAGE // 16, self.dim, 16), stored)
        self.values = _memory.zeros((self.heads, pages * PAGE, self.dim), stored)
        shape = (self.heads, pages, self.dim, 16)
        self.sums, self.low, self.high = (_memory.zeros(shape, np.float32) for _ in range(3))

    @classmethod
    def from_dense(cls, k: np.ndarray, v: np.ndarray, kind: str = "fp32") -> Self:
        """Store float32 keys and values ``[Hkv, S, D]``."""
        heads, length, dim = check_array("k", k, np.float32, (None, None, None)).shape
        cache = cls(heads, dim, kind, length)
        cache.append(k, v)
        return cache

    @property
    def capacity(self) -> int:
        """Tokens that fit without growing."""
        return int(self.values.shape[1])

    @property
    def blocks(self) -> int:
        """Blocks of 64 keys, the last one perhaps not full."""
        return -(-self.length // BLOCK)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored keys and values; summaries and room to grow not counted."""
        return 2 * self.heads * self.length * self.dim * self.keys.itemsize

    def append(self, k: np.ndarray, v: np.ndarray) -> None:
        """Store float32 keys and values ``[Hkv, T, D]`` behind the others; grows by half when full."""
        tokens = check_array("k", k, np.float32, (self.heads, None, self.dim)).shape[1]
        check_array("v", v, np.float32, k.shape)
        if self.length + tokens > self.capacity:
            self._grow(max(self.length + tokens, self.capacity * 3 // 2))
        raw_k, raw_v = (k, v) if self.kind == "fp32" else (to_bf16(k), to_bf16(v))
        seen = k if self.kind == "fp32" else from_bf16(raw_k)
        _append(self.keys, self.values, self.sums, self.low, self.high, self.length, raw_k, raw_v, seen)
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Forget the tokens from ``length`` on; the cache is then as if they had never come."""
        if not 0 <= length <= self.length:
            raise KernelError(f"length={length}: the cache holds {self.length} tokens")
        begin, self.length = length // BLOCK * BLOCK, length
        if begin < length:
            k = self._dense_keys(begin, length)
            raw_k, raw_v = (k if self.kind == "fp32" else to_bf16(k)), self.values[:, begin:length].copy()
            _append(self.keys, self.values, self.sums, self.low, self.high, begin, raw_k, raw_v, k)

    def to_dense(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values as stored, float32 ``[Hkv, S, D]``."""
        return self._dense_keys(0, self.length), _plain(self.values[:, : self.length])

    def _dense_keys(self, begin: int, end: int) -> np.ndarray:
        rows = self.keys[:, begin // 16 : -(-end // 16)].transpose(0, 1, 3, 2)
        return _plain(rows.reshape(self.heads, -1, self.dim)[:, : end - begin])

    def _grow(self, capacity: int) -> None:
        old: Any = {name: getattr(self, name) for name in ("keys", "values", "sums", "low", "high")}
        self._allocate(-(-capacity // PAGE))
        for name, array in old.items():
            getattr(self, name)[:, : array.shape[1]] = array

    def __repr__(self) -> str:
        shape = f"{self.heads} heads x {self.dim}"
        return f"KVCache({shape}, {self.kind}, {self.length:,} tokens, {self.blocks} blocks)"


def _plain(raw: np.ndarray) -> np.ndarray:
    return from_bf16(raw) if raw.dtype == np.uint16 else np.ascontiguousarray(raw)
