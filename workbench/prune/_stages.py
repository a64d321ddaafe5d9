"""The three ways down from scores to a changed model: weights, channels, layers.

Each takes a `Work` and changes ``work.target``, layer by layer. Where a method propagates, a layer is measured on
what the already pruned layers before it put out, then pruned, then run again for the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from workbench.architecture import Architecture, matrix
from workbench.data import Tokens
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.prune import apply as change
from workbench.prune._journal import Journal
from workbench.prune._method import ChannelMethod, LayerMethod, LayerView, Method, ModelView, WeightMethod
from workbench.prune._runner import LayerRunner
from workbench.prune.allocations import Allocation, PerLayer, Plan, lowest_units
from workbench.prune.masks import Pattern, select
from workbench.prune.repair import Repair, resolve_repair
from workbench.prune.statistics import Collector, LayerStatistics, SiteStatistics, Statistics, collect

C = TypeVar("C")


@dataclass(eq=False)
class Work:
    """One pruning run.

    Attributes
    ----------
    dense, target
        Descriptions of the model that is asked about and the one that is changed (the same, in place).
    tokens
        Calibration text; None if nothing needs data.
    removed, removed_layers
        Filled in: the units and layers that went.
    """

    dense: Architecture
    target: Architecture
    method: Method
    allocation: Allocation
    repair: Repair
    pattern: Pattern
    kinds: tuple[str, ...]
    budget: int
    tokens: Tokens | None
    fingerprint: str
    propagate: bool
    apply: str
    progress: Progress
    removed: list[dict[str, torch.Tensor]] = field(default_factory=list)
    removed_layers: tuple[int, ...] = ()
    memo: dict[str, torch.Tensor] = field(default_factory=dict)

    def run(self) -> None:
        """Prune ``target``."""
        if isinstance(self.method, WeightMethod):
            _weights(self, self.method)
        elif isinstance(self.method, ChannelMethod):
            _channels(self, self.method)
        elif isinstance(self.method, LayerMethod):
            _layers(self, self.method)

    def plan(self, extra: int = 0) -> Plan:
        """The budget, for the allocation."""
        protected = self.method.protected(self.dense.num_layers)
        needs = self.dense_statistics(self.allocation.needs) if self.allocation.needs else None
        return Plan(self.dense, self.budget + extra, self.kinds, protected, needs, self.memo)

    def dense_statistics(self, needs: frozenset[str]) -> Statistics:
        """Statistics of the dense model: from the cache, or by one pass."""
        tokens = self.need_tokens()
        samples = getattr(self.method, "samples", None)
        if "gradient" in needs and samples:
            tokens = first_samples(tokens, samples)
        return collect(self.dense, tokens, needs, fingerprint=self.fingerprint, progress=self.progress)

    def need_tokens(self) -> Tokens:
        """The calibration text."""
        if self.tokens is None:
            raise ArgumentError(f"{self.method.name} needs calibration text: pass calibration=")
        return self.tokens

    def layer_statistics(self, needs: frozenset[str]) -> Iterator[tuple[int, LayerStatistics]]:
        """Number and statistics of every layer in turn; where the run propagates, of the model as pruned so far.

        The caller prunes a layer before it asks for the next. A run that was killed goes on behind the layers that
        its journal holds.
        """
        count = self.dense.num_layers
        if needs and self.propagate and "gradient" not in needs:
            yield from self._propagated(needs)
        else:
            statistics = self.dense_statistics(needs) if needs else None
            for index in range(count):
                self.progress.step("pruning", index, count)
                yield index, statistics.layer(index) if statistics else LayerStatistics()
        self.progress.step("pruning", count, count)

    def _propagated(self, needs: frozenset[str]) -> Iterator[tuple[int, LayerStatistics]]:
        count, tokens = self.dense.num_layers, self.need_tokens()
        runner = LayerRunner(self.target, tokens, self.progress)
        collector = Collector(self.target, needs)
        stages = (self.method, self.allocation, self.repair, self.pattern, self.kinds, self.budget, self.apply)
        journal = Journal(self.fingerprint, {"stages": repr(stages), "data": tokens.hash, "needs": sorted(needs)})
        for index in range(journal.restore(self.target, runner, self.removed), count):
            self.progress.step("pruning", index, count)
            with collector.watching(index, stop=True):
                runner.run(index, keep=False)
            yield index, collector.result()
            if index + 1 < count:
                runner.run(index)
                journal.note(self.target, runner, self.removed, index + 1)
        journal.forget()


def first_samples(tokens: Tokens, count: int) -> Tokens:
    """The first ``count`` sequences."""
    return replace(tokens, ids=tokens.ids[:count]) if count < tokens.samples else tokens


def _weights(work: Work, method: WeightMethod) -> None:
    arch, pattern = work.target, work.pattern
    for path in arch.linear_paths:
        pattern.check(tuple(matrix(arch.linear(0, path)).shape), path)
    counts = _weight_counts(work, method)
    compare = "matrix" if work.allocation.joint else method.compare
    own = work.repair == resolve_repair(method.repair)
    for index, statistics in work.layer_statistics(method.needs | work.repair.needs):
        for site, paths in arch.sites.items():
            inputs = statistics.sites.get(site)
            solve = method.solver(inputs) if own else None
            for path in paths:
                work.progress.check()
                module, count = arch.linear(index, path), counts.get((index, path), 0)
                if not count:
                    continue
                weight, bias = matrix(module).float(), None
                if solve is not None:
                    weight, _ = solve(weight, count, pattern)
                else:
                    mask = select(method.score(weight, inputs), count, pattern, compare)
                    weight, bias = work.repair.fix(weight, mask, inputs)
                change.set_matrix(module, weight, reuse=work.dense is work.target)
                change.add_bias(module, bias)


def _weight_counts(work: Work, method: WeightMethod) -> dict[tuple[int, str], int]:
    """How many weights each matrix loses: as the pattern says, or by the allocation, in whole blocks."""
    plan, pattern, size = work.plan(), work.pattern, work.pattern.rows * work.pattern.columns
    if pattern.sparsity is not None:
        share = pattern.sparsity if work.budget else 0.0
        sizes = {(i, p): matrix(work.dense.linear(i, p)).numel() for i in plan.layers for p in work.dense.linear_paths}
        return {key: round(share * n) for key, n in sizes.items()}
    counts = work.allocation.weights(plan, _dense_scores(work, method))
    wanted = given = 0
    for key, count in counts.items():
        wanted += count
        counts[key] = round(wanted / size) * size - given
        given += counts[key]
    return counts


def _dense_scores(work: Work, method: WeightMethod) -> Any:
    """Scores of the dense model's matrices; one layer's statistics are held at a time."""
    held: dict[int, LayerStatistics] = {}

    def score(index: int, path: str) -> torch.Tensor:
        work.progress.check()
        inputs: SiteStatistics | None = None
        if method.needs:
            if index not in held:
                held.clear()
                held[index] = work.dense_statistics(method.needs).layer(index)
            inputs = held[index].sites[work.dense.site_of(path)]
        return method.score(matrix(work.dense.linear(index, path)).float(), inputs)

    return score


def _channels(work: Work, method: ChannelMethod) -> None:
    arch, allocation = work.target, work.allocation
    counts: dict[int, dict[str, int]] | None = None
    if isinstance(allocation, PerLayer) and work.propagate:
        rule = allocation
        counts = _paid(work, rule.counts, lambda chosen: [chosen.get(i, {}) for i in range(arch.num_layers)])
        needs = method.needs | work.repair.needs
    else:
        work.removed, needs = choose_units(work, list(channel_scores(work, method))), work.repair.needs
    for index, statistics in work.layer_statistics(needs):
        view = LayerView(arch, index, statistics)
        if counts is not None:
            wanted = counts.get(index, {})
            work.removed.append({k: lowest_units(method.score(view, k), n) for k, n in wanted.items()})
        removed = work.removed[index]
        for kind, units in removed.items():
            if len(units):
                _repair_units(work, view, kind, units)
        (change.remove_units if work.apply == "remove" else change.zero_units)(arch, index, removed)


def choose_units(work: Work, scores: list[dict[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    """The units that go, by the dense model's scores of every layer."""
    return _paid(
        work,
        lambda plan: work.allocation.units(plan, scores),
        lambda removed: [{kind: len(units) for kind, units in kinds.items()} for kinds in removed],
    )


