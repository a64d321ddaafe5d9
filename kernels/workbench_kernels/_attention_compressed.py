"""The cache of `kv_bitmap`: one layer, one sequence, compressed but for its newest tokens."""

from __future__ import annotations

from typing import Self

import numpy as np

from workbench_kernels import _memory
from workbench_kernels._attention_bitmap import pack_rows
from workbench_kernels._attention_cache import KVCache
from workbench_kernels._attention_select import largest_blocks
from workbench_kernels._errors import KernelError, check_array, check_choice
from workbench_kernels.formats._base import from_bf16, to_bf16

STEP = 64  # tokens that are compressed at a time


class BitmapKV:
    """A cache of one layer and one sequence, compressed but for its newest tokens.

    Attributes
    ----------
    heads, dim : int
        KV heads Hkv, and head dimension D, a multiple of 16.
    kind : str
        ``"fp32"`` or ``"bf16"``.
    kept_k, kept_v : int
        Numbers that a key and a value keep of D.
    window : int
        Newest tokens that stay dense (up to 63 more wait for the next step).
    packed : int
        Tokens that are compressed.
    recent : KVCache
        The others.
    masks_k, masks_v : ndarray
        Uint16 ``[Hkv, room, D / 16]``: bit i of word c says that dimension 16 c + i is stored.
    keys, values : ndarray
        Stored numbers ``[Hkv, room, kept]``, float32 or raw bf16.

    Examples
    --------
    >>> k = np.ones((2, 200, 32), np.float32)
    >>> BitmapKV.from_dense(k, k, keep_k=0.5, keep_v=0.25, window=8)
    BitmapKV(2 heads x 32, fp32, 192 tokens keep 16 + 8 of 32, 8 dense)
    """

    def __init__(
        self, heads: int, dim: int, kind: str = "fp32", keep_k: float = 0.5, keep_v: float = 0.5, window: int = 64
    ) -> None:
        if not (0 <= keep_k <= 1 and 0 <= keep_v <= 1 and window >= 0):
            raise KernelError(
                f"keep_k={keep_k}, keep_v={keep_v}, window={window}: shares of 0 to 1, a window of 0 or more"
            )
        self.recent = KVCache(heads, dim, kind)
        self.heads, self.dim, self.window, self.packed = heads, dim, window, 0
        self.kind: str = check_choice("kind", kind, ("fp32", "bf16"))
        self.kept_k, self.kept_v = round(keep_k * dim), round(keep_v * dim)
        self._allocate(0)

    def _allocate(self, room: int) -> None:
        stored = np.float32 if self.kind == "fp32" else np.uint16
        words = (self.heads, room, self.dim // 16)
        self.masks_k, self.masks_v = (_memory.zeros(words, np.uint16) for _ in range(2))
        self.keys, self.values = (_memory.zeros((self.heads, room, n), stored) for n in (self.kept_k, self.kept_v))

    @classmethod
    def from_dense(
        cls,
        k: np.ndarray,
        v: np.ndarray,
        kind: str = "fp32",
        keep_k: float = 0.5,
        keep_v: float = 0.5,
        window: int = 64,
    ) -> Self:
        """Compress float32 keys and values ``[Hkv, S, D]``."""
        heads, _, dim = check_array("k", k, np.float32, (None, None, None)).shape
        cache = cls(heads, dim, kind, keep_k, keep_v, window)
        cache.append(k, v)
        return cache

    @property
    def length(self) -> int:
        """Tokens stored."""
        return self.packed + self.recent.length

    @property
    def nbytes(self) -> int:
        """Bytes of masks, stored numbers and the dense window; room to grow not counted."""
        token = 2 * self.dim // 8 + (self.kept_k + self.kept_v) * self.keys.itemsize
        return self.heads * self.packed * token + self.recent.nbytes

    def append(self, k: np.ndarray, v: np.ndarray) -> None:
        """Store float32 keys and values ``[Hkv, T, D]`` behind the others; the oldest of the window are compressed."""
        check_array("k", k, np.float32, (self.heads, None, self.dim))
        check_array("v", v, np.float32, k.shape)
        over = self.recent.length + k.shape[1] - self.window
        if over < STEP:
            self.recent.append(k, v)
            return
        both = [np.concatenate(pair, axis=1) for pair in zip(self.recent.to_dense(), (k, v), strict=True)]
        leave = over // STEP * STEP
        if self.packed + leave > self.masks_k.shape[1]:
            self._grow(max(self.packed + leave, self.masks_k.shape[1] * 3 // 2))
        old, new = ([np.ascontiguousarray(x[:, part]) for x in both] for part in (slice(leave), slice(leave, None)))
        self._compress(old[0], self.kept_k, self.masks_k, self.keys)
        self._compress(old[1], self.kept_v, self.masks_v, self.values)
        self.packed += leave
        self.recent = KVCache.from_dense(new[0], new[1], self.kind)

    def _compress(self, dense: np.ndarray, kept: int, masks: np.ndarray, numbers: np.ndarray) -> None:
        raw = dense if self.kind == "fp32" else to_bf16(dense)
        size = np.abs(dense if self.kind == "fp32" else from_bf16(raw))
        tokens = size.shape[1]
        rows, place = self.heads * tokens, slice(self.packed, self.packed + tokens)
        index = np.empty((rows, kept), np.int32)
        largest_blocks(size.reshape(-1), rows, self.dim, kept, np.empty(256, np.int64), index.reshape(-1))
        mask, packed = np.empty((rows, self.dim // 16), np.uint16), np.empty((rows, kept), raw.dtype)
        pack_rows(raw.reshape(-1), self.dim, index.reshape(-1), kept, mask.reshape(-1), packed.reshape(-1))
        masks[:, place] = mask.reshape(self.heads, tokens, -1)
        numbers[:, place] = packed.reshape(self.heads, tokens, kept)

    def _grow(self, room: int) -> None:
        old = {name: getattr(self, name) for name in ("masks_k", "masks_v", "keys", "values")}
        self._allocate(room)
        for name, array in old.items():
            getattr(self, name)[:, : array.shape[1]] = array

    def to_dense(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values as stored, float32 ``[Hkv, S, D]``, zeros where nothing is."""
        window = self.recent.to_dense()
        pairs = ((self.masks_k, self.keys, window[0]), (self.masks_v, self.values, window[1]))
        k, v = (np.concatenate([self._expand(masks, numbers), late], axis=1) for masks, numbers, late in pairs)
        return k, v

    def _expand(self, masks: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        words = np.ascontiguousarray(masks[:, : self.packed])
        bits = np.unpackbits(words.astype("<u2").view(np.uint8), axis=-1, bitorder="little").astype(bool)
        out, stored = np.zeros(bits.shape, np.float32), numbers[:, : self.packed]
        out[bits] = (from_bf16(stored) if self.kind == "bf16" else stored).reshape(-1)
        return out

    def __repr__(self) -> str:
        shape = f"{self.heads} heads x {self.dim}, {self.kind}"
        kept = f"{self.packed:,} tokens keep {self.kept_k} + {self.kept_v} of {self.dim}"
        return f"BitmapKV({shape}, {kept}, {self.recent.length} dense)"
