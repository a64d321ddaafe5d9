"""Kernels against opponents: interleaved rounds, paired ratios, one verdict.

    contest (one piece of work, ours and the others) --rounds--> ratios --median, interval--> Comparison
    comparisons --the least of them--> Measurement

A claim of speed is held only if it is in every comparison, so the verdict is about the least ratio. The n intervals
are taken at 1 - 0.05 / n, so that all cover with 95 % at once, and each is widened to hold the median of every seed:
other memory and other zeros than the first seed's belong to the doubt. The ends of the least ratio are the least ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch
from workbench_kernels import features

from workbench import render
from workbench.claims import HELD, INCONCLUSIVE, NOT_HELD, Measurement
from workbench.errors import ArgumentError
from workbench.execute._clock import check_count, clock, rounds, torch_threads
from workbench.jobs import Progress
from workbench.measure._statistics import median_interval

ERROR = 0.05
Timer = Callable[..., Iterator[Mapping[str, list[float]]]]


@dataclass(frozen=True, slots=True)
class KernelConditions:
    """How kernels were timed.

    Attributes
    ----------
    threads : int
    clock : str
        ``"thread"`` (its processor time) or ``"wall"``.
    repeats : int
        Rounds for each seed.
    seeds : tuple of int
        Of zeros, weights and activations.
    processor : str
        That our kernels are compiled for, as LLVM calls it.
    """

    threads: int
    clock: str
    repeats: int
    seeds: tuple[int, ...]
    processor: str

    def rows(self) -> list[tuple[str, Any]]:
        """Names and values, all of them."""
        seeds = ", ".join(map(str, self.seeds))
        return [
            ("threads", self.threads),
            ("clock", self.clock),
            ("interleaved rounds for each seed", self.repeats),
            ("seeds", seeds),
            ("kernels compiled for", self.processor),
        ]

    def summary(self) -> str:
        """In one sentence."""
        seeds = ", ".join(map(str, self.seeds))
        return (
            f"{self.repeats} interleaved rounds for each of the seeds {seeds}, timed by the {self.clock} clock; "
            "medians of paired ratios, whose intervals hold together with 95 %; our kernels compiled for "
            f"{self.processor}."
        )


@dataclass(frozen=True, slots=True)
class KernelContext:
    """What claims about kernels are checked on: this machine.

    Attributes
    ----------
    threads
        For kernels and torch.
    repeats
        Interleaved rounds for each seed.
    seeds
        Of zeros, weights and activations.
    progress
        Hears of every round.
    timer
        Called as `rounds`; another one is for tests.
    """

    threads: int = 1
    repeats: int = 21
    seeds: tuple[int, ...] = (0, 1, 2)
    progress: Progress = field(default_factory=Progress)
    timer: Timer = rounds

    def __post_init__(self) -> None:
        check_count("threads", self.threads)
        check_count("repeats", self.repeats)
        if not self.seeds:
            raise ArgumentError("seeds is empty: give at least one, and three where it counts")

    @classmethod
    def of(cls) -> Self:
        """The usual one."""
        return cls()

    def conditions(self) -> KernelConditions:
        """How kernels are timed."""
        cpu = features()
        return KernelConditions(self.threads, clock(self.threads).name, self.repeats, self.seeds, cpu.name)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Torch has as many threads as our kernels, and keeps no gradients."""
        with torch_threads(self.threads), torch.inference_mode():
            yield


