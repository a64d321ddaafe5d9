"""Decoding one token over a cache of keys and values: all blocks of 64 keys, or those that were selected.

    out[h] = softmax(scale q[h] K^T) V        query heads h of a group share the KV head h // group

One pass over K and one over V serve all query heads of a group. `decode_attention` over everything is the dense
kernel that the sparse one is held against: the same code over all blocks. A head that keeps no block gives zeros.
"""

from __future__ import annotations

import numpy as np

from workbench_kernels import _memory
from workbench_kernels._attention_cache import BLOCK, KVCache
from workbench_kernels._attention_check import attend_bound, attend_reference, each_head
from workbench_kernels._attention_decode import PART, ROOM, decode_parts, merge_parts
from workbench_kernels._attention_product import TILE_ROWS
from workbench_kernels._errors import KernelError, check_array
from workbench_kernels._kernel import Inputs, Kernel, register
from workbench_kernels._pool import check_threads, even, parallel
from workbench_kernels.attention_prefill import check_heads

__all__ = ["KVCache", "decode_attention", "decode_blocks", "decode_bound", "decode_reference"]


def decode_attention(
    q: np.ndarray,
    cache: KVCache,
    *,
    scale: float | None = None,
    out: np.ndarray | None = None,
    threads: int | None = 1,
) -> np.ndarray:
    """Attention of one token over all that a cache holds.

    Parameters
    ----------
    q
        Float32 ``[Hq, D]``; Hkv divides Hq, consecutive query heads share a KV head.
    cache
        Keys and values.
    scale
        Of the scores; ``D ** -0.5`` if None.
    out
        Where to write; a new array if None.
    threads
        How many; None for all cores. The result does not depend on it.

    Returns
    -------
    ndarray
        Float32 ``[Hq, D]``; zeros if the cache is empty.

    Raises
    ------
    KernelError
        If a shape, dtype or layout does not fit.

    Examples
    --------
    >>> k = np.zeros((1, 2, 16), np.float32)
    >>> v = np.stack([np.zeros(16), np.ones(16)])[None].astype(np.float32)
    >>> decode_attention(np.zeros((2, 16), np.float32), KVCache.from_dense(k, v))[:, 0]
    array([0.5, 0.5], dtype=float32)
    """
    every = np.tile(np.arange(cache.blocks, dtype=np.int32), (cache.heads, 1))
    return _decode(q, cache, every, scale, out, threads)


def decode_blocks(
    q: np.ndarray,
    cache: KVCache,
    block_index: np.ndarray,
    *,
    scale: float | None = None,
    out: np.ndarray | None = None,
    threads: int | None = 1,
) -> np.ndarray:
    """Attention of one token over selected blocks of 64 keys.

    Parameters
    ----------
    q, cache, scale, out, threads
        As of `decode_attention`.
    block_index
        Int32 ``[Hkv, n]``: blocks of each KV head, ascending, e.g. from `attention_blocks.select_blocks`.

    Returns
    -------
    ndarray
        Float32 ``[Hq, D]``; zeros if n is 0.

    Raises
    ------
    KernelError
        If a shape, dtype or layout does not fit, or an index is not below ``cache.blocks``.
    """
    index = check_array("block_index", block_index, np.int32, (cache.heads, None))
    if index.size and (
        index[:, 0].min() < 0 or index[:, -1].max() >= cache.blocks or (index[:, 1:] <= index[:, :-1]).any()
    ):
        raise KernelError(f"block_index: each row must ascend from 0 to {cache.blocks - 1} at most")
    return _decode(q, cache, index, scale, out, threads)


