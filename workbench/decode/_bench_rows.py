"""Figures of `workbench.decode.bench`: one answer, and a method on a group of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.measure._statistics import median_interval


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer of one method.

    Attributes
    ----------
    runtime, method, prompt, group
    speed
        Relative to plain decoding.
    tokens, passes
        After the first token.
    drafts, accepted, declined
        Rounds that drafted; accepted at every position in the draft; rounds in which the gate left the draft out.
    identical
        Whether the tokens are plain decoding's.
    """

    runtime: str
    method: str
    prompt: str
    group: str
    speed: float
    tokens: int
    passes: int
    drafts: int
    accepted: tuple[int, ...]
    declined: int
    identical: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A method on a group of prompts; see `Sample` and the module for the figures."""

    runtime: str
    method: str
    group: str
    speed: float
    low: float
    high: float
    least: float
    tokens_per_pass: float
    by_position: tuple[float, ...]
    declined: float
    identical: int
    answers: int

    def cells(self) -> tuple[str, ...]:
        """Under `HEADER`."""
        shown = " ".join(f"{100 * a:.0f}" for a in self.by_position[:6]) or "-"
        speed = (f"{x:.2f}" for x in (self.speed, self.low, self.high, self.least))
        counts = f"{self.tokens_per_pass:.2f}", shown, f"{self.declined:.0%}", f"{self.identical} of {self.answers}"
        return self.runtime, self.method, self.group, *speed, *counts


HEADER = (
    "runtime", "method", "prompts", "speed", "low", "high", "least", "tokens/pass", "accepted at 1 2 3 ... (%)",
    "declined", "identical",
)  # fmt: skip


def rows_of(samples: Sequence[Sample]) -> tuple[Row, ...]:
    """Samples summed up, per runtime, method and group."""
    keys = list(dict.fromkeys((s.runtime, s.method) for s in sorted(samples, key=lambda s: s.method)))
    groups = [*dict.fromkeys(s.group for s in samples)]
    found = []
    for runtime, method in sorted(keys):
        for group in [*groups, *(["all"] if len(groups) > 1 else [])]:
            mine = [s for s in samples if (s.runtime, s.method) == (runtime, method) and group in (s.group, "all")]
            if mine:
                found.append(_row(mine, group))
    return tuple(found)


def _row(mine: Sequence[Sample], group: str) -> Row:
    speeds = np.array([s.speed for s in mine])
    drafts, passes = sum(s.drafts for s in mine), sum(s.passes for s in mine)
    depth = max(len(s.accepted) for s in mine)
    accepted = np.sum([np.pad(s.accepted, (0, depth - len(s.accepted))) for s in mine], axis=0) / max(1, drafts)
    return Row(
        mine[0].runtime,
        mine[0].method,
        group,
        *median_interval(speeds),
        float(speeds.min()),
        sum(s.tokens for s in mine) / max(1, passes),
        tuple(accepted.tolist()),
        sum(s.declined for s in mine) / max(1, passes),
        sum(s.identical for s in mine),
        len(mine),
    )
