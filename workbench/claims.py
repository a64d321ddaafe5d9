"""Which papers hold up here: everything published carries its headline claim, and a check that can fail.

    Claim (statement, the paper's setting, check)  --replicate-->  Outcome: held, not held or inconclusive

The check measures the claim's counterpart at hand: methods on a model and text, at equal true budget, over several
calibration seeds; kernels against each other on the clock. It is a comparison with a 95 % interval: *held* if all of
the interval is on the claimed side, *not held* if all of it is on the other, else *inconclusive*. Checks of methods
are in `workbench._checks`; any function of `Context` and name that returns a `Measurement` serves as well, and a check
that is made on something else says so in its attribute ``needs``.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from workbench import render
from workbench._checks import (
    HELD,
    INCONCLUSIVE,
    NOT_HELD,
    CloseTo,
    Faster,
    LowerLayerError,
    LowerPerplexity,
    Measurement,
    Record,
    Run,
    interval_text,
)
from workbench._context import Context, ModelConditions
from workbench.errors import ArgumentError, unknown
from workbench.results import Provenance, Result

__all__ = [
    "HELD",
    "INCONCLUSIVE",
    "NOT_HELD",
    "Claim",
    "CloseTo",
    "Conditions",
    "Context",
    "Faster",
    "LowerLayerError",
    "LowerPerplexity",
    "Measurement",
    "ModelConditions",
    "Outcome",
    "Record",
    "Run",
    "claims",
    "replicate",
]

# each has ``registry()``: name -> what carries a claim
SOURCES = (
    "workbench.prune",
    "workbench.execute.claims",
    "workbench.decode",
    "workbench.attention.kv",
    "workbench.attention.segments",
    "workbench.attention.patterns",
)


class Conditions(Protocol):
    """Under which a claim was checked: a dataclass, so that it can be recorded."""

    def rows(self) -> list[tuple[str, Any]]:
        """Names and values, all of them."""
        ...

    def summary(self) -> str:
        """In one sentence."""
        ...


class Ground(Protocol):
    """What a check is made on, such as `Context`."""

    @classmethod
    def of(cls) -> Self:
        """The usual one."""
        ...

    def conditions(self) -> Conditions:
        """What a reader has to know of it."""
        ...

    def active(self) -> AbstractContextManager[None]:
        """Within it the check is made."""
        ...


Check = Callable[[Any, str], Measurement]


@dataclass(frozen=True, slots=True)
class Claim:
    """The headline claim of a paper.

    Attributes
    ----------
    statement
        In our words.
    setting
        The paper's: models, data, sparsity.
    check
        Measures the counterpart here, given what it `needs` and the name of the method.
    """

    statement: str
    setting: str
    check: Check

    @property
    def needs(self) -> type[Ground]:
        """What the check is made on: the check's own ``needs``, else a model and texts."""
        needs: type[Ground] = getattr(self.check, "needs", Context)
        return needs


@dataclass(frozen=True, eq=False, repr=False)
class Outcome(Result):
    """What became of one claim.

    Attributes
    ----------
    method, statement, setting : str
        Whose claim, what it says, where the paper showed it.
    status : str
        ``"held"``, ``"not held"`` or ``"inconclusive"``.
    measurement : Measurement
    conditions : Conditions
        The model and its texts, or how kernels were timed.
    seconds : float
    provenance : Provenance
    """

    method: str
    statement: str
    setting: str
    status: str
    measurement: Measurement
    conditions: Conditions
    seconds: float
    provenance: Provenance = field(repr=False)

    def table(self) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
        """Everything that was measured: rows, and their header."""
        runs = self.measurement.runs
        return [run.cells() for run in runs], runs[0].HEADER if runs else ()

    def _headline(self) -> str:
        m = self.measurement
        figures = f"{m.quantity} {render.number(m.estimate)}, 95 % {interval_text(m.low, m.high)}"
        return f"{self.method}: {self.status} ({figures})"

    def _sections(self) -> tuple[render.Section, ...]:
        m = self.measurement
        rows = [
            ("claim", self.statement),
            ("in the paper", self.setting),
            ("asked here", m.asked),
            ("found", f"{m.quantity} {render.number(m.estimate)}, 95 % {interval_text(m.low, m.high)}"),
            ("verdict", f"{self.status}{f' ({m.note})' if m.note else ''}"),
        ]
        return (
            render.section("Claim", rows),
            render.section("Runs", *self.table()),
            render.section("Protocol", self.conditions.rows()),
            render.prose("Provenance", str(self.provenance)),
        )


def replicate(method: str, context: Any = None) -> Outcome:
    """Run the claim of one method or kernel.

    Parameters
    ----------
    method
        A registered name.
    context
        Where to run it, of the type that the claim `needs`; None for the usual one, for methods the embedded model
        (minutes).

    Raises
    ------
    ArgumentError
        If the name is unknown or carries no claim, or the context is of another type.

    Examples
    --------
    >>> replicate("wanda")                                                           # doctest: +SKIP
    wanda: held (perplexity ratio to magnitude 0.2, 95 % 0.15 to 0.27)
    """
    known = claims()
    if method not in known:
        raise unknown("method with a claim", method, known)
    claim, start = known[method], time.perf_counter()
    if context is not None and not isinstance(context, claim.needs):
        given, wanted = type(context).__name__, claim.needs.__name__
        raise ArgumentError(f"context is a {given}, but the claim of {method} is checked on a {wanted}")
    context = claim.needs.of() if context is None else context
    with context.active():
        conditions = context.conditions()
        found = claim.check(context, method)
        where = Provenance.here(seed=0, method=method)
    seconds = time.perf_counter() - start
    return Outcome(method, claim.statement, claim.setting, found.status, found, conditions, seconds, where)


def claims() -> dict[str, Claim]:
    """The claim of everything registered that carries one, by name."""
    found = {
        name: one.claim
        for source in SOURCES
        for name, one in importlib.import_module(source).registry().items()
        if one.claim is not None
    }
    return dict(sorted(found.items()))
