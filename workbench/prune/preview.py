"""What a method would prune at any sparsity, fast enough for a slider.

Scores of the dense model are computed once; every matrix is cut into ``tile x tile`` cells and each cell keeps the
distribution of the sparsity at which its weights go (255 levels). A frame is then a look-up. What is shown is what
`prune` does with ``propagate=False``: the method's own comparison, its allocation and its budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.architecture import Architecture, matrix
from workbench.data import Text, Tokens
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.models import as_lm
from workbench.prune._method import ChannelMethod, LayerMethod, Method, WeightMethod
from workbench.prune._stages import Work, added_biases, channel_scores, choose_units, layer_scores, layers_to_remove
from workbench.prune.allocations import Allocation, PerLayer
from workbench.prune.masks import n_of_m
from workbench.prune.pipeline import prepare
from workbench.prune.repair import Repair
from workbench.prune.statistics import LayerStatistics

LEVELS = 255
BINS = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """What is left at one sparsity.

    Attributes
    ----------
    sparsity
        The asked fraction.
    kept : float32 [layers, matrices]
        Share of each matrix that is kept.
    cells : uint8 [layers, matrices, tile, tile]
        Share kept in each cell, 255 = all; rows are outputs, columns inputs.
    removed_parameters, total_parameters
        What goes, and what the fraction is of.
    """

    sparsity: float
    kept: np.ndarray
    cells: np.ndarray
    removed_parameters: int
    total_parameters: int


@dataclass(frozen=True, eq=False)
class Preview:
    """Scores of one method on one model; `at` shows them at any sparsity.

    Attributes
    ----------
    modules
        Short names of the matrices.
    layers
        Of the model.
    tile
        Cells along each side of a matrix.
    """

    modules: tuple[str, ...]
    layers: int
    tile: int
    total_parameters: int
    _frame: Callable[[float], tuple[np.ndarray, np.ndarray, int]] = field(repr=False)

    def at(self, sparsity: float) -> Frame:
        """What is left at a sparsity in [0, 1)."""
        if not 0 <= sparsity < 1:
            raise ArgumentError(f"sparsity={sparsity!r}: want a fraction in [0, 1), e.g. 0.5")
        kept, cells, gone = self._frame(float(sparsity))
        return Frame(float(sparsity), kept, cells, gone, self.total_parameters)


def preview(
    model: Any,
    method: str | Method = "wanda",
    *,
    pattern: str | None = None,
    units: tuple[str, ...] | str | None = None,
    allocation: str | Allocation | None = None,
    repair: str | Repair | None = None,
    calibration: Tokens | Text | str | Path | None = None,
    of: str = "non-embedding",
    seed: int = 0,
    tile: int = 16,
    progress: Progress | None = None,
) -> Preview:
    """Score a model once, to see what would go at any sparsity.

    The parameters are those of `workbench.prune`; ``tile`` is the number of cells along each side of a matrix.
    Layer scores may take minutes (they run the model without each layer).
    """
    lm, progress = as_lm(model), progress or Progress()
    work = prepare(
        lm, method, None, pattern=pattern, units=units, allocation=allocation, repair=repair,
        calibration=calibration, of=of, propagate=False, seed=seed, progress=progress,
    )  # fmt: skip
    arch, total = lm.architecture, lm.architecture.parameters(of)
    if isinstance(work.method, WeightMethod):
        frame = _weights(work, work.method, tile, total)
    elif isinstance(work.method, ChannelMethod):
        frame = _channels(work, work.method, tile, total)
    elif isinstance(work.method, LayerMethod):
        frame = _layers(work, work.method, tile, total)
    else:
        raise ArgumentError(f"{work.method.name} is of an unknown family")
    return Preview(arch.linear_names, arch.num_layers, tile, total, frame)


def _weights(work: Work, method: WeightMethod, tile: int, total: int) -> Any:
    arch, rule = work.dense, work.allocation
    if rule.joint and rule.name == "global":
        return _joint_weights(work, method, tile, total)
    shape = (arch.num_layers, len(arch.linear_paths))
    levels = np.zeros((LEVELS + 2, *shape, tile, tile), np.uint8)
    sizes = np.array([[matrix(m).numel() for m in arch.linears(i).values()] for i in range(shape[0])], np.float64)
    for layer, statistics in work.layer_statistics(method.needs):
        for column, path in enumerate(arch.linear_paths):
            inputs = statistics.sites.get(arch.site_of(path))
            scores = method.score(matrix(arch.linear(layer, path)).float(), inputs)
            levels[:, layer, column] = _levels(_order(work, method, scores), tile)
    shares = _weight_shares(work, sizes, total)

    def frame(sparsity: float) -> tuple[np.ndarray, np.ndarray, int]:
        gone = shares(sparsity)
        level = np.clip(np.rint(gone * LEVELS), 0, LEVELS).astype(int)
        cells = np.take_along_axis(levels, level[None, :, :, None, None], 0)[0]
        return (1 - gone).astype(np.float32), cells, round(float((gone * sizes).sum()))

    return frame


def _order(work: Work, method: WeightMethod, scores: torch.Tensor) -> torch.Tensor:
    """The share of its matrix at which each weight goes, in [0, 1), float32 ``[out, in]``."""
    pattern = work.pattern
    if pattern.is_nm:
        return torch.where(n_of_m(scores, pattern.keep, pattern.of), 0.0, 2.0)
    r, c = pattern.rows, pattern.columns
    if r * c > 1:
        scores = scores.unflatten(1, (-1, c)).unflatten(0, (-1, r)).sum((1, 3))
    if method.compare == "row":
        rank = scores.argsort(1).argsort(1).float() / scores.shape[1]
    else:
        bins = _bins(scores)
        rank = _ranks(torch.bincount(bins.flatten(), minlength=BINS))[bins]
    return rank.repeat_interleave(r, 0).repeat_interleave(c, 1) if r * c > 1 else rank


def _bins(scores: torch.Tensor) -> torch.Tensor:
    """Scores in bins of 0.4 % of their value: non-negative floats sort like their bits."""
    return scores.float().cpu().contiguous().view(torch.int32).long() >> 15


def _ranks(histogram: torch.Tensor) -> torch.Tensor:
    """The share of all scores that lie below each bin, float32 ``[BINS]``."""
    return ((histogram.cumsum(0) - histogram).double() / histogram.sum()).float()


def _levels(order: torch.Tensor, tile: int) -> np.ndarray:
    """Share kept of each cell at each level, uint8 ``[levels + 2, tile, tile]``."""
    order = order.cpu()
    rows = torch.arange(order.shape[0]) * tile // order.shape[0]
    columns = torch.arange(order.shape[1]) * tile // order.shape[1]
    bins = (order * LEVELS).long().clamp(0, LEVELS + 1)
    cell = (rows[:, None] * tile + columns) * (LEVELS + 2) + bins
    counts = torch.bincount(cell.flatten(), minlength=tile * tile * (LEVELS + 2)).view(tile * tile, -1)
    gone = counts.cumsum(1).roll(1, 1)
    gone[:, 0] = 0
    size = counts.sum(1, keepdim=True).clamp_min(1)
    return np.rint(255 * (1 - (gone / size).numpy())).astype(np.uint8).T.reshape(-1, tile, tile)


def _stays(bins: torch.Tensor) -> np.ndarray:
    """Share of a whole matrix that is kept at each level, float64 ``[levels + 2]``."""
    counts = torch.bincount(bins, minlength=LEVELS + 2)
    return (1 - (counts.cumsum(0) - counts).double() / bins.numel()).numpy()


def _weight_shares(work: Work, sizes: np.ndarray, total: int) -> Callable[[float], np.ndarray]:
    """Share of each matrix that goes at a sparsity, ``[layers, matrices]``."""
    fixed, rule = work.pattern.sparsity, work.allocation
    if fixed is not None:
        return lambda sparsity: np.full(sizes.shape, fixed if sparsity else 0.0)
    if not isinstance(rule, PerLayer):
        raise ArgumentError(f"allocation={rule.name!r} cannot be previewed for weights")

    work.budget = 0
    plan = work.plan()

    rule.shares(plan)  # what does not depend on the budget is computed here, not under the slider

    def shares(sparsity: float) -> np.ndarray:
        asked = replace(plan, budget=min(round(sparsity * total), int(sizes.sum())))
        per_layer = rule.shares(asked).numpy() / sizes.sum(1)
        return np.repeat(per_layer[:, None], sizes.shape[1], 1)

    return shares


def _joint_weights(work: Work, method: WeightMethod, tile: int, total: int) -> Any:
    """Global selection: every cell keeps the distribution of its scores' global rank, by a fine common histogram."""
    arch = work.dense
    histogram = torch.zeros(BINS, dtype=torch.int64)

    def bins(layer: int, path: str, statistics: LayerStatistics) -> torch.Tensor:
        inputs = statistics.sites.get(arch.site_of(path))
        return _bins(method.score(matrix(arch.linear(layer, path)).float(), inputs))

    for layer, statistics in work.layer_statistics(method.needs):
        for path in arch.linear_paths:
            histogram += torch.bincount(bins(layer, path, statistics).flatten(), minlength=BINS)
    rank = _ranks(histogram)
    levels = np.zeros((LEVELS + 2, arch.num_layers, len(arch.linear_paths), tile, tile), np.uint8)
    kept = np.zeros(levels.shape[:3], np.float32)
    for layer, statistics in work.layer_statistics(method.needs):
        for column, path in enumerate(arch.linear_paths):
            order = rank[bins(layer, path, statistics)]
            levels[:, layer, column] = _levels(order, tile)
            kept[:, layer, column] = _stays((order * LEVELS).long().flatten())
    weights = int(histogram.sum())

    def frame(sparsity: float) -> tuple[np.ndarray, np.ndarray, int]:
        gone = min(sparsity * total / weights, 1.0)
        level = round(gone * LEVELS)
        return kept[level], levels[level], round(gone * weights)

    return frame


