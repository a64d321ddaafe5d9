"""Exact selection of the lowest scores of a whole model, for the allocations that compare all layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

Key = tuple[int, str]


@dataclass(frozen=True, eq=False)
class Entry:
    """The units of one kind in one layer: float ``[units]`` scores, and the parameters of one unit."""

    layer: int
    kind: str
    scores: torch.Tensor
    cost: int


def take(entries: Sequence[Entry], budget: int) -> tuple[dict[Key, torch.Tensor], int]:
    """Remove units in ascending order of score as long as they fit into the budget.

    The best unit of every entry stays. A unit that would overshoot is passed over and cheaper ones behind it fill
    what is left, so that the budget is met to within half the cheapest unit where enough of those are left.

    Returns
    -------
    removed
        Unit indices by (layer, kind), ascending int64.
    spent : int
        Parameters of the removed units.
    """
    scores = [e.scores.double().cpu().numpy().copy() for e in entries]
    for values in scores:
        values[values.argmax()] = np.inf
    sizes = [len(v) for v in scores]
    flat = np.concatenate(scores)
    owner = np.repeat(np.arange(len(entries)), sizes)
    unit = np.concatenate([np.arange(n) for n in sizes])
    cost = np.array([e.cost for e in entries], dtype=np.int64)[owner]
    order = flat.argsort(kind="stable")
    order = order[np.isfinite(flat[order])]
    totals = cost[order].cumsum()
    whole = int(np.searchsorted(totals, budget, side="right"))
    chosen, spent = list(order[:whole]), int(totals[whole - 1]) if whole else 0
    cheapest = int(cost.min())
    for at in order[whole:]:
        if budget - spent < cheapest / 2:
            break
        over = spent + cost[at] - budget
        if over <= 0 or (cost[at] == cheapest and over < cheapest / 2):
            chosen.append(at)
            spent += int(cost[at])
    picked = np.array(chosen, dtype=np.int64)
    removed = {
        (e.layer, e.kind): torch.from_numpy(np.sort(unit[picked[owner[picked] == i]])) for i, e in enumerate(entries)
    }
    return removed, spent


def threshold_counts(
    keys: Sequence[Key], score: Callable[[int, str], torch.Tensor], count: int
) -> tuple[dict[Key, int], dict[Key, int]]:
    """How many scores of every matrix lie below the ``count``-th lowest of all, and how many equal it.

    Non-negative floats sort like their bits, so two histograms (upper, then lower 16 bits) find the exact threshold
    while only one matrix's scores are held.
    """

    def bits(key: Key) -> torch.Tensor:
        return score(*key).float().contiguous().view(torch.int32).flatten().long()

    if count <= 0:
        return dict.fromkeys(keys, 0), dict.fromkeys(keys, 0)
    upper = torch.zeros(1 << 16, dtype=torch.int64)
    for key in keys:
        upper += torch.bincount(bits(key) >> 16, minlength=1 << 16)
    high = int((upper.cumsum(0) >= count).nonzero()[0])
    before = int(upper[:high].sum())
    lower = torch.zeros(1 << 16, dtype=torch.int64)
    for key in keys:
        own = bits(key)
        lower += torch.bincount(own[own >> 16 == high] & 0xFFFF, minlength=1 << 16)
    low = int((lower.cumsum(0) >= count - before).nonzero()[0])
    threshold = (high << 16) + low
    below, ties = {}, {}
    for key in keys:
        own = bits(key)
        below[key], ties[key] = int((own < threshold).sum()), int((own == threshold).sum())
    return below, ties
