"""What happens to the weights that stay: one class per rule, any of them with any score.

A repair sees one weight, what is pruned of it and the statistics of its inputs, and returns the new weight, exactly
zero where it is pruned, and what is added to the bias (None: nothing). For units the pruned part is whole columns of
the output projection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from workbench._registry import Registry
from workbench.errors import ArgumentError, ModelError
from workbench.prune import _obs
from workbench.prune.statistics import SiteStatistics

Repaired = tuple[torch.Tensor, torch.Tensor | None]


@dataclass(frozen=True)
class Repair(ABC):
    """Base of all repairs. ``needs``: the kinds of statistics that it reads."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def fix(self, weight: torch.Tensor, mask: torch.Tensor, inputs: SiteStatistics | None) -> Repaired:
        """Repair one weight.

        Parameters
        ----------
        weight : Tensor [out, in], float32
            As it was before anything was pruned.
        mask : Tensor [out, in], bool
            True where pruned.
        inputs
            Statistics of what the weight multiplies; None if the repair needs none.

        Returns
        -------
        weight : Tensor [out, in], float32
        bias : Tensor [out] or None
        """


@dataclass(frozen=True)
class NoRepair(Repair):
    """What is pruned is zero, and the rest stays as it is."""

    name: ClassVar[str] = "none"

    def fix(self, weight: torch.Tensor, mask: torch.Tensor, inputs: SiteStatistics | None) -> Repaired:
        del inputs
        return weight.masked_fill(mask, 0.0), None


@dataclass(frozen=True)
class BiasCompensation(Repair):
    """The mean of what is removed goes into the bias: ``b += (W * pruned) mean(X)``.

    An et al., FLAP, AAAI 2024, arXiv:2312.11983, "Baseline bias compensation". Exact for inputs that never change.
    """

    name: ClassVar[str] = "bias"
    needs: ClassVar[frozenset[str]] = frozenset({"moments"})

    def fix(self, weight: torch.Tensor, mask: torch.Tensor, inputs: SiteStatistics | None) -> Repaired:
        mean = _need(inputs, self.name).get("mean").to(weight.device)
        return weight.masked_fill(mask, 0.0), (weight * mask) @ mean


@dataclass(frozen=True)
class LeastSquares(Repair):
    """The kept inputs take over as well as they can: ``W_K = (W H)_K (H_KK + damp I)^-1``, ``H = mean x x^T``.

    The minimiser of ``E |W x - W_K x_K|^2``. For units all rows keep the same inputs and one system is solved; for
    single weights every row has its own (minutes on the default model).

    Attributes
    ----------
    damp
        Added to the diagonal, as a share of its mean.
    """

    damp: float = 0.001

    name: ClassVar[str] = "least_squares"
    needs: ClassVar[frozenset[str]] = frozenset({"gram"})

    def fix(self, weight: torch.Tensor, mask: torch.Tensor, inputs: SiteStatistics | None) -> Repaired:
        gram = _need(inputs, self.name).get("gram").to(weight.device)
        ridge = self.damp * float(gram.diagonal().mean())
        target = weight @ gram
        new = torch.zeros_like(weight)
        if bool((mask == mask[:1]).all()):
            keep = (~mask[0]).nonzero()[:, 0]
            new[:, keep] = _solve(gram, keep, target[:, keep], weight[:, keep], ridge)
            return new, None
        for row in range(weight.shape[0]):
            keep = (~mask[row]).nonzero()[:, 0]
            rows = slice(row, row + 1)
            new[rows, keep] = _solve(gram, keep, target[rows, keep], weight[rows, keep], ridge)
        return new, None


def _solve(
    gram: torch.Tensor, keep: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, ridge: float
) -> torch.Tensor:
    """Rows w ``[out, kept]`` that minimise the error plus ``ridge`` times their distance from the old weights."""
    if not keep.numel():
        return target
    system = gram[keep][:, keep]
    system.diagonal().add_(ridge)
    factor, info = torch.linalg.cholesky_ex(system)
    if int(info):
        raise ModelError("the inputs' Gram matrix is singular: use more calibration text or a larger damp")
    return torch.cholesky_solve((target + ridge * weight).T, factor).T


@dataclass(frozen=True)
class SparseGPTUpdate(Repair):
    """SparseGPT's update for a mask that is given: columns left to right, the rest of the row makes up for each.

    Frantar, Alistarh, ICML 2023, arXiv:2301.00774.

    Attributes
    ----------
    damp
        Added to the diagonal of H, as a share of its mean.
    """

    damp: float = 0.01

    name: ClassVar[str] = "sparsegpt"
    needs: ClassVar[frozenset[str]] = frozenset({"gram"})

    def fix(self, weight: torch.Tensor, mask: torch.Tensor, inputs: SiteStatistics | None) -> Repaired:
        new, _ = _obs.sweep(weight, _obs.factor(_need(inputs, self.name), self.damp), mask=mask)
        return new, None


def _need(inputs: SiteStatistics | None, name: str) -> SiteStatistics:
    if inputs is None:
        raise ArgumentError(f"repair={name!r} needs statistics of the inputs: pass calibration text")
    return inputs


REPAIRS: Registry[Repair] = Registry(Repair, "repair", ("name",))
resolve_repair = REPAIRS.resolve
for _one in (NoRepair, BiasCompensation, LeastSquares, SparseGPTUpdate):
    REPAIRS.register(_one)
