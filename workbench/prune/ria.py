"""RIA: relative importance and activations.

Yingtao Zhang, Haoli Bai, Haokun Lin, Jialin Zhao, Lu Hou, Carlo Vittorio Cannistraci. Plug-and-Play: An Efficient
Post-training Pruning Method for Large Language Models. ICLR 2024. OpenReview Tr0lPx9woF.

    S_ij = ( |W_ij| / sum_i |W_ij|  +  |W_ij| / sum_j |W_ij| ) * ||X_j||_2^a        a = 1/2, within a whole matrix

The two shares keep every input and every output channel from being pruned away whole. Departs from the paper: its
channel permutation for N:M is not applied (it would have to be undone or carried along in the exported weights).
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
class RIA(WeightMethod):
    """Relative importance times input norm.

    Attributes
    ----------
    a
        Exponent of the input norm.
    """

    a: float = 0.5

    name: ClassVar[str] = "ria"
    title: ClassVar[str] = "RIA"
    needs: ClassVar[frozenset[str]] = frozenset({"norm"})
    propagate: ClassVar[bool] = True
    compare: ClassVar[str] = "matrix"
    formula: ClassVar[str] = "S_ij = (|W_ij| / sum_i |W_ij| + |W_ij| / sum_j |W_ij|) ||X_j||_2^a"
    citation: ClassVar[Citation] = Citation(
        "Yingtao Zhang, Haoli Bai, Haokun Lin, Jialin Zhao, Lu Hou, Carlo Vittorio Cannistraci",
        "Plug-and-Play: An Efficient Post-training Pruning Method for Large Language Models",
        2024,
        venue="ICLR, OpenReview Tr0lPx9woF",
    )
    claim: ClassVar[Claim] = Claim(
        "At 50 %, lower perplexity than Wanda.",
        "LLaMA, LLaMA-2 and OPT, 7B to 70B, WikiText2, unstructured 50 %",
        LowerPerplexity(than="wanda", sparsity=0.5),
    )

    def score(self, weight: torch.Tensor, inputs: SiteStatistics | None) -> torch.Tensor:
        """Relative importance times ``rms(X) ** a``."""
        if inputs is None:
            raise ArgumentError("RIA scores need statistics of the inputs: pass calibration text")
        size = weight.abs()
        tiny = torch.finfo(size.dtype).tiny
        relative = size / size.sum(0).clamp_min(tiny) + size / size.sum(1, keepdim=True).clamp_min(tiny)
        return relative * inputs.rms**self.a