def _channels(work: Work, method: ChannelMethod, tile: int, total: int) -> Any:
    scores, arch = list(channel_scores(work, method)), work.dense
    slots = {k: [arch.slots(k, i) for i in range(arch.num_layers)] for k in work.kinds}
    costs = {(k, i): arch.unit_parameters(k, i) for k in work.kinds for i in range(arch.num_layers)}
    work.budget = 0
    biases = added_biases(work, [dict.fromkeys(work.kinds, 1)] * arch.num_layers)
    most = sum(map(work.plan().room, work.plan().layers)) - biases

    def frame(sparsity: float) -> tuple[np.ndarray, np.ndarray, int]:
        work.budget = min(round(sparsity * total), most)
        removed = choose_units(work, scores)
        cells = np.full((arch.num_layers, len(arch.linear_paths), tile, tile), 255, np.uint8)
        kept = np.ones(cells.shape[:2], np.float32)
        gone = 0
        for layer, kinds in enumerate(removed):
            for kind, units in kinds.items():
                gone += len(units) * costs[kind, layer]
                for slot in slots[kind][layer] if len(units) else ():
                    if slot.module in arch.linear_paths:
                        _draw(arch, cells, kept, layer, slot, units, tile)
        counts = [{kind: len(units) for kind, units in kinds.items()} for kinds in removed]
        return kept, cells, gone - added_biases(work, counts)

    return frame


