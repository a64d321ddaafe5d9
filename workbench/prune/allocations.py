"""How a budget is shared out among the layers: one class per rule, any of them with any score.

A budget is a number of parameters. For weights an allocation gives every matrix a count; for units (neurons, KV
groups) it names the units that go. Every rule keeps at least one unit of each kind in a layer, and meets the budget
to within one unit: for `Uniform` in every layer, for the others over the whole model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from workbench._registry import Registry
from workbench.architecture import Architecture, matrix
from workbench.errors import ArgumentError
from workbench.prune._ranking import Entry, take, threshold_counts
from workbench.prune.statistics import Statistics

OVERSHOOT = 1.25
Scores = dict[str, torch.Tensor]
Removed = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Plan:
    """What an allocation has to work with.

    Attributes
    ----------
    architecture
        Of the dense model.
    budget
        Parameters that must go.
    kinds
        Unit kinds that may go; empty for weights.
    protected
        Layers that must not be touched.
    statistics
        Of the dense model, if the allocation needs any.
    memo
        What a rule computed that does not depend on the budget; shared by plans that differ in their budget only.
    """

    architecture: Architecture
    budget: int
    kinds: tuple[str, ...] = ()
    protected: frozenset[int] = frozenset()
    statistics: Statistics | None = None
    memo: dict[str, torch.Tensor] = field(default_factory=dict)
    layers: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        layers = tuple(i for i in range(self.architecture.num_layers) if i not in self.protected)
        object.__setattr__(self, "layers", layers)
        room = sum(self.room(i) for i in layers)
        if self.budget > room:
            raise ArgumentError(
                f"the sparsity asks for {self.budget:,} parameters, but only {room:,} can go from "
                f"{len(layers)} layers (at least one unit of each kind stays): ask for less"
            )

    def cost(self, kind: str, layer: int) -> int:
        """Parameters of one unit."""
        return self.architecture.unit_parameters(kind, layer)

    def size(self, layer: int) -> int:
        """Parameters of a layer that this plan may touch: its matrices, or all its units."""
        a = self.architecture
        if not self.kinds:
            return sum(matrix(m).numel() for m in a.linears(layer).values())
        return sum(a.units(k, layer) * self.cost(k, layer) for k in self.kinds)

    def room(self, layer: int) -> int:
        """Parameters of a layer that can go at most."""
        kept = sum(self.cost(k, layer) for k in self.kinds)
        return self.size(layer) - kept


@dataclass(frozen=True)
class Allocation(ABC):
    """Base of all allocations. ``needs``: statistics of the dense model; ``joint``: all layers' scores at once."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    joint: ClassVar[bool] = False

    @abstractmethod
    def weights(self, plan: Plan, score: Callable[[int, str], torch.Tensor]) -> dict[tuple[int, str], int]:
        """How many weights each matrix loses, by (layer, path).

        Parameters
        ----------
        plan
            The budget and the model.
        score
            Scores ``[out, in]`` of the matrix at (layer, path) of the dense model; called by joint rules only.
        """

    @abstractmethod
    def units(self, plan: Plan, scores: Sequence[Scores]) -> list[Removed]:
        """The units that each layer loses: int64 indices by kind, ascending.

        Parameters
        ----------
        plan
            The budget and the model.
        scores
            Per layer and kind ``[units, channels]``; of one layer only, where the rule is not joint.
        """


@dataclass(frozen=True)
class PerLayer(Allocation):
    """Base of the rules that give every layer a budget of its own, whatever the scores."""

    def shares(self, plan: Plan) -> torch.Tensor:
        """Parameters that each of ``plan.layers`` loses (float64; they sum to the budget)."""
        sizes = torch.tensor([plan.size(i) for i in plan.layers], dtype=torch.float64)
        return sizes * (plan.budget / sizes.sum())

    def weights(self, plan: Plan, score: Callable[[int, str], torch.Tensor]) -> dict[tuple[int, str], int]:
        del score
        counts: dict[tuple[int, str], int] = {}
        wanted, given = 0.0, 0
        for layer, share in zip(plan.layers, self.shares(plan).tolist(), strict=True):
            for path in plan.architecture.linear_paths:
                size = matrix(plan.architecture.linear(layer, path)).numel()
                wanted += share * size / plan.size(layer)
                counts[layer, path] = round(wanted) - given
                given = round(wanted)
        return counts

    def units(self, plan: Plan, scores: Sequence[Scores]) -> list[Removed]:
        counts = self.counts(plan)
        return [
            {k: lowest_units(scores[i][k], n) for k, n in counts[i].items()} if i in counts else {}
            for i in range(plan.architecture.num_layers)
        ]

    def counts(self, plan: Plan) -> dict[int, dict[str, int]]:
        """Units of each kind that each layer loses: KV groups by their share, neurons to make up the budget.

        Equal layers lose equal counts if all may be touched. Otherwise what rounding leaves over in a layer is
        carried to the next, so that the whole budget is met.
        """
        shares, carry, counts = self.shares(plan).tolist(), 0.0, {}
        equal = len(set(shares)) == 1 and len(plan.layers) == plan.architecture.num_layers
        for i, share in zip(plan.layers, shares, strict=True):
            counts[i] = _split(plan, i, share + carry)
            if not equal:
                carry += share - sum(n * plan.cost(k, i) for k, n in counts[i].items())
        return counts