@dataclass(frozen=True, slots=True)
class Contest:
    """One piece of work that several can do.

    Attributes
    ----------
    work : str
        In words.
    own : str
        Which of the calls is ours.
    calls : dict
        Name to a function without arguments, ours and the opponents'; each has been checked.
    """

    work: str
    own: str
    calls: dict[str, Callable[[], Any]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A kernel and one opponent on one piece of work.

    Attributes
    ----------
    kernel, work, than : str
    ratio, low, high : float
        How many times as fast as the opponent, with its interval; NaN ends after too few rounds.
    ms, than_ms : float
        Medians of both.
    """

    HEADER: ClassVar[tuple[str, ...]] = ("kernel", "work", "against", "times as fast", "interval", "ms", "against's ms")

    kernel: str
    work: str
    than: str
    ratio: float
    low: float
    high: float
    ms: float
    than_ms: float

    def cells(self) -> tuple[str, ...]:
        """Under `HEADER`."""
        ends = f"{render.number(self.low, 3)} to {render.number(self.high, 3)}"
        figures = (render.number(self.ratio, 3), ends, render.number(self.ms, 3), render.number(self.than_ms, 3))
        return self.kernel, self.work, self.than, *figures


def faster(
    context: KernelContext, contests: Callable[[int], Iterable[Contest]], asked: str, *, cold: bool = False
) -> Measurement:
    """Whether our kernels are faster than every opponent in every contest.

    Parameters
    ----------
    context
        How to time.
    contests
        From a seed to the same pieces of work each time.
    asked
        In words, what counts as held.
    cold
        Whether caches are emptied before every call.

    Returns
    -------
    Measurement
        Its estimate is the least of all ratios.
    """
    found = compare(_timed(context, contests, cold))
    least = min(found, key=lambda c: c.ratio)
    ends = [c.low for c in found], [c.high for c in found]
    note = f"the least is against {least.than}, {least.work}"
    if not all(map(math.isfinite, (*ends[0], *ends[1]))):
        status, low, high, note = INCONCLUSIVE, math.nan, math.nan, "there are too few rounds for an interval"
    else:
        low, high = min(ends[0]), min(ends[1])
        status = HELD if low > 1 else NOT_HELD if high < 1 else INCONCLUSIVE
    quantity = f"least of {len(found)} speed ratios" if len(found) > 1 else "speed ratio"
    return Measurement(quantity, least.ratio, low, high, status, asked, found, note)


Times = dict[tuple[str, str, str], list[tuple[np.ndarray, np.ndarray]]]


def _timed(context: KernelContext, contests: Callable[[int], Iterable[Contest]], cold: bool) -> Times:
    """Milliseconds of ours and theirs by kernel, work and opponent; an entry per seed."""
    found: Times = {}
    for done, seed in enumerate(context.seeds):
        for contest in contests(seed):
            context.progress.step(f"time {contest.own}, {contest.work}", done, len(context.seeds))
            settings = context.repeats, context.threads, context.progress
            *_, samples = context.timer(contest.calls, *settings, cold=cold)
            own = np.array(samples[contest.own])
            for name in contest.calls:
                if name != contest.own:
                    pair = own, np.array(samples[name])
                    found.setdefault((contest.own, contest.work, name), []).append(pair)
    return found


def compare(times: Times) -> tuple[Comparison, ...]:
    """Ratios with intervals that hold together.

    Parameters
    ----------
    times
        By kernel, work and opponent: milliseconds of ours and of the opponent, one pair of arrays per seed.

    Examples
    --------
    >>> compare({("ours", "all", "theirs"): [(np.full(9, 2.0), np.full(9, 3.0))]})[0].ratio
    1.5
    """
    error = ERROR / max(len(times), 1)
    found = []
    for (own, work, name), pairs in times.items():
        ratios = [theirs / np.maximum(ours, 1e-9) for ours, theirs in pairs]
        pooled = np.concatenate(ratios)
        ratio, low, high = median_interval(pooled, confidence=1 - error)
        medians = [float(np.median(r)) for r in ratios]
        low, high = min(low, *medians), max(high, *medians)
        if 2.0 ** (1 - len(pooled)) > error:  # even the whole range misses the median more often
            low, high = math.nan, math.nan
        middle = (float(np.median(np.concatenate(side))) for side in zip(*pairs, strict=True))
        found.append(Comparison(own, work, name, ratio, low, high, *middle))
    return tuple(found)
