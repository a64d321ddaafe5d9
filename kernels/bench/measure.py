"""Timing that survives a busy machine: calls of all sides interleaved, ratios paired, medians with intervals.

Warm: one copy of the weights, used once before the clock starts. Cold: every side walks through copies of its weights
that together are twice the last cache, and what the others walked through lies between two of its turns, so weights
come from memory on all sides alike. Activations and code stay warm, as in a model.

One thread is timed by its own processor time, which does not run while a neighbour has the core; several threads by
wall time. Both are kept.
"""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

CONFIDENCE = 0.95
WIDE = 1.25  # an interval whose ends differ by more than this factor says too little
SAMPLE_NS = 2_000_000
PAUSE = 0.004  # seconds in which threads of the side before, that spin after their work, fall asleep

Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Times:
    """Nanoseconds per call, one entry per repeat.

    Attributes
    ----------
    cpu, wall : ndarray
        Processor time of the calling thread, and time on the clock on the wall.
    threads : int
    """

    cpu: np.ndarray
    wall: np.ndarray
    threads: int

    @property
    def clock(self) -> str:
        """Which of the two counts."""
        return "thread CPU" if self.threads == 1 else "wall"

    @property
    def best_known(self) -> np.ndarray:
        """The times that count."""
        return self.cpu if self.threads == 1 else self.wall


@dataclass(frozen=True, slots=True)
class Interval:
    """A median, and where the true one lies with 95 % confidence (or what confidence few repeats allow)."""

    middle: float
    low: float
    high: float

    @property
    def noisy(self) -> bool:
        """Whether it is too wide to be read."""
        return not self.high <= WIDE * self.low


def median_interval(values: np.ndarray) -> Interval:
    """The median with its order-statistics interval, which assumes nothing about the distribution.

    With n values the interval from the k-th smallest to the k-th largest misses the median with probability
    ``2 P(Binomial(n, 1/2) < k)``; k is the largest that keeps this within 5 %, and at least 1.

    Examples
    --------
    >>> median_interval(np.arange(1.0, 10.0))
    Interval(middle=5.0, low=2.0, high=8.0)
    """
    ordered = np.sort(np.asarray(values, np.float64))
    n = len(ordered)
    rank, missed = 0, 0.0
    while rank < (n - 1) // 2:
        missed += 2 * math.comb(n, rank) / 2.0**n
        if missed > 1 - CONFIDENCE:
            break
        rank += 1
    k = max(rank, 1)
    return Interval(float(np.median(ordered)), float(ordered[k - 1]), float(ordered[n - k]))


def paired_ratio(slow: np.ndarray, fast: np.ndarray) -> Interval:
    """How many times longer ``slow`` takes: the median of the ratios of samples taken side by side."""
    return median_interval(np.asarray(slow) / np.asarray(fast))


def interleave(
    sides: Mapping[str, Sequence[Call]], repeats: int, cold: bool, threads: int = 1, seed: int = 0
) -> dict[str, Times]:
    """Time all sides in turns, in a new order each time.

    Parameters
    ----------
    sides
        Name to calls, one for each copy of the weights. Warm timing uses the first.
    repeats
        Samples of each side.
    cold
        Whether a sample walks through all copies, or repeats the first, with one call before that does not count.
    threads
        Decides the clock.
    seed
        Of the order.

    Returns
    -------
    dict
        Name to times of one call.
    """
    plans = {name: list(calls) if cold else _again(calls[0]) for name, calls in sides.items()}
    cpu, wall = ({name: np.empty(repeats) for name in sides} for _ in range(2))
    order, last = np.random.default_rng(seed), ""
    with _undisturbed(threads):
        for repeat in range(repeats):
            names = [list(sides)[n] for n in order.permutation(len(sides))]
            if names[0] == last:  # twice in a row would find the end of its own walk in the cache
                names.append(names.pop(0))
            last = names[-1]
            for name in names:
                cpu[name][repeat], wall[name][repeat] = _sample(plans[name], cold, threads)
    return {name: Times(cpu[name], wall[name], threads) for name in sides}


def _sample(calls: Sequence[Call], cold: bool, threads: int) -> tuple[float, float]:
    if threads > 1:
        time.sleep(PAUSE)
    if not cold and len(calls) > 1:
        calls[0]()
    start_wall, start_cpu = time.perf_counter_ns(), time.thread_time_ns()
    for call in calls:
        call()
    cpu, wall = time.thread_time_ns() - start_cpu, time.perf_counter_ns() - start_wall
    return max(cpu, 1) / len(calls), max(wall, 1) / len(calls)


def _again(call: Call) -> list[Call]:
    """One call as often as a sample is to last; a call that is longer stands alone and needs no warming up."""
    return [call] * max(1, min(1000, math.ceil(SAMPLE_NS / quickest(call, 3))))


def quickest(call: Call, tries: int) -> float:
    """Nanoseconds of the quickest of a few calls, fewer of slow ones; the first does not count."""
    call()
    best, spent = math.inf, 0
    while tries > 0 and spent < 50 * SAMPLE_NS:
        start = time.perf_counter_ns()
        call()
        took, tries = time.perf_counter_ns() - start, tries - 1
        best, spent = min(best, took), spent + took
    return max(best, 1.0)


@contextmanager
def _undisturbed(threads: int) -> Iterator[None]:
    """No garbage collection; a single thread stays on its core, so that its caches stay its own."""
    collects, affinity = gc.isenabled(), None
    gc.collect()
    gc.disable()
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        affinity = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {_current_core(affinity)})
    try:
        yield
    finally:
        if affinity is not None:
            os.sched_setaffinity(0, affinity)
        if collects:
            gc.enable()


def _current_core(allowed: set[int]) -> int:
    """The core that this thread runs on (the last figure of that name in its stat), else the first allowed."""
    try:
        with open("/proc/thread-self/stat") as file:  # noqa: PTH123 - no file on a disk
            core = int(file.read().rsplit(")", 1)[1].split()[36])
    except (OSError, ValueError, IndexError):
        core = -1
    return core if core in allowed else min(allowed)


def copies(nbytes: int, footprint: int) -> int:
    """How many copies of the weights fill the footprint: at least two, so that none is used twice in a row."""
    return max(2, min(4096, -(-footprint // max(nbytes, 1))))
