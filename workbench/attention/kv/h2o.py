"""H2O: heavy hitters, the keys that had the most attention so far, and the newest.

Zhenyu Zhang, Ying Sheng, Tianyi Zhou, Tianlong Chen, Lianmin Zheng, Ruisi Cai, Zhao Song, Yuandong Tian, Christopher
Re, Clark Barrett, Zhangyang Wang, Beidi Chen. H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large
Language Models. NeurIPS 2023. arXiv:2306.14048.

    s_j = sum over queries i >= j of P[i, j];  half of the budget goes to the newest keys

Departs from the paper: with grouped queries a key's mass is summed over the query heads that share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from workbench._citation import Citation
from workbench.attention.kv._method import HeadView, KVMethod, kv_method
from workbench.attention.kv.claims import Continuation
from workbench.claims import Claim


@kv_method
@dataclass(frozen=True)
class H2O(KVMethod):
    """Accumulated attention.

    Attributes
    ----------
    share
        Of the budget that goes to the newest keys, at least ``recent`` of them.
    """

    name: ClassVar[str] = "h2o"
    title: ClassVar[str] = "H2O (heavy hitters)"
    formula: ClassVar[str] = "s_j = sum_i P_ij over all queries so far; the newest keys stay"
    always: ClassVar[bool] = True
    citation: ClassVar[Citation] = Citation(
        "Zhenyu Zhang, Ying Sheng, Tianyi Zhou, Tianlong Chen et al.",
        "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models",
        2023,
        "2306.14048",
        "NeurIPS",
    )
    claim: ClassVar[Claim] = Claim(
        "Heavy hitters and the newest keys, a fifth of the cache, keep the quality that the newest alone lose.",
        "OPT-6.7B to 66B, LLaMA, GPT-NeoX-20B; HELM and lm-eval tasks, 20 % of the keys",
        Continuation(than="streaming", than_parameters={"sinks": 0}, budget=0.2),
    )

    sinks: int = 0
    recent: int = 1
    share: float = 0.5

    def score(self, view: HeadView) -> torch.Tensor:
        """Mass so far."""
        return view.mass

    def select(self, views: Sequence[HeadView], budget: int) -> list[torch.Tensor]:
        """Newest keys first, then heavy hitters."""
        newest = max(self.recent, round(self.share * budget))
        if newest == self.recent:
            return super().select(views, budget)
        return replace(self, recent=newest, share=0.0).select(views, budget)
