"""Knorm: keys of small norm stay.

Alessio Devoto, Yu Zhao, Simone Scardapane, Pasquale Minervini. A Simple and Effective L2 Norm-Based Strategy for KV
Cache Compression. EMNLP 2024. arXiv:2406.11430.

    s_j = -||k_j||_2

Departs from the paper: recent keys stay here, as with the other methods, and all layers are treated alike, where the
paper leaves the first two alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from workbench._citation import Citation
from workbench.attention.kv._method import HeadView, KVMethod, kv_method
from workbench.attention.kv.claims import Continuation
from workbench.claims import Claim


@kv_method
@dataclass(frozen=True)
class Knorm(KVMethod):
    """The norm alone: attention need not be looked at."""

    name: ClassVar[str] = "knorm"
    title: ClassVar[str] = "Knorm"
    formula: ClassVar[str] = "s_j = -||k_j||_2"
    citation: ClassVar[Citation] = Citation(
        "Alessio Devoto, Yu Zhao, Simone Scardapane, Pasquale Minervini",
        "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression",
        2024,
        "2406.11430",
        "EMNLP",
    )
    claim: ClassVar[Claim] = Claim(
        "Half of the cache, the keys of smallest norm, models language without loss.",
        "Llama-2-7B, Llama-3-8B, Gemma; Wikipedia, 50 % (here: at most 5 % more perplexity than with the full cache)",
        Continuation(budget=0.5, at_most=1.05),
    )

    def score(self, view: HeadView) -> torch.Tensor:
        """Minus the norm."""
        return -view.keys.norm(dim=1)
