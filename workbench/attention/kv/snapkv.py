"""SnapKV: keys that the end of the prompt looks at, and their neighbours.

Yuhong Li, Yingbing Huang, Bowen Yang, Bharat Venkitesh, Acyr Locatelli, Hanchen Ye, Tianle Cai, Patrick Lewis, Deming
Chen. SnapKV: LLM Knows What You are Looking for Before Generation. NeurIPS 2024. arXiv:2404.14469.

    s_j = max over |k - j| <= pool / 2 of mean over the last w queries of P[i, k];  the last w keys stay

Departs from the paper: with grouped queries the mean also runs over the query heads that share a key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from workbench._citation import Citation
from workbench.attention.kv._method import HeadView, KVMethod, kv_method
from workbench.attention.kv.claims import Needles
from workbench.claims import Claim
from workbench.errors import ArgumentError


@kv_method
@dataclass(frozen=True)
class SnapKV(KVMethod):
    """What the observation window attends to.

    Attributes
    ----------
    recent
        w, the observation window, at most 64.
    pool
        Odd width over which scores are pooled, so that neighbours of a key stay with it.
    """

    name: ClassVar[str] = "snapkv"
    title: ClassVar[str] = "SnapKV"
    formula: ClassVar[str] = "s_j = max-pooled mean of P_ij over the last w queries"
    observes: ClassVar[int] = 64
    citation: ClassVar[Citation] = Citation(
        "Yuhong Li, Yingbing Huang, Bowen Yang, Bharat Venkitesh et al.",
        "SnapKV: LLM Knows What You are Looking for Before Generation",
        2024,
        "2404.14469",
        "NeurIPS",
    )
    claim: ClassVar[Claim] = Claim(
        "What the prompt's end attends to is what the answer needs: long prompts keep their needles in a small cache.",
        "LWM-7B, Mistral, Mixtral, Command-R; LongBench, needles in up to 380k tokens, 1024 keys a head",
        Needles(than="streaming"),
    )

    sinks: int = 0
    recent: int = 32
    pool: int = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recent > self.observes or self.pool < 1 or self.pool % 2 == 0:
            raise ArgumentError(f"recent={self.recent}, pool={self.pool}: at most {self.observes}, and an odd number")

    def score(self, view: HeadView) -> torch.Tensor:
        """Pooled attention of the window."""
        seen = view.attention()[:, -self.recent :].mean((0, 1))
        return pooled(seen, self.pool)


def pooled(score: torch.Tensor, width: int) -> torch.Tensor:
    """Largest of ``width`` neighbours, an odd number: float32 ``[S]``."""
    wide: torch.Tensor = torch.nn.functional.max_pool1d(score[None], width, stride=1, padding=width // 2)
    return wide[0]
