"""How much of attention a pattern keeps for how many blocks: a curve for every pattern, on one text.

recall       mass of dense attention that lies in kept blocks, mean over queries
cost         kept blocks / blocks that dense attention computes
divergence   KL of the dense model's next-token distribution from the sparse one's, nats

Patterns choose their blocks from the queries and keys of the one dense pass, so that any number of points costs one
reading. What they do to the answer takes a reading each, of the points that are asked for; there, as in use, a pattern
chooses from the states that its own earlier layers have made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench import render
from workbench.attention.patterns._passes import Kept, Passes
from workbench.attention.patterns._pattern import PATTERNS, Pattern, blocks, share
from workbench.errors import ArgumentError, unknown
from workbench.jobs import Progress
from workbench.models import as_lm
from workbench.results import Provenance, Result

POINTS = (0.1, 0.25, 0.5, 0.75)
MIDDLE = 0.25


@dataclass(frozen=True, eq=False)
class CurvePoint:
    """A pattern at one budget.

    Attributes
    ----------
    name : str
    budget : float
        Asked for; ``cost`` is what it came to.
    parameters : dict
        Hyper-parameters that the budget gave.
    recall, cost : float
        Means over heads.
    divergence, seconds : float
        Mean over positions, and of the reading; NaN if the text was not read with it.
    recalls, costs : ndarray of float64 [L, H]
    divergences : ndarray of float32 [S], or None
    packed : ndarray of uint8 [L, H, bytes]
        Kept blocks; see `PatternCurves.kept`.
    """

    name: str
    budget: float
    parameters: dict[str, Any]
    recall: float
    cost: float
    divergence: float
    seconds: float
    recalls: np.ndarray
    costs: np.ndarray
    divergences: np.ndarray | None
    packed: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, without the arrays."""
        names = ("name", "budget", "parameters", "recall", "cost", "divergence", "seconds")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, eq=False, repr=False)
class PatternCurves(Result):
    """Curves of patterns on one text.

    Attributes
    ----------
    source : str
    tokens : int
    dense_seconds : float
        Of the dense pass through the same kernel.
    rows : tuple of CurvePoint
        Pattern by pattern, budgets ascending.
    provenance : Provenance
    """

    source: str
    tokens: int
    dense_seconds: float
    rows: tuple[CurvePoint, ...]
    provenance: Provenance = field(repr=False)

    @property
    def blocks(self) -> int:
        """Blocks of 64 along a side, B."""
        return blocks(self.tokens)

    def of(self, name: str) -> tuple[CurvePoint, ...]:
        """The points of one pattern."""
        return tuple(r for r in self.rows if r.name == name)

    def recall_at(self, name: str, cost: float) -> float:
        """Recall of a pattern at a cost, between its points in a straight line; at cost 1 it is 1."""
        points = sorted((r.cost, r.recall) for r in self.of(name))
        costs, recalls = zip(*points, (1.0, 1.0), strict=True)
        return float(np.interp(cost, costs, recalls))

    def kept(self, point: CurvePoint, layer: int, head: int) -> np.ndarray:
        """Blocks that a head keeps: bool ``[B, B]``."""
        return Kept(point.recalls, point.costs, point.packed).blocks(layer, head, self.blocks)

    def figure(self, against: str = "cost") -> Any:
        """Recall against ``"cost"`` (share of the blocks that are read) or ``"divergence"`` (nats), by plotly."""
        from workbench.figures import Chart

        labels = {"cost": "share of the blocks read", "divergence": "KL to dense, nats"}
        if against not in labels:
            raise unknown("against", against, labels)
        chart = Chart("Attention kept by sparse patterns", labels[against], "share of attention kept")
        for n, name in enumerate(dict.fromkeys(r.name for r in self.rows)):
            points = [r for r in self.of(name) if np.isfinite(getattr(r, against))]
            told = [f"<b>{name}</b>, budget {r.budget:.0%}<br>{r.recall:.1%} kept in {r.cost:.1%}" for r in points]
            chart.line(name, [getattr(r, against) for r in points], [r.recall for r in points], told, n=n)
        return chart

    def _headline(self) -> str:
        names = sorted({r.name for r in self.rows})
        return f"PatternCurves({self.source}, {self.tokens} tokens, {len(self.rows)} points of {len(names)} patterns)"

    def _sections(self) -> tuple[render.Section, ...]:
        rows = [
            (r.name, f"{r.budget:.0%}", f"{r.recall:.1%}", f"{r.cost:.1%}", *_answer(r, self.dense_seconds))
            for r in self.rows
        ]
        header = ("pattern", "budget", "recall", "blocks", "KL, nats", "times as fast as dense")
        return (render.section("Curves", rows, header), render.prose("Provenance", str(self.provenance)))