def _draw(
    arch: Architecture,
    cells: np.ndarray,
    kept: np.ndarray,
    layer: int,
    slot: Any,
    units: torch.Tensor,
    tile: int,
) -> None:
    """Darken the rows or columns of one matrix that go."""
    column, size = arch.linear_paths.index(slot.module), slot.index.numel()
    stays = np.ones(size, np.float32)
    stays[slot.index[units].flatten().numpy()] = 0
    cell = np.arange(size) * tile // size
    share = np.bincount(cell, stays, tile) / np.maximum(np.bincount(cell, minlength=tile), 1)
    band = np.rint(255 * share).astype(np.uint8)
    cells[layer, column] = np.minimum(cells[layer, column], band[:, None] if slot.axis == 0 else band[None, :])
    kept[layer, column] *= stays.mean()


def _layers(work: Work, method: LayerMethod, tile: int, total: int) -> Any:
    scores, arch = layer_scores(work, method), work.dense
    sizes = [arch.layer_parameters(i) for i in scores.argsort().tolist() if bool(torch.isfinite(scores[i]))]
    most = sum(sizes[: arch.num_layers - 1])

    def frame(sparsity: float) -> tuple[np.ndarray, np.ndarray, int]:
        gone = layers_to_remove(arch, scores, min(round(sparsity * total), most))
        kept = np.ones((arch.num_layers, len(arch.linear_paths)), np.float32)
        kept[list(gone)] = 0
        cells = np.broadcast_to((kept * 255).astype(np.uint8)[:, :, None, None], (*kept.shape, tile, tile))
        return kept, cells.copy(), sum(arch.layer_parameters(i) for i in gone)

    return frame