def _paid(work: Work, choose: Callable[[Plan], C], numbers: Callable[[C], list[dict[str, int]]]) -> C:
    """Choose units under a plan such that biases which the repair will add are paid for."""
    chosen, extra = choose(work.plan()), 0
    for _ in range(3):
        added = added_biases(work, numbers(chosen))
        if added == extra:
            break
        chosen, extra = choose(work.plan(added)), added
    return chosen


def channel_scores(work: Work, method: ChannelMethod) -> Iterator[dict[str, torch.Tensor]]:
    """Scores of the dense model's units, layer by layer, by kind."""
    statistics = work.dense_statistics(method.needs) if method.needs else None
    for index in range(work.dense.num_layers):
        work.progress.check()
        view = LayerView(work.dense, index, statistics.layer(index) if statistics else LayerStatistics())
        yield {kind: method.score(view, kind) for kind in work.kinds}


def added_biases(work: Work, removed: list[dict[str, int]]) -> int:
    """Parameters that the repair adds where so many units of each kind go from each layer."""
    if work.repair.name != "bias":
        return 0
    total = 0
    for index, kinds in enumerate(removed):
        view = LayerView(work.dense, index, LayerStatistics())
        for kind, units in kinds.items():
            module = work.dense.linear(index, view.output_path(kind))
            if units and getattr(module, "bias", None) is None:
                total += int(matrix(module).shape[0])
    return total