def _answer(point: CurvePoint, dense: float) -> tuple[Any, Any]:
    return ("-", "-") if math.isnan(point.seconds) else (point.divergence, dense / point.seconds)


def curves(
    model: Any,
    ids: Sequence[int] | np.ndarray,
    patterns: str | Sequence[str | Pattern] = "all",
    points: Sequence[float] = POINTS,
    *,
    divergence: bool | float = MIDDLE,
    threads: int = 1,
    progress: Progress | None = None,
) -> PatternCurves:
    """Recall, cost, and effect of patterns over budgets.

    Parameters
    ----------
    model
        A model handle, pruned result or transformers causal LM whose layers see all keys.
    ids
        Tokens of one text, read at once.
    patterns
        Names or `Pattern` objects, or ``"all"``.
    points
        Budgets: shares of the blocks, above 0, at most 1.
    divergence
        Where the text is read with the pattern, too: True at all points, False nowhere, a number at the point that is
        nearest to it.
    threads
        Of the kernel.
    progress
        Hears after every layer; cancels.

    Raises
    ------
    ArgumentError
        If the text is too long or too short, a name is unknown, or a budget is no share.
    ModelError
        If a layer has a window or caps its scores.
    """
    lm, tokens = as_lm(model), np.asarray(ids, np.int64).reshape(-1)
    several = PATTERNS.several(patterns)
    budgets = sorted({float(p) for p in points})
    if not budgets or not several:
        raise ArgumentError(f"points={points!r}, patterns={patterns!r}: at least one of each")
    for budget in budgets:
        share("points", budget)
    asked = [(one, budget) for one in several for budget in budgets]
    chosen = [one.within(budget, tokens.size) for one, budget in asked]
    nearest = min(budgets, key=lambda b: abs(b - float(divergence)))
    again = [n for n, (_, b) in enumerate(asked) if divergence is True or (divergence is not False and b == nearest)]
    passes = Passes(lm, tokens, chosen, len(again), threads, progress or Progress())
    dense, seconds = passes.dense()
    rows = measured(passes, [b for _, b in asked], dense, again)
    return PatternCurves(lm.source, tokens.size, seconds, rows, Provenance.here())


def measured(passes: Passes, budgets: Sequence[float], dense: Any, again: Sequence[int]) -> tuple[CurvePoint, ...]:
    """A row for every pattern of `passes`, those in ``again`` read with."""
    read = {n: passes.sparse(n) for n in again}
    lost = dict(zip(again, passes.divergences(dense, [found for found, _ in read.values()]), strict=True))
    rows = []
    for n, (one, kept, budget) in enumerate(zip(passes.patterns, passes.kept, budgets, strict=True)):
        recall, cost = float(kept.recalls.mean()), float(kept.costs.mean())
        mean, took = (float(lost[n].mean()), read[n][1]) if n in read else (math.nan, math.nan)
        figures = recall, cost, mean, took, kept.recalls, kept.costs, lost.get(n), kept.packed
        rows.append(CurvePoint(one.name, budget, one.parameters, *figures))
    return tuple(rows)
