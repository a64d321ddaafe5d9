"""Reading a prompt with sparse attention: how much of attention is kept, at what cost, and what the answer loses.

recall   mass of dense attention that lies in kept blocks, mean over queries
cost     kept blocks / blocks that dense attention computes
KL       of the dense model's next-token distribution from the sparse one's, nats, mean over positions
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench import render
from workbench.attention.patterns._passes import Passes
from workbench.attention.patterns._pattern import PATTERNS, Pattern
from workbench.attention.patterns.curves import measured
from workbench.jobs import Progress
from workbench.models import as_lm
from workbench.results import Provenance, Result


@dataclass(frozen=True, eq=False)
class PatternRow:
    """One pattern: means, its recall and cost for every head ``[layers, heads]``, and seconds of the pass."""

    name: str
    recall: float
    cost: float
    divergence: float
    seconds: float
    recalls: np.ndarray
    costs: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class SparsePrefill(Result):
    """Patterns on one text.

    Attributes
    ----------
    source : str
    tokens : int
    rows : tuple of PatternRow
    dense_seconds : float
        Of the dense pass through the same kernel.
    provenance : Provenance
    """

    source: str
    tokens: int
    rows: tuple[PatternRow, ...]
    dense_seconds: float
    provenance: Provenance = field(repr=False)

    def _headline(self) -> str:
        best = max(self.rows, key=lambda r: r.recall)
        return f"SparsePrefill({self.source}, {self.tokens} tokens; {best.name} keeps {best.recall:.1%} of the mass)"

    def _sections(self) -> tuple[render.Section, ...]:
        rows = [
            (r.name, f"{r.recall:.1%}", f"{r.cost:.1%}", r.divergence, self.dense_seconds / r.seconds)
            for r in self.rows
        ]
        header = ("pattern", "recall", "blocks", "KL, nats", "times as fast as dense")
        return (render.section("Patterns", rows, header), render.prose("Provenance", str(self.provenance)))


def sparse_prefill(
    model: Any,
    ids: Sequence[int] | np.ndarray,
    patterns: str | Sequence[str | Pattern] = "all",
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> SparsePrefill:
    """Read a text densely, then with each pattern, and compare.

    Parameters
    ----------
    model
        A model handle, pruned result or transformers causal LM whose layers see all keys.
    ids
        Tokens of one text, read at once.
    patterns
        Names or `Pattern` objects, or ``"all"``.
    threads
        Of the kernel.
    progress
        Hears after every layer; cancels.

    Raises
    ------
    ArgumentError
        If the text is too long or too short, or a name is unknown.
    ModelError
        If a layer has a window or caps its scores.
    """
    lm, tokens = as_lm(model), np.asarray(ids, np.int64).reshape(-1)
    chosen = PATTERNS.several(patterns)
    again = range(len(chosen))
    passes = Passes(lm, tokens, chosen, len(again), threads, progress or Progress())
    dense, seconds = passes.dense()
    rows = []
    for one, point in zip(chosen, measured(passes, [math.nan] * len(chosen), dense, again), strict=True):
        name = one.name if [c.name for c in chosen].count(one.name) == 1 else repr(one)
        figures = point.recall, point.cost, point.divergence, point.seconds, point.recalls, point.costs
        rows.append(PatternRow(name, *figures))
    return SparsePrefill(lm.source, tokens.size, tuple(rows), seconds, Provenance.here())
