"""Wanda-sp: Wanda's score, summed to channels.

The structured extension of Wanda that the FLAP paper compares with: Yongqi An, Xu Zhao, Tao Yu, Ming Tang, Jinqiao
Wang. Fluctuation-based Adaptive Structured Pruning for Large Language Models. AAAI 2024. arXiv:2312.11983.

    S_j = mean_i |W_ij| * ||X_j||_2           W: the down or output projection, j: its input channel

A neuron is one channel; a KV group is the mean over the channels of all its query heads. Every layer loses the same
number of units; layers are scored on what the pruned layers before them put out; nothing is repaired.
Departs from the official code: grouped queries are counted as the model stores them, and the budget is of true
parameters (there, 20 % removed 17 % of the default model).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from workbench.claims import Claim, LowerPerplexity
from workbench.prune._controls import RandomChannels
from workbench.prune._method import ChannelMethod, Citation, LayerView, method


@method
@dataclass(frozen=True)
class WandaSP(ChannelMethod):
    """Weight times input norm, by channel."""

    name: ClassVar[str] = "wanda-sp"
    title: ClassVar[str] = "Wanda-sp"
    needs: ClassVar[frozenset[str]] = frozenset({"norm"})
    propagate: ClassVar[bool] = True
    formula: ClassVar[str] = "S_j = mean_i |W_ij| ||X_j||_2"
    citation: ClassVar[Citation] = Citation(
        "Yongqi An, Xu Zhao, Tao Yu, Ming Tang, Jinqiao Wang",
        "Fluctuation-based Adaptive Structured Pruning for Large Language Models",
        2024,
        "2312.11983",
        "AAAI",
    )
    claim: ClassVar[Claim] = Claim(
        "At 20 %, without tuning, lower perplexity than random channels.",
        "LLaMA-7B, WikiText2, 128 tokens: 22.12 against 27.51 (dense 12.62; LLM-Pruner's figure for random)",
        LowerPerplexity(than=RandomChannels(), sparsity=0.2),
    )

    def score(self, layer: LayerView, kind: str) -> torch.Tensor:
        """Mean absolute column of the output linear times the channel's input norm."""
        weight = layer.weight(layer.output_path(kind))
        return layer.by_unit(kind, weight.abs().mean(0) * layer.inputs(kind).rms)
