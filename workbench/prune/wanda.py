"""Wanda: pruning by weights and activations.

Mingjie Sun, Zhuang Liu, Anna Bair, J. Zico Kolter. A Simple and Effective Pruning Approach for Large Language
Models. ICLR 2024. arXiv:2306.11695.

    S_ij = |W_ij| * ||X_j||_2        compared within one output row

||X_j||_2 is the norm of input j over all calibration tokens; the root mean square serves, since a constant factor
changes no order. Layers are scored on what the pruned layers before them put out. No weight is updated.
Departs from the paper: nothing but exact counts per row where the official code truncates them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from workbench.claims import Claim, LowerPerplexity
from workbench.errors import ArgumentError
from workbench.prune._method import Citation, WeightMethod, method
from workbench.prune.statistics import SiteStatistics


@method
@dataclass(frozen=True)
class Wanda(WeightMethod):
    """Weight times input norm, row by row."""

    name: ClassVar[str] = "wanda"
    title: ClassVar[str] = "Wanda"
    needs: ClassVar[frozenset[str]] = frozenset({"norm"})
    propagate: ClassVar[bool] = True
    formula: ClassVar[str] = "S_ij = |W_ij| ||X_j||_2, per output row"
    citation: ClassVar[Citation] = Citation(
        "Mingjie Sun, Zhuang Liu, Anna Bair, J. Zico Kolter",
        "A Simple and Effective Pruning Approach for Large Language Models",
        2024,
        "2306.11695",
        "ICLR",
    )
    claim: ClassVar[Claim] = Claim(
        "At 50 %, lower perplexity than magnitude, though no weight is updated.",
        "LLaMA-2-7B, WikiText2, 4096 tokens: 6.42 against 14.89 (dense 5.12)",
        LowerPerplexity(than="magnitude", sparsity=0.5),
    )

    def score(self, weight: torch.Tensor, inputs: SiteStatistics | None) -> torch.Tensor:
        """``|W| * rms(X)``."""
        if inputs is None:
            raise ArgumentError("Wanda scores need statistics of the inputs: pass calibration text")
        return weight.abs() * inputs.rms