def _split(plan: Plan, layer: int, share: float) -> dict[str, int]:
    """Units of each kind worth ``share`` parameters of one layer.

    Few coarse units round badly: one of three KV groups for an asked fifth costs far more than the neurons that it
    saves. So a coarse kind is rounded to the nearest only up to `OVERSHOOT` times its share, and down beyond that,
    as long as four fifths of the fine units hold the rest.
    """
    ratio, counts, left = share / plan.size(layer), {}, share
    order = sorted(plan.kinds, key=lambda k: -plan.cost(k, layer))
    fine_room = 0.8 * (plan.architecture.units(order[-1], layer) - 1) * plan.cost(order[-1], layer)
    for position, kind in enumerate(order):
        units, cost = plan.architecture.units(kind, layer), plan.cost(kind, layer)
        finest = position == len(order) - 1
        ask = left / cost if finest else units * ratio
        nearest = max(int(ask + 0.5 - 1e-9), 0)
        if not finest and nearest and nearest > OVERSHOOT * ask and left - (nearest - 1) * cost <= fine_room:
            nearest -= 1
        counts[kind] = min(nearest, units - 1)
        left -= counts[kind] * cost
    for kind in order[:-1]:  # the finest kind ran out: coarser ones take the rest
        cost = plan.cost(kind, layer)
        extra = min(int(max(left, 0) / cost + 0.5 - 1e-9), plan.architecture.units(kind, layer) - 1 - counts[kind])
        counts[kind] += extra
        left -= extra * cost
    return counts


@dataclass(frozen=True)
class Uniform(PerLayer):
    """Every layer loses the same share, and the same whole number of units: what remains is a plain checkpoint."""

    name: ClassVar[str] = "uniform"


@dataclass(frozen=True)
class Global(Allocation):
    """The lowest scores of the model go; neurons and KV groups are each ranked among themselves."""

    name: ClassVar[str] = "global"
    joint: ClassVar[bool] = True

    def weights(self, plan: Plan, score: Callable[[int, str], torch.Tensor]) -> dict[tuple[int, str], int]:
        keys = [(i, p) for i in plan.layers for p in plan.architecture.linear_paths]
        below, ties = threshold_counts(keys, score, plan.budget)
        counts, left = {}, plan.budget - sum(below.values())
        for key in keys:
            take = min(left, ties[key])
            counts[key] = below[key] + take
            left -= take
        return counts

    def units(self, plan: Plan, scores: Sequence[Scores]) -> list[Removed]:
        total = sum(plan.size(i) for i in plan.layers)
        order = sorted(plan.kinds, key=lambda k: -max(plan.cost(k, i) for i in plan.layers))
        left, removed = plan.budget, [dict[str, torch.Tensor]() for _ in scores]
        for position, kind in enumerate(order):
            share = sum(plan.architecture.units(kind, i) * plan.cost(kind, i) for i in plan.layers) / total
            budget = left if position == len(order) - 1 else round(plan.budget * share)
            entries = [Entry(i, kind, scores[i][kind].mean(1), plan.cost(kind, i)) for i in plan.layers]
            taken, spent = take(entries, budget)
            left -= spent
            for (layer, _), units in taken.items():
                removed[layer][kind] = units
        return removed


@dataclass(frozen=True)
class Standardised(Allocation):
    """FLAP's rule: scores standardised within each layer and kind, then the lowest of the whole model go.

    Yongqi An et al., AAAI 2024, arXiv:2312.11983, section "Adaptive structure search": z = (S - mean S) / std S over
    the channels of a layer; a unit's z is the mean over its channels; neurons and KV groups are ranked together.
    """

    name: ClassVar[str] = "standardised"
    joint: ClassVar[bool] = True

    def weights(self, plan: Plan, score: Callable[[int, str], torch.Tensor]) -> dict[tuple[int, str], int]:
        del plan, score
        raise ArgumentError(
            "allocation='standardised' is for units (neurons, KV groups): for weights use uniform, global or owl"
        )

    def units(self, plan: Plan, scores: Sequence[Scores]) -> list[Removed]:
        entries = [
            Entry(i, kind, _standardise(values).mean(1), plan.cost(kind, i))
            for i in plan.layers
            for kind, values in scores[i].items()
        ]
        removed = [dict[str, torch.Tensor]() for _ in scores]
        for (layer, kind), units in take(entries, plan.budget)[0].items():
            removed[layer][kind] = units
        return removed


def _standardise(scores: torch.Tensor) -> torch.Tensor:
    values = scores.double()
    spread_ = values.std() if values.numel() > 1 else torch.zeros(())
    return (values - values.mean()) / spread_.clamp_min(1e-30)


def lowest_units(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of the ``count`` units with the lowest mean score, ascending (int64)."""
    order = scores.double().mean(1).argsort(stable=True)
    return order[:count].sort().values.cpu()


ALLOCATIONS: Registry[Allocation] = Registry(Allocation, "allocation", ("name",))
resolve_allocation = ALLOCATIONS.resolve
for _one in (Uniform, Global, Standardised):
    ALLOCATIONS.register(_one)
