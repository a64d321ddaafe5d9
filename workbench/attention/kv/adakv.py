"""AdaKV: heads share their layer's budget by need.

Yuan Feng, Junlin Lv, Yukun Cao, Xike Xie, S. Kevin Zhou. Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget
Allocation for Efficient LLM Inference. 2024. arXiv:2407.11550.

    the best (heads x budget) scores of the whole layer stay, whichever heads they are of;
    each head keeps at least floor x budget of its own

The scores are those of another method, each head's normalised to sum 1 unless they are probabilities already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from workbench._citation import Citation
from workbench.attention.kv._method import HeadView, KVMethod, best, kv_method, resolve
from workbench.attention.kv.claims import Continuation
from workbench.claims import Claim
from workbench.errors import ArgumentError
from workbench.models import LM


@kv_method
@dataclass(frozen=True)
class AdaKV(KVMethod):
    """One budget per layer.

    Attributes
    ----------
    inner
        The method that scores, by name.
    floor
        Share of the even budget that every head keeps.
    """

    name: ClassVar[str] = "adakv"
    title: ClassVar[str] = "AdaKV (budgets by head)"
    formula: ClassVar[str] = "top (heads x budget) of the layer's scores, at least floor x budget a head"
    observes: ClassVar[int] = 128
    citation: ClassVar[Citation] = Citation(
        "Yuan Feng, Junlin Lv, Yukun Cao, Xike Xie, S. Kevin Zhou",
        "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM Inference",
        2024,
        "2407.11550",
        "NeurIPS 2025",
    )
    claim: ClassVar[Claim] = Claim(
        "Heads that share their layer's budget by need lose less than heads with even budgets.",
        "Llama-3.1-8B, Mistral-7B; RULER and LongBench, on top of SnapKV",
        Continuation(than="snapkv"),
    )

    sinks: int = 0
    inner: str = "snapkv"
    floor: float = 0.2
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.floor <= 1:
            raise ArgumentError(f"floor={self.floor}: from 0 to 1")
        if self.inner == self.name:
            raise ArgumentError(f"inner={self.inner!r}: a method that scores, not {self.name} itself")
        resolve(self.inner, self.options)

    def score(self, view: HeadView) -> torch.Tensor:
        """The inner method's."""
        return resolve(self.inner, self.options).score(view)

    def ahead(self, lm: LM, ids: Sequence[int]) -> Sequence[int]:
        """The inner method's."""
        return resolve(self.inner, self.options).ahead(lm, ids)

    def select(self, views: Sequence[HeadView], budget: int) -> list[torch.Tensor]:
        """The best of the layer, after each head's floor."""
        scores = []
        for view in views:
            raw = self.score(view)
            raw = raw - raw.min().clamp_max(0)
            scores.append(raw / raw.sum().clamp_min(1e-30))
            scores[-1][view.positions < self.sinks] = torch.inf
            scores[-1][view.positions >= view.length - self.recent] = torch.inf
        least = [best(s, round(self.floor * budget)) for s in scores]
        for s, index in zip(scores, least, strict=True):
            s[index] = torch.inf
        chosen = best(torch.cat(scores), budget * len(views))
        owner = torch.repeat_interleave(torch.arange(len(views)), torch.tensor([len(s) for s in scores]))
        starts = [sum(len(s) for s in scores[:h]) for h in range(len(views))]
        return [chosen[owner[chosen] == h] - starts[h] for h in range(len(views))]
