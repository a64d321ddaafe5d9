"""Keys and values with most numbers left out: a bitmap and the rest, packed; the newest tokens stay dense.

    D. Joo et al., "Mustafar: Promoting Unstructured Sparsity for KV Cache Pruning in LLM Inference", 2025,
    arXiv 2505.22913

Each token keeps the numbers of largest magnitude of its key and of its value, the same share of every token, so that
a token's numbers are found without offsets. `decode_bitmap` expands them in registers. We depart from the paper in
the window: tokens are compressed 64 at a time when the window holds 64 more than asked.

What it is good for is capacity: at half density in bf16 a token takes 28 % of dense float32. It also reads that much
less, but expanding costs about as much as reading: expect the speed of dense attention, not a multiple of it.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from workbench_kernels import _memory
from workbench_kernels._attention_bitmap import bitmap_parts, bitmap_parts_bf16
from workbench_kernels._attention_check import attend_bound, attend_reference, each_head
from workbench_kernels._attention_compressed import BitmapKV
from workbench_kernels._attention_decode import PART, ROOM, decode_parts, merge_parts
from workbench_kernels._attention_product import TILE_ROWS
from workbench_kernels._errors import check_array
from workbench_kernels._kernel import Inputs, Kernel, register
from workbench_kernels._pool import check_threads, even, parallel
from workbench_kernels.attention_prefill import check_heads
from workbench_kernels.formats._base import from_bf16, to_bf16

__all__ = ["BitmapKV", "bitmap_bound", "bitmap_reference", "decode_bitmap"]


def decode_bitmap(
    q: np.ndarray,
    cache: BitmapKV,
    *,
    scale: float | None = None,
    out: np.ndarray | None = None,
    threads: int | None = 1,
) -> np.ndarray:
    """Attention of one token over all that a compressed cache holds, window included.

    Parameters
    ----------
    q
        Float32 ``[Hq, D]``; Hkv divides Hq, consecutive query heads share a KV head. Over a bf16 cache it is read as
        a sum of two bf16 numbers, to within 2^-17.
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
    """
    heads, dim = check_array("q", q, np.float32, (None, cache.dim)).shape
    check_heads(heads, cache.heads, dim)
    out = np.empty_like(q) if out is None else check_array("out", out, np.float32, q.shape)
    count, old, group = check_threads(threads), -(-cache.packed // ROOM), heads // cache.heads
    parts = old - (-cache.recent.blocks // PART)
    if not parts or not heads:
        out.fill(0)
        return out
    part = _memory.empty(heads * parts * (dim + 16), np.float32)
    scratch = _memory.empty(count * TILE_ROWS * ROOM, np.float32)
    scaled = q * np.float32(dim**-0.5 if scale is None else scale)
    if old:
        kernel, asked = (bitmap_parts, scaled) if cache.kind == "fp32" else (bitmap_parts_bf16, _halves(scaled))
        sizes = np.array(
            [cache.packed, cache.masks_k.shape[1], dim, group, cache.kept_k, cache.kept_v, parts], np.int64
        )
        arrays = (x.reshape(-1) for x in (cache.masks_k, cache.keys, cache.masks_v, cache.values))
        bounds = even(cache.heads * old, count)
        where = np.array(bounds, np.int64)
        parallel(kernel, bounds, where, asked.reshape(-1), asked.shape[1], *arrays, part, scratch, sizes)
    if parts > old:
        late = cache.recent
        index = np.tile(np.arange(late.blocks, dtype=np.int32), (cache.heads, 1))
        sizes = np.array([late.length, late.capacity, dim, group, parts, old], np.int64)
        bounds = even(cache.heads * (parts - old), count)
        flat = (index.reshape(-1), late.blocks, scaled.reshape(-1), late.keys.reshape(-1), late.values.reshape(-1))
        parallel(decode_parts, bounds, np.array(bounds, np.int64), *flat, part, scratch, sizes)
    merge_parts(heads, parts, dim, part, out.reshape(-1))
    return out


def _halves(q: np.ndarray) -> np.ndarray:
    """Rows of raw bf16: q rounded, then what rounding left, each padded with zeros to a multiple of 32."""
    rows, dim = q.shape
    wide = -(-dim // 32) * 32
    out = _memory.zeros((rows, 2 * wide), np.uint16)
    first = to_bf16(q)
    with np.errstate(invalid="ignore"):
        rest = to_bf16(q - from_bf16(first))
    out[:, :dim], out[:, wide : wide + dim] = first, rest
    return out


def bitmap_reference(q: np.ndarray, cache: BitmapKV, scale: float | None = None) -> np.ndarray:
    """`decode_bitmap` in float64, of the keys and values as stored."""
    return each_head(attend_reference, q, *cache.to_dense(), scale)


def bitmap_bound(q: np.ndarray, cache: BitmapKV, scale: float | None = None) -> np.ndarray:
    """How far `decode_bitmap` may be from `bitmap_reference`: see `_attention_check.attend_bound`."""
    rounding = 0.0 if cache.kind == "fp32" else 2.0**-17
    return each_head(partial(attend_bound, rounding=rounding), q, *cache.to_dense(), scale)


def _make(kind: str, rng: np.random.Generator, shape: tuple[int, ...], density: float) -> Inputs:
    """Shape: KV heads, query heads per KV head, tokens, head dimension, window; density: share of numbers kept."""
    shared, group, length, dim, window = shape
    k, v = (rng.standard_normal((shared, length, dim)).astype(np.float32) for _ in range(2))
    cache = BitmapKV.from_dense(k, v, kind, density, min(1.0, density * 1.5), window)
    return {"q": rng.standard_normal((shared * group, dim)).astype(np.float32), "cache": cache}


def _flops(given: Inputs) -> int:
    cache, group = given["cache"], len(given["q"])
    return 2 * group * (cache.packed * (cache.kept_k + cache.kept_v) + 2 * cache.recent.length * cache.dim)


def _bytes(given: Inputs) -> int:
    return int(given["cache"].nbytes) + 2 * int(given["q"].nbytes)


_SHAPES = (
    (1, 1, 64, 16, 0),
    (2, 3, 200, 32, 8),
    (1, 4, 700, 64, 64),
    (1, 5, 129, 80, 0),
    (1, 2, 90, 48, 16),
    (1, 2, 0, 16, 4),
)
for _kind in ("fp32", "bf16"):
    _suffix = "" if _kind == "fp32" else "-bf16"
    _title = f"decode attention over bitmap-compressed {_kind} keys and values"
    register(
        Kernel(
            f"decode-bitmap{_suffix}",
            _title,
            decode_bitmap,
            bitmap_reference,
            bitmap_bound,
            partial(_make, _kind),
            _SHAPES,
            _flops,
            _bytes,
            ("q",),
        )
    )
