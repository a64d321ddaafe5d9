"""Unstructured pruning of the KV cache, kept as bitmaps.

Donghyeon Joo, Helya Hosseini, Ramyad Hadidi, Bahar Asgari. Mustafar: Promoting Unstructured Sparsity for KV Cache
Pruning in LLM Inference. NeurIPS 2025. arXiv:2505.22913.

    out[h] = softmax(q[h] K'^T / sqrt(D)) V'        K', V': of each token, the numbers of largest magnitude

Departs from the paper: a CPU instead of a GPU, bf16 instead of float16, one attention layer instead of a whole model,
against our own dense kernel over the same numbers, which reads the same memory; tokens are compressed 64 at a time.
That accuracy survives is another claim of the paper and not asked here. Held needs both: the bytes of the paper at the
highest sparsity, and more speed at every one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from workbench_kernels.attention import KVCache, decode_attention, decode_bound, decode_reference
from workbench_kernels.kv_bitmap import BitmapKV, bitmap_bound, bitmap_reference, decode_bitmap

from workbench import render
from workbench._citation import Citation
from workbench.claims import NOT_HELD, Claim, Measurement
from workbench.errors import ResourceError
from workbench.execute.claims._duel import Contest, KernelContext, faster
from workbench.execute.claims._published import Published, published


@dataclass(frozen=True)
class SmallerAndFaster:
    """Held if the compressed cache is as small as in the paper and is decoded faster than the dense one.

    Attributes
    ----------
    heads, group, length, dim
        KV heads, query heads of each, tokens in the cache, head dimension: by default of Llama-3-8B.
    sparsities
        Shares of the numbers of each key and value that go.
    bytes_share
        Of the dense cache's bytes, at the highest sparsity: no more may be needed.
    window
        Newest tokens that stay dense.
    kind
        ``"bf16"`` or ``"fp32"``, for both caches.
    """

    needs: ClassVar[type[KernelContext]] = KernelContext
    heads: int = 8
    group: int = 4
    length: int = 16384
    dim: int = 128
    sparsities: tuple[float, ...] = (0.5, 0.7)
    bytes_share: float = 0.45
    window: int = 32
    kind: str = "bf16"

    def __call__(self, context: KernelContext, name: str) -> Measurement:
        """Time all contests of all seeds, and count bytes."""
        del name
        most, limit = render.share(max(self.sparsities)), render.share(self.bytes_share)
        shares = " and ".join(render.share(s) for s in self.sparsities)
        asked = (
            f"over {self.length:,} tokens, {self.kind}: at {most} at most {limit} of the dense bytes, and at {shares} "
            "faster than our dense decode attention"
        )
        found = faster(context, lambda seed: self.contests(seed, context.threads), asked, cold=True)
        taken = self.taken(max(self.sparsities))
        status = found.status if taken <= self.bytes_share else NOT_HELD
        note = f"at {most} the cache takes {render.share(round(taken, 4))} of the bytes; {found.note}"
        return replace(found, status=status, note=note)

    def taken(self, sparsity: float) -> float:
        """Bytes of the compressed cache over those of the dense one."""
        k = np.ones((self.heads, self.length, self.dim), np.float32)
        return self._bitmap(k, k, sparsity).nbytes / KVCache.from_dense(k, k, self.kind).nbytes

    def contests(self, seed: int, threads: int) -> Iterator[Contest]:
        """Each sparsity, over the same keys and values."""
        rng = np.random.default_rng(seed)
        k, v = (rng.standard_normal((self.heads, self.length, self.dim), np.float32) for _ in range(2))
        q = rng.standard_normal((self.heads * self.group, self.dim), np.float32)
        whole = KVCache.from_dense(k, v, self.kind)
        dense = _checked(decode_attention, decode_reference, decode_bound, q, whole, threads)
        for sparsity in self.sparsities:
            small = self._bitmap(k, v, sparsity)
            own = f"decode-bitmap{'' if self.kind == 'fp32' else f'-{self.kind}'}"
            call = _checked(decode_bitmap, bitmap_reference, bitmap_bound, q, small, threads)
            yield Contest(f"{render.share(sparsity)} zero", own, {own: call, f"our dense {self.kind} decode": dense})

    def _bitmap(self, k: np.ndarray, v: np.ndarray, sparsity: float) -> BitmapKV:
        return BitmapKV.from_dense(k, v, self.kind, 1 - sparsity, 1 - sparsity, self.window)


def _checked(run: Any, reference: Any, bound: Any, q: np.ndarray, cache: Any, threads: int) -> Callable[[], Any]:
    """A call that was held to its reference."""
    out = np.empty_like(q)
    run(q, cache, out=out, threads=threads)
    if not (np.abs(out - reference(q, cache)) <= bound(q, cache)).all():
        raise ResourceError(f"{run.__name__} is off from its reference on this machine: it is not timed")
    return lambda: run(q, cache, out=out, threads=threads)


MUSTAFAR = published(
    Published(
        "bitmap-attention",
        "Mustafar's bitmap attention",
        ("decode-bitmap", "decode-bitmap-bf16"),
        "out[h] = softmax(q[h] K'^T / sqrt(D)) V', K' and V' without their smallest numbers",
        Citation(
            "Donghyeon Joo, Helya Hosseini, Ramyad Hadidi, Bahar Asgari",
            "Mustafar: Promoting Unstructured Sparsity for KV Cache Pruning in LLM Inference",
            2025,
            "2505.22913",
            "NeurIPS",
        ),
        Claim(
            "Half to 70 % of a KV cache left out, as bitmaps, takes at most 45 % of the bytes and decodes faster.",
            "Language models on a GPU, up to 70 %: a cache of 45 % of the bytes, up to 2.23x tokens/s",
            SmallerAndFaster(),
        ),
    )
)
