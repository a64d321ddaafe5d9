"""Block top-k: each block of queries sees the blocks of keys whose means it is most alike.

Huiqiang Jiang, Yucheng Li, Chengruidong Zhang, Qianhui Wu et al. MInference 1.0: Accelerating Pre-filling for
Long-Context LLMs via Dynamic Sparse Attention. NeurIPS 2024. arXiv:2407.02490 (its block-sparse pattern).

    P = softmax over j <= i of mean(q in block i) . mean(k in block j) / sqrt(D);  row i keeps its largest

Departs from the paper: the number of blocks is a share of those that the row could see, at least one, not a constant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from workbench_kernels.attention_prefill import BLOCK

from workbench._citation import Citation
from workbench.attention.patterns._pattern import Pattern, blocks, pattern, share
from workbench.attention.patterns.claims import FoundAnew
from workbench.attention.watching import Passing
from workbench.claims import Claim


@pattern
@dataclass(frozen=True)
class BlockTop(Pattern):
    """The best blocks by their means.

    Attributes
    ----------
    budget
        Share of the blocks of a row.
    """

    name: ClassVar[str] = "block-top"
    title: ClassVar[str] = "Block top-k"
    formula: ClassVar[str] = "row i keeps its largest mean(q_i) . mean(k_j)"
    citation: ClassVar[Citation] = Citation(
        "Huiqiang Jiang, Yucheng Li, Chengruidong Zhang, Qianhui Wu et al.",
        "MInference 1.0: Accelerating Pre-filling for Long-Context LLMs via Dynamic Sparse Attention",
        2024,
        "2407.02490",
        "NeurIPS",
    )

    claim: ClassVar[Claim] = Claim(
        "Which blocks matter depends on the text: those found for another one keep less of attention.",
        "LLaMA-3-8B-1M, 128 thousand tokens (here: 2048, over all heads)",
        FoundAnew(),
    )

    budget: float = 0.25

    def __post_init__(self) -> None:
        share("budget", self.budget)

    def keep(self, passing: Passing, head: int) -> np.ndarray:
        """Row by row."""
        count = blocks(passing.key.shape[1])
        scores = (means(passing.query[head]) @ means(passing.key[head // passing.group]).T).numpy()
        kept = np.zeros((count, count), bool)
        for i in range(count):
            most = max(1, round(self.budget * (i + 1)))
            kept[i, np.argsort(-scores[i, : i + 1], kind="stable")[:most]] = True
        return kept

    def within(self, budget: float, tokens: int) -> BlockTop:
        """Its own budget."""
        del tokens
        return replace(self, budget=budget)


def means(states: torch.Tensor) -> torch.Tensor:
    """Mean of each block of 64 rows: float32 ``[B, D]``."""
    return torch.stack([part.float().mean(0) for part in states.split(BLOCK)])
