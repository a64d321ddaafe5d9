"""FLAP: fluctuation-based adaptive structured pruning.

Yongqi An, Xu Zhao, Tao Yu, Ming Tang, Jinqiao Wang. Fluctuation-based Adaptive Structured Pruning for Large Language
Models. AAAI 2024. arXiv:2312.11983.

    F_j = var_t X_tj                                                      fluctuation of channel j over tokens
    IFV:  S_j = F_j        WIFV:  S_j = F_j * sum_i W_ij^2        WIFN:  S_j = mean_i |W_ij| * ||X_j||_2

A channel that hardly fluctuates can be replaced by its mean: what is removed goes into the bias of the output
linear, b += W[:, removed] mean(X)[removed] (repair "bias"). Scores are standardised within each layer and compared
over the whole model (allocation "standardised"); a KV group is the mean over its channels.
Departs from the official code: the true variance over tokens (there, an aliased update makes it 0.65 of it); true
parameter costs per unit, grouped queries included (there, a head costs 512/3 neurons whatever the model).
As in that code, and not in the paper, attention's scores are squared before they are standardised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from workbench.claims import Claim, LowerPerplexity
from workbench.errors import unknown
from workbench.prune._method import ChannelMethod, Citation, LayerView, method


@method
@dataclass(frozen=True)
class FLAP(ChannelMethod):
    """Channels that hardly fluctuate go, and their mean goes into a bias.

    Attributes
    ----------
    metric
        ``"WIFV"``, ``"IFV"`` or ``"WIFN"``.
    square_attention
        Square the scores of attention channels, as the official code does.
    """

    metric: str = "WIFV"
    square_attention: bool = True

    name: ClassVar[str] = "flap"
    title: ClassVar[str] = "FLAP"
    needs: ClassVar[frozenset[str]] = frozenset({"norm", "moments"})
    allocation: ClassVar[str] = "standardised"
    repair: ClassVar[str] = "bias"
    formula: ClassVar[str] = "S_j = var(X_j) sum_i W_ij^2, standardised per layer; b += W[:, removed] mean(X)"
    citation: ClassVar[Citation] = Citation(
        "Yongqi An, Xu Zhao, Tao Yu, Ming Tang, Jinqiao Wang",
        "Fluctuation-based Adaptive Structured Pruning for Large Language Models",
        2024,
        "2312.11983",
        "AAAI",
    )
    claim: ClassVar[Claim] = Claim(
        "At 20 %, without tuning, lower perplexity than Wanda-sp.",
        "LLaMA-7B, WikiText2, 128 tokens: 14.62 against 22.12 (dense 12.62)",
        LowerPerplexity(than="wanda-sp", sparsity=0.2),
    )

    def __post_init__(self) -> None:
        if self.metric not in ("WIFV", "IFV", "WIFN"):
            raise unknown("metric", self.metric, ("WIFV", "IFV", "WIFN"))

    def score(self, layer: LayerView, kind: str) -> torch.Tensor:
        """Fluctuation scores of the channels of every unit."""
        weight, inputs = layer.weight(layer.output_path(kind)), layer.inputs(kind)
        if self.metric == "WIFN":
            scores = weight.abs().mean(0) * inputs.rms
        else:
            scores = inputs.get("variance") * (weight.square().sum(0) if self.metric == "WIFV" else 1.0)
        if kind == "kv_group" and self.square_attention:
            scores = scores.square()
        return layer.by_unit(kind, scores)
