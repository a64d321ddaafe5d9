"""What a pass over n tokens costs on this machine: the v(n) that says when drafting pays.

    v(n) = seconds of a pass over n tokens / seconds of a pass over 1
    a draft of n nodes pays  <=>  1 + E[accepted] > v(1 + n)

v is measured, never assumed: it goes up in steps, as wide as the tiles in which matrices are multiplied, and on some
runtimes two tokens cost more than four. Between two measured sizes the larger one's time is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from workbench import render
from workbench.decode.target import Target
from workbench.errors import ArgumentError
from workbench.execute._clock import clock
from workbench.results import Provenance, Result

SIZES = (1, 2, 4, 8, 12, 16, 24, 32)
BUSHY = (8, 16)  # sizes at which trees are timed too: what they add hardly depends on the size
MOST = 64  # tokens of a pass, at most


@dataclass(frozen=True, eq=False, repr=False)
class VerifyCosts(Result):
    """Measured time of a pass, by tokens.

    Attributes
    ----------
    sizes : tuple of int
        Tokens of a pass, ascending, from 1.
    seconds : tuple of float
        Of a pass over a chain of that size.
    tree_factor : float
        How many times as long as a chain of the same size a tree takes.
    cached : int
        Tokens in the cache meanwhile.
    threads : int
    clock : str
        ``"thread"`` (processor time) or ``"wall"``; ``"given"`` for a table that nobody measured.
    provenance : Provenance or None
    """

    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    tree_factor: float = 1.0
    cached: int = 0
    threads: int = 1
    clock: str = "given"
    provenance: Provenance | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.sizes or self.sizes[0] != 1 or list(self.sizes) != sorted(set(self.sizes)):
            raise ArgumentError(f"sizes={self.sizes}: ascending numbers of tokens, the first of them 1")
        if len(self.seconds) != len(self.sizes) or min(self.seconds) <= 0:
            raise ArgumentError(f"seconds={self.seconds}: one positive time for each of {len(self.sizes)} sizes")

    @classmethod
    def given(cls, ratios: dict[int, float]) -> VerifyCosts:
        """A table of v(n) as it is, for tests and for runs that shall not depend on the machine."""
        return cls(tuple(ratios), tuple(ratios.values()))

    @cached_property
    def ratios(self) -> np.ndarray:
        """v(n) of a chain for n = 0 to 64 (v(0) = 0); beyond the largest size it grows like the last two."""
        sizes, times = np.array(self.sizes), np.array(self.seconds) / self.seconds[0]
        numbers = np.arange(MOST + 1)
        found = times[np.minimum(np.searchsorted(sizes, numbers), len(sizes) - 1)]
        if len(sizes) > 1:
            slope = max(0.0, (times[-1] - times[-2]) / (sizes[-1] - sizes[-2]))
            found = found + slope * np.maximum(numbers - sizes[-1], 0)
        found[0] = 0.0
        return found

    @cached_property
    def tree_ratios(self) -> np.ndarray:
        """v(n) of a tree: at least that of a chain of 1, times `tree_factor`."""
        found = self.ratios * self.tree_factor
        found[:2] = self.ratios[:2]
        return found

    def ratio(self, tokens: int, *, tree: bool = False) -> float:
        """v(n) of a pass over so many tokens, the text's last one included."""
        return float((self.tree_ratios if tree else self.ratios)[tokens])

    def break_even(self, nodes: int, *, tree: bool = False) -> float:
        """Drafted tokens that must be accepted on average for a draft of so many to pay: ``v(1 + nodes) - 1``."""
        return self.ratio(1 + nodes, tree=tree) - 1

    def note(self) -> dict[str, Any]:
        """For a trace's notes."""
        found = {"sizes": list(self.sizes), "ratios": [self.ratio(n) for n in self.sizes], "clock": self.clock}
        return found | {"seconds": list(self.seconds), "tree_factor": self.tree_factor, "cached": self.cached}

    def _headline(self) -> str:
        shown = ", ".join(f"v({n}) {self.ratio(n):.2f}" for n in self.sizes if n in (8, 16, 32))
        return f"VerifyCosts({1000 * self.seconds[0]:.1f} ms a token, {shown})"

    def _sections(self) -> tuple[render.Section, ...]:
        rows = [
            (n, 1000 * s, self.ratio(n), self.break_even(n - 1))
            for n, s in zip(self.sizes, self.seconds, strict=True)
        ]  # fmt: skip
        facts = [("trees to chains", self.tree_factor), ("tokens in the cache", self.cached)]
        facts += [("threads", self.threads), ("clock", self.clock)]  # type: ignore[list-item]
        return (
            render.section("A pass over n tokens", rows, ("n", "ms", "v(n)", "to accept, at least")),
            render.section("Protocol", facts),
        )


