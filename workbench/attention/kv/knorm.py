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

    def score(self, view: HeadView) -> torch.Tensor:
        """Minus the norm."""
        return -view.keys.norm(dim=1)
