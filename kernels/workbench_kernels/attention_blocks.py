"""Which blocks of 64 keys a token should look at: scores from the cache's summaries, then the largest.

    mean      q . mean key of the block                                     one number per block says little, cheaply
    bounds    the most that a key between the block's smallest and largest key can score, dimension by dimension
              (J. Tang et al., "Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference", 2024,
              arXiv 2406.10774)

A block's score is the largest of the query heads that share the KV head, because they will share its reading.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workbench_kernels import _memory
from workbench_kernels._attention_cache import BLOCK, KVCache
from workbench_kernels._attention_product import TILE_ROWS
from workbench_kernels._attention_select import bound_scores, largest_blocks, mean_scores
from workbench_kernels._errors import KernelError, check_array, check_choice
from workbench_kernels._kernel import Inputs, Kernel, register
from workbench_kernels._pool import check_threads, even, parallel
from workbench_kernels.attention_prefill import check_heads

METHODS = ("mean", "bounds")


def score_blocks(
    q: np.ndarray,
    cache: KVCache,
    *,
    method: str = "mean",
    scale: float | None = None,
    out: np.ndarray | None = None,
    threads: int | None = 1,
) -> np.ndarray:
    """How much each block of a cache promises to one token.

    Parameters
    ----------
    q
        Float32 ``[Hq, D]``.
    cache
        Keys, of which only the summaries are read.
    method
        ``"mean"`` or ``"bounds"``.
    scale
        Of the scores; ``D ** -0.5`` if None.
    out
        Where to write; a new array if None.
    threads
        How many; None for all cores.

    Returns
    -------
    ndarray
        Float32 ``[Hkv, blocks]``.

    Raises
    ------
    KernelError
        If a shape, dtype, layout or name does not fit.
    """
    heads, dim = check_array("q", q, np.float32, (None, cache.dim)).shape
    check_heads(heads, cache.heads, dim)
    check_choice("method", method, METHODS)
    shape = (cache.heads, cache.blocks)
    out = np.empty(shape, np.float32) if out is None else check_array("out", out, np.float32, shape)
    bounds, factor = even(cache.heads, check_threads(threads)), np.float32(dim**-0.5 if scale is None else scale)
    pages, group, flat = cache.sums.shape[1], heads // cache.heads, out.reshape(-1)
    if not out.size or not heads:
        out.fill(0)
    elif method == "mean":
        scratch, sums = _memory.empty(cache.heads * TILE_ROWS * pages * 16, np.float32), cache.sums.reshape(-1)
        sizes = (cache.blocks, pages, cache.length, dim, group)
        parallel(mean_scores, bounds, q.reshape(-1), sums, flat, scratch, *sizes, factor)
    else:
        scratch, edges = _memory.empty(cache.heads * pages * 16, np.float32), (cache.low, cache.high)
        low, high = (edge.reshape(-1) for edge in edges)
        parallel(bound_scores, bounds, q.reshape(-1), low, high, flat, scratch, cache.blocks, pages, dim, group, factor)
    return out


def select_blocks(scores: np.ndarray, keep: int, *, first: int = 0, last: int = 1) -> np.ndarray:
    """The blocks of the largest scores.

    Parameters
    ----------
    scores
        Float32 ``[Hkv, blocks]``; NaN counts as the largest, so that it reaches the output.
    keep
        How many per KV head; all if there are fewer.
    first, last
        So many blocks at the beginning and at the end are kept whatever their score (within ``keep``): the first
        tokens draw much attention, and the last block is the one being written.

    Returns
    -------
    ndarray
        Int32 ``[Hkv, keep]``, ascending; of equal scores the earlier blocks.

    Raises
    ------
    KernelError
        If a shape, dtype, layout or number does not fit.

    Examples
    --------
    >>> select_blocks(np.array([[1, 5, 3, 0]], np.float32), 2, last=0)
    array([[1, 2]], dtype=int32)
    """
    heads, blocks = check_array("scores", scores, np.float32, (None, None)).shape
    if min(keep, first, last) < 0:
        raise KernelError(f"keep={keep}, first={first}, last={last}: none may be negative")
    keep = min(keep, blocks)
    out = np.empty((heads, keep), np.int32)
    if first or last:
        scores = scores.copy()
        scores[:, :first] = np.nan
        scores[:, max(0, blocks - last) :] = np.nan
    if out.size:
        largest_blocks(scores.reshape(-1), heads, blocks, keep, np.empty(256, np.int64), out.reshape(-1))
    return out


def score_reference(q: np.ndarray, cache: KVCache, method: str = "mean", scale: float | None = None) -> np.ndarray:
    """`score_blocks` in float64, from the keys themselves."""
    k = cache.to_dense()[0].astype(np.float64)
    out = np.empty((cache.heads, cache.blocks))
    for h, heads in enumerate(q.astype(np.float64).reshape(cache.heads, -1, cache.dim)):
        for b in range(cache.blocks):
            block = k[h, b * BLOCK : (b + 1) * BLOCK]
            each = heads @ block.mean(axis=0)
            if method == "bounds":
                each = np.maximum(heads * block.min(axis=0), heads * block.max(axis=0)).sum(axis=1)
            out[h, b] = each.max() * (cache.dim**-0.5 if scale is None else scale)
    return out


def score_bound(q: np.ndarray, cache: KVCache, method: str = "mean", scale: float | None = None) -> np.ndarray:
    """How far `score_blocks` may be from `score_reference`.

    A sum of 64 keys, a product of D numbers and a scale: ``(D + 72) u`` of ``sum_d |q_d| max |k_d|``, the keys of the
    block; twice that covers the second order.
    """
    k = np.abs(cache.to_dense()[0]).astype(np.float64)
    edges = np.stack([k[:, b * BLOCK : (b + 1) * BLOCK].max(axis=1) for b in range(cache.blocks)], axis=1)
    size = np.abs(q).astype(np.float64).reshape(cache.heads, -1, cache.dim) @ edges.transpose(0, 2, 1)
    return 2 * (cache.dim + 72) * 2.0**-24 * size.max(axis=1) * (cache.dim**-0.5 if scale is None else scale)


def _make(method: str) -> Callable[[np.random.Generator, tuple[int, ...], float], Inputs]:
    def make(rng: np.random.Generator, shape: tuple[int, ...], density: float) -> Inputs:
        """Shape: KV heads, query heads per KV head, tokens, head dimension; density: share of keys not zero."""
        shared, group, length, dim = shape
        k = rng.standard_normal((shared, length, dim)).astype(np.float32)
        k *= rng.random((shared, length, 1)) < density
        q = rng.standard_normal((shared * group, dim)).astype(np.float32)
        return {"q": q, "cache": KVCache.from_dense(k, k), "method": method}

    return make


def _flops(given: Inputs) -> int:
    return (2 if given["method"] == "mean" else 4) * int(given["q"].size) * given["cache"].blocks


def _bytes(given: Inputs) -> int:
    cache = given["cache"]
    return 4 * (1 if given["method"] == "mean" else 2) * cache.heads * cache.blocks * cache.dim


_SHAPES = ((1, 1, 1, 16), (2, 3, 70, 32), (1, 4, 600, 64), (3, 1, 64, 80), (1, 8, 1090, 16), (1, 7, 200, 16))
for _method in METHODS:
    _title = f"scores of blocks of 64 keys by their {'mean' if _method == 'mean' else 'bounds'}"
    register(
        Kernel(
            f"score-blocks-{_method}",
            _title,
            score_blocks,
            score_reference,
            score_bound,
            _make(_method),
            _SHAPES,
            _flops,
            _bytes,
            ("q",),
        )
    )
