"""OWL: layers with more outliers keep more.

Lu Yin, You Wu, Zhenyu Zhang, Cheng-Yu Hsieh, Yaqing Wang, Yiling Jia, Gen Li, Ajay Jaiswal, Mykola Pechenizkiy, Yi
Liang, Michael Bendersky, Zhangyang Wang, Shiwei Liu. Outlier Weighed Layerwise Sparsity (OWL): A Missing Secret Sauce
for Pruning LLMs to High Sparsity. ICML 2024. arXiv:2310.05175.

    D_l    = share of the |W_ij| ||X_j||_2 of layer l that lie above M times their mean
    keep_l = 1 - s + 2 lambda (D_l - min D) / (max D - min D), shifted so that the budget is met

An allocation, for any score. Departs from the official code: D is that of the dense model for every method, and the
shift keeps the true budget where layers differ in size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from workbench.architecture import matrix
from workbench.errors import ArgumentError
from workbench.prune.allocations import ALLOCATIONS, PerLayer, Plan


@dataclass(frozen=True)
class OWL(PerLayer):
    """Layers with more outliers keep more.

    Attributes
    ----------
    m
        M, how many times the mean makes an outlier.
    span
        Lambda: the layers' sparsities span 2 lambda; the shift to the budget moves where that range lies.
    """

    m: float = 5.0
    span: float = 0.08

    name: ClassVar[str] = "owl"
    needs: ClassVar[frozenset[str]] = frozenset({"norm"})

    def shares(self, plan: Plan) -> torch.Tensor:
        """Parameters that each layer loses, float64; layers with many outliers lose less."""
        if "outliers" not in plan.memo:
            plan.memo["outliers"] = torch.tensor([self.outliers(plan, i) for i in plan.layers]).double()
        outliers = plan.memo["outliers"]
        sizes = torch.tensor([plan.size(i) for i in plan.layers], dtype=torch.float64)
        asked = plan.budget / float(sizes.sum())
        spread_ = outliers - outliers.min()
        keep = 2 * self.span * spread_ / spread_.max().clamp_min(1e-30)
        ratios = asked - keep + (keep * sizes).sum() / sizes.sum()
        most = torch.tensor([plan.room(i) for i in plan.layers], dtype=torch.float64)
        return _clip((ratios * sizes), most, plan.budget)

    def outliers(self, plan: Plan, layer: int) -> float:
        """D_l of one layer."""
        if plan.statistics is None:
            raise ArgumentError("allocation='owl' needs statistics of the inputs: pass calibration text")
        sites, a = plan.statistics.layer(layer).sites, plan.architecture
        scores = [
            (matrix(a.linear(layer, p)).float().abs() * sites[a.site_of(p)].rms).flatten() for p in a.linear_paths
        ]
        everything = torch.cat(scores)
        return float((everything > self.m * everything.mean()).double().mean())


def _clip(shares: torch.Tensor, most: torch.Tensor, budget: int) -> torch.Tensor:
    """Keep every share within [0, most] and their sum at the budget."""
    shares = shares.clamp_min(0)
    for _ in range(len(shares)):
        shares = torch.minimum(shares, most)
        gap = budget - float(shares.sum())
        free = (shares < most) if gap > 0 else (shares > 0)
        if abs(gap) < 1e-6 or not bool(free.any()):
            break
        shares = shares + free * (gap / float(free.sum()))
        shares = shares.clamp_min(0)
    return torch.minimum(shares, most)


ALLOCATIONS.register(OWL)
