"""SparseGPT: one-shot pruning with the optimal-brain-surgeon update.

Elias Frantar, Dan Alistarh. SparseGPT: Massive Language Models Can be Accurately Pruned in One-Shot. ICML 2023.
arXiv:2301.00774.

    H = mean x x^T + damp * mean(diag H) * I,       U = the upper Cholesky factor of H^-1,       S_ij = W_ij^2 / U_jj^2

Columns are visited left to right in blocks of B. When a block is reached its lowest scores are marked (N:M: when a
group of M is reached); then, column by column, a pruned w_ij leaves the error e = w_ij / U_jj, and what is right
of it takes it up: w_ik -= e * U_jk. The scores are therefore those of weights already updated.
Departs from the paper: exact counts in every block, and one factorisation for the weights that share their input;
inputs that are always zero go first and count (the official code zeroes them on top of the number asked for).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from workbench.claims import Claim, LowerPerplexity
from workbench.prune import _obs
from workbench.prune._method import Citation, Solver, WeightMethod, method
from workbench.prune.masks import Pattern
from workbench.prune.statistics import SiteStatistics


@method
@dataclass(frozen=True)
class SparseGPT(WeightMethod):
    """Prune and let the remaining weights of the row make up for it.

    Attributes
    ----------
    damp
        Added to the diagonal of H, as a share of its mean.
    block
        Columns per block.
    """

    damp: float = 0.01
    block: int = 128

    name: ClassVar[str] = "sparsegpt"
    title: ClassVar[str] = "SparseGPT"
    needs: ClassVar[frozenset[str]] = frozenset({"norm", "gram"})
    propagate: ClassVar[bool] = True
    compare: ClassVar[str] = "matrix"
    repair: ClassVar[str] = "sparsegpt"
    formula: ClassVar[str] = "S_ij = W_ij^2 / [chol(H^-1)]_jj^2, then w_ik -= w_ij / U_jj U_jk"
    citation: ClassVar[Citation] = Citation(
        "Elias Frantar, Dan Alistarh",
        "SparseGPT: Massive Language Models Can be Accurately Pruned in One-Shot",
        2023,
        "2301.00774",
        "ICML",
    )
    claim: ClassVar[Claim] = Claim(
        "At 50 %, stays close to dense in one shot where magnitude collapses.",
        "OPT and BLOOM up to 175B, WikiText2; LLaMA-2-7B by Wanda's authors: 6.51 against 14.89 (dense 5.12)",
        LowerPerplexity(than="magnitude", sparsity=0.5),
    )

    def score(self, weight: torch.Tensor, inputs: SiteStatistics | None) -> torch.Tensor:
        """The scores before any update ``[out, in]``: what a preview shows."""
        return weight.square() / _obs.factor(inputs, self.damp).diagonal().square()

    def solver(self, inputs: SiteStatistics | None) -> Solver:
        """The sweep over the columns, for every weight that reads these inputs."""
        upper = _obs.factor(inputs, self.damp)

        def solve(weight: torch.Tensor, count: int, pattern: Pattern) -> tuple[torch.Tensor, torch.Tensor]:
            return _obs.sweep(weight, upper, count=count, pattern=pattern, block=self.block)

        return solve
