"""Mustafar: no token is dropped, but of every key and value only the largest elements stay, behind a bitmap.

Donghyeon Joo, Helya Hosseini, Ramyad Hadidi, Bahar Asgari. MUSTAFAR: Promoting Unstructured Sparsity for KV Cache
Pruning in LLM Inference. 2025. arXiv:2505.22913.

    k_j keeps its round(share D) elements of largest magnitude, v_j likewise; the newest ``recent`` tokens stay whole

One bit per element and the elements that stay are what is stored. They are made whole to attend to them; the kernel
that attends to the bitmap itself is ``kv_bitmap`` in `workbench_kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from workbench._citation import Citation
from workbench.attention.kv._method import HeadView, KVMethod, kv_method
from workbench.attention.kv._rows import PackedRows, Rows
from workbench.attention.kv.claims import Continuation
from workbench.claims import Claim


@kv_method
@dataclass(frozen=True)
class Mustafar(KVMethod):
    """Per-token magnitude."""

    name: ClassVar[str] = "mustafar"
    title: ClassVar[str] = "Mustafar (bitmap)"
    formula: ClassVar[str] = "each k_j, v_j keeps its round(share D) largest elements"
    always: ClassVar[bool] = True
    citation: ClassVar[Citation] = Citation(
        "Donghyeon Joo, Helya Hosseini, Ramyad Hadidi, Bahar Asgari",
        "MUSTAFAR: Promoting Unstructured Sparsity for KV Cache Pruning in LLM Inference",
        2025,
        "2505.22913",
        "",
    )
    claim: ClassVar[Claim] = Claim(
        "Half of every key's and value's elements can go, as bitmaps, without loss of quality.",
        "Llama-2-7B, Llama-3-8B, Mistral-7B; LongBench, 50 % to 70 % (here: at most 2 % more perplexity, in 60 % of "
        "the bytes)",
        Continuation(budget=0.5, at_most=1.02, bytes_at_most=0.6),
    )

    sinks: int = 0

    def score(self, view: HeadView) -> torch.Tensor:
        """All alike: no token goes."""
        return torch.zeros(len(view.keys))

    def select(self, views: Sequence[HeadView], budget: int) -> list[torch.Tensor]:
        """Every row."""
        del budget
        return [torch.arange(len(v.keys)) for v in views]

    def pack(self, rows: Rows, share: float) -> Rows:
        """Packed but for the newest; packed again once so many more are whole, since packing copies."""
        whole = rows.tail.length if isinstance(rows, PackedRows) else rows.length
        if whole < 2 * self.recent and isinstance(rows, PackedRows):
            return rows
        return PackedRows(rows, max(1, round(share * rows.keys.shape[1])), self.recent)