_KNOWN: WeakKeyDictionary[Any, dict[int, VerifyCosts]] = WeakKeyDictionary()


def costs_of(target: Target) -> VerifyCosts:
    """The costs of a target, measured when they are first asked for and kept with its model, per number of threads."""
    owner, threads = _owner(target), _threads(target)
    known = _KNOWN.setdefault(owner, {})
    if threads not in known:
        known[threads] = measure_costs(target)
    return known[threads]


def measure_costs(
    target: Target, sizes: Sequence[int] = SIZES, *, cached: int = 200, rounds: int | None = None
) -> VerifyCosts:
    """Time passes of several sizes in turn; medians over the rounds.

    Parameters
    ----------
    target
        Its cache is emptied.
    sizes
        Tokens of a pass; 1 is always among them, and those that do not fit are left out.
    cached
        Tokens before them in the cache, fewer if the target has no room.
    rounds
        Of all sizes, after one that is not counted; None for what fits into a second, 2 to 7.

    Raises
    ------
    ArgumentError
        If a number is out of range.
    """
    if (rounds is not None and rounds < 1) or cached < 1 or any(not 1 <= n <= MOST for n in sizes):
        raise ArgumentError(f"sizes={tuple(sizes)}, cached={cached}, rounds={rounds}: from 1; sizes to {MOST}")
    cached = max(1, min(cached, target.context // 2))
    fitting = [n for n in sorted({1, *sizes}) if cached + n <= target.context]
    works = [(n, False) for n in fitting] + [(n, True) for n in BUSHY if n in fitting]
    samples: dict[tuple[int, bool], list[float]] = {work: [] for work in works}
    threads, before = _threads(target), target.forwards
    read = clock(threads)
    target.crop()
    target.forward(np.arange(cached) % target.vocabulary, last=True)
    warm = sum(_time(target, *work, cached, read.read) for work in works)
    for r in range(rounds or min(7, max(2, int(1 / warm)))):
        for work in works if r % 2 else works[::-1]:
            samples[work].append(_time(target, *work, cached, read.read))
    target.crop()
    target.forwards = before
    medians = {work: float(np.median(times)) for work, times in samples.items()}
    factors = [medians[n, True] / medians[n, False] for n in BUSHY if (n, True) in medians]
    times = tuple(medians[n, False] for n in fitting)
    factor = max(1.0, float(np.median(factors))) if factors else 1.0
    return VerifyCosts(tuple(fitting), times, factor, cached, threads, read.name, Provenance.here())


def _time(target: Target, size: int, tree: bool, cached: int, read: Any) -> float:
    """Seconds of one pass."""
    parents = (np.arange(size) - 1) // 2 if tree else None
    ids = np.arange(size) % target.vocabulary
    start = read()
    target.forward(ids, parents)
    took = read() - start
    target.crop(cached)
    return 1e-9 * max(took, 1)


def _owner(target: Target) -> Any:
    """What outlives the target, which is made anew for every run."""
    return getattr(target, "compiled", None) or getattr(target, "module", None) or target


def _threads(target: Target) -> int:
    compiled = getattr(target, "compiled", None)
    return int(compiled.threads) if compiled is not None else torch.get_num_threads()
