"""ShortGPT: layers that change their input least go.

Xin Men, Mingyu Xu, Qingyu Zhang, Bingning Wang, Hongyu Lin, Yaojie Lu, Xianpei Han, Weipeng Chen. ShortGPT: Layers in
Large Language Models are More Redundant Than You Expect. 2024. arXiv:2403.03853. The angular distance is that of
Andrey Gromov, Kushal Tirumala, Hassan Shapourian, Paolo Glorioso, Daniel A. Roberts. The Unreasonable Ineffectiveness
of the Deeper Layers. ICLR 2025. arXiv:2403.17887.

    bi:       S_l = 1 - mean_t cos(x_l,t , x_l+1,t)                    block influence
    angular:  S_l = mean_t arccos(cos(x_l,t , x_l+1,t)) / pi

x_l is the residual stream before layer l; for the last layer the output *before* the final norm. The lowest go, all
at once. Departs from the papers: Gromov et al. look at runs of n layers, here every layer is scored alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from workbench.claims import Claim, LowerPerplexity
from workbench.errors import ArgumentError, unknown
from workbench.prune._method import Citation, LayerMethod, ModelView, method


@method
@dataclass(frozen=True)
class ShortGPT(LayerMethod):
    """Block influence.

    Attributes
    ----------
    criterion
        ``"bi"`` or ``"angular"``.
    """

    criterion: str = "bi"

    name: ClassVar[str] = "shortgpt"
    title: ClassVar[str] = "ShortGPT"
    needs: ClassVar[frozenset[str]] = frozenset({"similarity"})
    formula: ClassVar[str] = "S_l = 1 - mean_t cos(x_l, x_l+1)"
    citation: ClassVar[Citation] = Citation(
        "Xin Men, Mingyu Xu, Qingyu Zhang, Bingning Wang, Hongyu Lin, Yaojie Lu, Xianpei Han, Weipeng Chen",
        "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect",
        2024,
        "2403.03853",
    )
    claim: ClassVar[Claim] = Claim(
        "Dropping redundant layers keeps more than pruning channels at about the same size.",
        "LLaMA-2 and Baichuan2, 7B and 13B, 25 %: benchmark scores above LLM-Pruner's (here: perplexity)",
        LowerPerplexity(than="llm-pruner", sparsity=0.2),
    )

    def __post_init__(self) -> None:
        if self.criterion not in ("bi", "angular"):
            raise unknown("criterion", self.criterion, ("bi", "angular"))

    def score(self, model: ModelView) -> torch.Tensor:
        """Block influence of every layer."""
        if model.statistics is None:
            raise ArgumentError("ShortGPT scores need statistics: pass calibration text")
        layers = [model.statistics.layer(i) for i in range(len(model.statistics))]
        values = [1 - s.cosine if self.criterion == "bi" else s.angle for s in layers]
        return torch.tensor(values, dtype=torch.float64)
