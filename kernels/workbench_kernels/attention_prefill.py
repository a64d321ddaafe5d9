"""Causal prefill over blocks of 64 queries by 64 keys, all of them or those that are kept.

    q [Hq, S, D]    k, v [Hkv, S, D]    out [Hq, S, D]        query i sees the keys j <= i of its kept blocks

`KeptBlocks` lists, for every query head and block of queries, the blocks of keys that are computed. Turning queries
and outputs is part of the call. Fewer kept blocks cost proportionally less; a query block that keeps nothing gives
zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench_kernels import _memory
from workbench_kernels._attention_check import attend_bound, attend_reference
from workbench_kernels._attention_tiles import BLOCK, prefill_blocks, scratch_of_prefill
from workbench_kernels._errors import KernelError, check_array
from workbench_kernels._kernel import Inputs, Kernel, register
from workbench_kernels._pool import check_threads, parallel


@dataclass(frozen=True, eq=False, repr=False)
class KeptBlocks:
    """The blocks of keys that each block of queries sees: a list per head and query block, one behind the other.

    Attributes
    ----------
    heads, length : int
        Query heads Hq and tokens S.
    start : ndarray
        Int64 ``[Hq * ceil(S / 64) + 1]``: where each list begins in ``index``.
    index : ndarray
        Int32: blocks of keys, ascending within a list, none behind the block of the queries.

    Examples
    --------
    >>> KeptBlocks.causal(heads=2, length=130)
    KeptBlocks(2 heads, 130 tokens, 12 of 12 blocks)
    """

    heads: int
    length: int
    start: np.ndarray
    index: np.ndarray

    def __post_init__(self) -> None:
        lists = self.heads * self.blocks
        start = check_array("start", self.start, np.int64, (lists + 1,))
        index = check_array("index", self.index, np.int32, (None,))
        if start[0] != 0 or start[-1] != len(index) or (np.diff(start) < 0).any():
            raise KernelError(f"start: must ascend from 0 to the {len(index)} entries of index")
        owner = np.repeat(np.arange(lists), np.diff(start))
        ascending = (np.diff(index) > 0) | (np.diff(owner) > 0)
        if not ascending.all() or (index < 0).any() or (index > owner % max(self.blocks, 1)).any():
            raise KernelError("index: each list must ascend, from 0 to the block of its queries at most")

    @property
    def blocks(self) -> int:
        """Blocks of 64 tokens, the last one perhaps not full."""
        return -(-self.length // BLOCK)

    @property
    def kept(self) -> float:
        """Share of the causal blocks that is kept."""
        return len(self.index) / max(1, self.heads * self.blocks * (self.blocks + 1) // 2)

    @classmethod
    def causal(cls, heads: int, length: int) -> KeptBlocks:
        """All blocks on and below the diagonal."""
        blocks = -(-length // BLOCK)
        return cls.from_mask(np.broadcast_to(np.tri(blocks, dtype=bool), (heads, blocks, blocks)), length)

    @classmethod
    def from_mask(cls, mask: np.ndarray, length: int) -> KeptBlocks:
        """From bool ``[Hq, blocks, blocks]``, true where kept; what is above the diagonal is left out."""
        blocks = -(-length // BLOCK)
        if not (isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape[1:] == (blocks, blocks)):
            raise KernelError(f"mask: pass bool [heads, {blocks}, {blocks}] for {length} tokens")
        lower = mask & np.tri(blocks, dtype=bool)
        start = np.concatenate([[0], np.cumsum(lower.sum(axis=2).reshape(-1))]).astype(np.int64)
        return cls(len(mask), length, start, np.nonzero(lower)[2].astype(np.int32))

    def to_mask(self) -> np.ndarray:
        """Bool ``[Hq, blocks, blocks]``."""
        mask = np.zeros((self.heads * self.blocks, self.blocks), bool)
        mask[np.repeat(np.arange(len(mask)), np.diff(self.start)), self.index] = True
        return mask.reshape(self.heads, self.blocks, self.blocks)

    def __repr__(self) -> str:
        every = self.heads * self.blocks * (self.blocks + 1) // 2
        return f"KeptBlocks({self.heads} heads, {self.length} tokens, {len(self.index)} of {every} blocks)"


def prefill_attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    *,
    blocks: KeptBlocks | None = None,
    scale: float | None = None,
    out: np.ndarray | None = None,
    threads: int | None = 1,
) -> np.ndarray:
    """Causal attention of all tokens, dense or over kept blocks.

    Parameters
    ----------
    q
        Float32 ``[Hq, S, D]``, D a multiple of 16.
    k, v
        Float32 ``[Hkv, S, D]``; Hkv divides Hq, consecutive query heads share one.
    blocks
        What is computed; None for all.
    scale
        Of the scores; ``D ** -0.5`` if None.
    out
        Where to write; a new array if None.
    threads
        How many; None for all cores. The result does not depend on it.

    Returns
    -------
    ndarray
        Float32 ``[Hq, S, D]``.

    Raises
    ------
    KernelError
        If a shape, dtype or layout does not fit.

    Examples
    --------
    >>> q = np.zeros((1, 2, 16), np.float32)
    >>> v = np.stack([np.zeros(16), np.ones(16)])[None].astype(np.float32)
    >>> prefill_attention(q, q, v)[0, :, 0]
    array([0. , 0.5], dtype=float32)
    """
    heads, length, dim = check_array("q", q, np.float32, (None, None, None)).shape
    shared = check_array("k", k, np.float32, (None, length, dim)).shape[0]
    check_array("v", v, np.float32, (shared, length, dim))
    check_heads(heads, shared, dim)
    out = np.empty_like(q) if out is None else check_array("out", out, np.float32, q.shape)
    blocks = KeptBlocks.causal(heads, length) if blocks is None else blocks
    if (blocks.heads, blocks.length) != (heads, length):
        raise KernelError(f"blocks are of {blocks!r}: q has {heads} heads and {length} tokens")
    bounds = _balanced(blocks.start, check_threads(threads))
    if length and heads:
        scratch = _memory.empty((len(bounds) - 1) * scratch_of_prefill(dim), np.float32)
        flat = (array.reshape(-1) for array in (q, k, v, out))
        sizes = np.array([length, dim, heads // shared], np.int64)
        factor = np.float32(dim**-0.5 if scale is None else scale)
        where = np.array(bounds, np.int64)
        parallel(prefill_blocks, bounds, where, blocks.start, blocks.index, *flat, scratch, sizes, factor)
    return out


def check_heads(heads: int, shared: int, dim: int) -> None:
    """Refuse head counts that do not divide, and head dimensions that do not fill registers."""
    if shared == 0 or heads % shared:
        raise KernelError(f"q has {heads} heads, k has {shared}: consecutive query heads must share one evenly")
    if dim == 0 or dim % 16:
        raise KernelError(f"the head dimension is {dim}: pad it with zeros to a multiple of 16")


def _balanced(start: np.ndarray, threads: int) -> list[int]:
    """Bounds of contiguous parts of the lists with about as many blocks each, none empty."""
    items = len(start) - 1
    if threads == 1 or items < 2:
        return [0, items]
    cost = start + np.arange(items + 1)  # a list costs something even when empty
    cuts = np.searchsorted(cost, cost[-1] * np.arange(1, threads) / threads)
    return [0, *sorted({int(c) for c in cuts} - {0, items}), items]


def prefill_reference(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, blocks: KeptBlocks | None = None, scale: float | None = None
) -> np.ndarray:
    """`prefill_attention` in float64; parameters as there."""
    return _each_head(attend_reference, q, k, v, blocks, scale)


def prefill_bound(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, blocks: KeptBlocks | None = None, scale: float | None = None
) -> np.ndarray:
    """How far `prefill_attention` may be from `prefill_reference`: see `_attention_check.attend_bound`."""
    return _each_head(attend_bound, q, k, v, blocks, scale)


def _each_head(
    function: Any, q: np.ndarray, k: np.ndarray, v: np.ndarray, blocks: KeptBlocks | None, scale: float | None
) -> np.ndarray:
    heads, length, dim = q.shape
    mask = (KeptBlocks.causal(heads, length) if blocks is None else blocks).to_mask()
    out, group = np.zeros(q.shape), heads // len(k)
    for h in range(heads):
        seen = mask[h].repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)[:length, :length] & np.tri(length, dtype=bool)
        out[h] = function(q[h], k[h // group], v[h // group], seen, dim**-0.5 if scale is None else scale)
    return out


def _make(rng: np.random.Generator, shape: tuple[int, ...], density: float) -> Inputs:
    """Shape: KV heads, query heads per KV head, tokens, head dimension; density: share of the blocks kept."""
    shared, group, length, dim = shape
    blocks = -(-length // BLOCK)
    mask = rng.random((shared * group, blocks, blocks)) < density
    q, k, v = (rng.standard_normal((n, length, dim)).astype(np.float32) for n in (shared * group, shared, shared))
    return {"q": q, "k": k, "v": v, "blocks": KeptBlocks.from_mask(mask, length)}


def _flops(given: Inputs) -> int:
    return 4 * given["q"].shape[2] * BLOCK * BLOCK * len(given["blocks"].index)


def _bytes(given: Inputs) -> int:
    return 2 * int(given["q"].nbytes) + int(given["k"].nbytes) + int(given["v"].nbytes)


register(
    Kernel(
        "prefill-blocks",
        "causal prefill attention over kept blocks of 64 x 64",
        prefill_attention,
        prefill_reference,
        prefill_bound,
        _make,
        ((1, 1, 1, 16), (1, 3, 70, 32), (2, 2, 129, 64), (1, 1, 64, 80), (2, 1, 200, 48), (1, 2, 0, 16)),
        _flops,
        _bytes,
        ("q", "k", "v"),
    )
)