def _decode(
    q: np.ndarray, cache: KVCache, index: np.ndarray, scale: float | None, out: np.ndarray | None, threads: int | None
) -> np.ndarray:
    heads, dim = check_array("q", q, np.float32, (None, cache.dim)).shape
    check_heads(heads, cache.heads, dim)
    out = np.empty_like(q) if out is None else check_array("out", out, np.float32, q.shape)
    parts, count = -(-index.shape[1] // PART), check_threads(threads)
    if not parts or not heads:
        out.fill(0)
        return out
    bounds = even(cache.heads * parts, count)
    part = _memory.empty(heads * parts * (dim + 16), np.float32)
    scratch = _memory.empty((len(bounds) - 1) * TILE_ROWS * ROOM, np.float32)
    scaled = (q * np.float32(dim**-0.5 if scale is None else scale)).reshape(-1)
    sizes = np.array([cache.length, cache.capacity, dim, heads // cache.heads, parts, 0], np.int64)
    flat = (index.reshape(-1), index.shape[1], scaled, cache.keys.reshape(-1), cache.values.reshape(-1))
    parallel(decode_parts, bounds, np.array(bounds, np.int64), *flat, part, scratch, sizes)
    merge_parts(heads, parts, dim, part, out.reshape(-1))
    return out


def decode_reference(
    q: np.ndarray, cache: KVCache, block_index: np.ndarray | None = None, scale: float | None = None
) -> np.ndarray:
    """`decode_attention` or `decode_blocks` in float64, of the keys and values as stored."""
    return each_head(attend_reference, q, *cache.to_dense(), scale, _seen(cache, block_index))


def decode_bound(
    q: np.ndarray, cache: KVCache, block_index: np.ndarray | None = None, scale: float | None = None
) -> np.ndarray:
    """How far the kernels may be from `decode_reference`: see `_attention_check.attend_bound`."""
    return each_head(attend_bound, q, *cache.to_dense(), scale, _seen(cache, block_index))


def _seen(cache: KVCache, block_index: np.ndarray | None) -> np.ndarray | None:
    if block_index is None:
        return None
    return np.array([np.isin(np.arange(cache.length) // BLOCK, row) for row in block_index])


def _inputs(kind: str, sparse: bool):
    def make(rng: np.random.Generator, shape: tuple[int, ...], density: float) -> Inputs:
        """Shape: KV heads, query heads per KV head, tokens, head dimension; density: share of the blocks kept."""
        shared, group, length, dim = shape
        k, v = (rng.standard_normal((shared, length, dim)).astype(np.float32) for _ in range(2))
        cache = KVCache.from_dense(k, v, kind)
        q = rng.standard_normal((shared * group, dim)).astype(np.float32)
        if not sparse:
            return {"q": q, "cache": cache}
        kept = round(density * cache.blocks)
        picked = [np.sort(rng.permutation(cache.blocks)[:kept]) for _ in range(shared)]
        return {"q": q, "cache": cache, "block_index": np.array(picked, np.int32).reshape(shared, kept)}

    return make


def _keys(given: Inputs) -> int:
    cache = given["cache"]
    kept = given["block_index"].shape[1] if "block_index" in given else cache.blocks
    return min(cache.length, kept * BLOCK)


def _flops(given: Inputs) -> int:
    return 4 * int(given["q"].size) * _keys(given)


def _bytes(given: Inputs) -> int:
    cache = given["cache"]
    return 2 * cache.heads * cache.dim * _keys(given) * int(cache.keys.itemsize) + 2 * int(given["q"].nbytes)


SHAPES = (
    (1, 1, 1, 16),
    (2, 3, 70, 32),
    (1, 4, 600, 64),
    (3, 1, 64, 80),
    (1, 8, 1090, 16),
    (2, 5, 129, 48),
    (1, 2, 0, 16),
)
for _kind in ("fp32", "bf16"):
    for _name, _run in (("attention", decode_attention), ("blocks", decode_blocks)):
        _title = f"decode attention over {'kept blocks' if _name == 'blocks' else 'all'} of a {_kind} cache"
        _made = _inputs(_kind, _name == "blocks")
        register(
            Kernel(
                f"decode-{_name}" + ("" if _kind == "fp32" else "-bf16"),
                _title,
                _run,
                decode_reference,
                decode_bound,
                _made,
                SHAPES,
                _flops,
                _bytes,
                ("q",),
            )
        )
