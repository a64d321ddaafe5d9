"""Magnitude pruning.

Song Han, Jeff Pool, John Tran, William J. Dally. Learning both Weights and Connections for Efficient Neural
Networks. NeurIPS 2015. arXiv:1506.02626.

    S_ij = |W_ij|                    compared within a whole matrix

Departs from the paper: one shot, no retraining, as the LLM literature uses it for a baseline; exactly the number
asked for is pruned (published code prunes everything at or below a threshold, so ties overshoot).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from workbench.claims import Claim, LowerPerplexity
from workbench.prune._method import Citation, WeightMethod, method
from workbench.prune.statistics import SiteStatistics


@method
@dataclass(frozen=True)
class Magnitude(WeightMethod):
    """Small weights go."""

    name: ClassVar[str] = "magnitude"
    title: ClassVar[str] = "Magnitude"
    compare: ClassVar[str] = "matrix"
    formula: ClassVar[str] = "S_ij = |W_ij|"
    citation: ClassVar[Citation] = Citation(
        "Song Han, Jeff Pool, John Tran, William J. Dally",
        "Learning both Weights and Connections for Efficient Neural Networks",
        2015,
        "1506.02626",
        "NeurIPS",
    )
    claim: ClassVar[Claim] = Claim(
        "Small weights matter least: pruning them costs less than pruning as many at random.",
        "AlexNet and VGG-16 on ImageNet: 9x and 13x fewer weights at equal accuracy, with retraining (here: none)",
        LowerPerplexity(than="random", sparsity=0.5),
    )

    def score(self, weight: torch.Tensor, inputs: SiteStatistics | None) -> torch.Tensor:
        """``|W|``."""
        del inputs
        return weight.abs()