def _repair_units(work: Work, view: LayerView, kind: str, units: torch.Tensor) -> None:
    path = view.output_path(kind)
    module = work.target.linear(view.index, path)
    weight = matrix(module).float()
    columns = next(s for s in work.target.slots(kind, view.index) if s.axis == 1).index[units].flatten()
    mask = torch.zeros(weight.shape[1], dtype=torch.bool, device=weight.device)
    mask[columns.to(weight.device)] = True
    inputs = view.inputs(kind) if work.repair.needs else None
    new, bias = work.repair.fix(weight, mask.expand(weight.shape[0], -1), inputs)
    change.set_matrix(module, new)
    change.add_bias(module, bias)


def layer_scores(work: Work, method: LayerMethod) -> torch.Tensor:
    """Scores of whole layers; protected ones are infinite."""
    tokens = work.need_tokens()
    samples = getattr(method, "samples", None)
    statistics = work.dense_statistics(method.needs) if method.needs else None
    view = ModelView(work.dense, first_samples(tokens, samples or tokens.samples), statistics, work.progress)
    scores = method.score(view).clone()
    scores[sorted(method.protected(len(scores)))] = torch.inf
    return scores


def layers_to_remove(arch: Architecture, scores: torch.Tensor, budget: int) -> tuple[int, ...]:
    """The layers with the lowest scores whose parameters come closest to the budget."""
    order = [int(i) for i in scores.argsort(stable=True) if bool(torch.isfinite(scores[i]))][: len(scores) - 1]
    totals = torch.tensor([0, *(arch.layer_parameters(i) for i in order)]).cumsum(0)
    if budget > int(totals[-1]) + arch.layer_parameters(0) // 2:
        raise ArgumentError(
            f"the sparsity asks for {budget:,} parameters, but the {len(order)} layers that may go hold "
            f"{int(totals[-1]):,}: ask for less"
        )
    return tuple(sorted(order[: int((totals - budget).abs().argmin())]))


def _layers(work: Work, method: LayerMethod) -> None:
    work.removed_layers = layers_to_remove(work.dense, layer_scores(work, method), work.budget)
    if work.apply == "remove":
        change.remove_layers(work.target, work.removed_layers)
        return
    for index in work.removed_layers:
        for path in work.target.linear_paths:
            module = work.target.linear(index, path)
            change.set_matrix(module, torch.zeros_like(matrix(module)))
            if module.bias is not None:
                change.add_bias(module, -module.bias.detach())
