"""Timing several functions against each other: interleaved, medians, few assumptions about the machine.

    repeat r:   each contestant once, in turn; the order is reversed every other time
    a sample    the mean of so many calls that it lasts a fifth of a millisecond (one call, if the caches are cold)

With one thread the clock is the thread's own processor time where the system has one: what neighbours do to the
schedule does not count. With several threads it is the wall.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.measure._statistics import median_interval

SAMPLE_NS = 200_000
MOST_CALLS = 200
COLD_BYTES = 96 << 20


@dataclass(frozen=True, slots=True)
class Clock:
    """Which time is read.

    Attributes
    ----------
    name : str
        ``"thread"`` (processor time of the thread) or ``"wall"``.
    read : callable
        Nanoseconds.
    """

    name: str
    read: Callable[[], int]


def clock(threads: int) -> Clock:
    """The clock for so many threads."""
    if threads == 1 and sys.platform.startswith("linux"):
        return Clock("thread", time.thread_time_ns)
    return Clock("wall", time.perf_counter_ns)


def check_threads(threads: int | None) -> int:
    """How many threads: torch's if None."""
    if threads is None:
        return torch.get_num_threads()
    return check_count("threads", threads)


def check_count(name: str, value: object) -> int:
    """Return a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name}={value!r}: a whole number of at least 1")
    return value


def check_tokens(tokens: object) -> tuple[int, ...]:
    """One or several numbers of tokens, ascending, each once."""
    given = (tokens,) if isinstance(tokens, int) else tokens
    if not isinstance(given, tuple | list) or not given:
        raise ArgumentError(f"tokens={tokens!r}: whole numbers of at least 1, e.g. (1, 16, 128)")
    return tuple(sorted({check_count("tokens", t) for t in given}))


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """So many threads for torch, within a ``with``."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def calls_per_sample(work: Callable[[], object], time_of: Clock) -> int:
    """How many calls make a sample long enough."""
    start = time_of.read()
    work()
    took = max(time_of.read() - start, 1)
    return int(min(MOST_CALLS, max(1, -(-SAMPLE_NS // took))))


def rounds(
    works: dict[str, Callable[[], object]], repeats: int, threads: int, progress: Progress, *, cold: bool = False
) -> Iterator[dict[str, list[float]]]:
    """Time all works in turn; after every repeat, the milliseconds of all samples so far.

    Each work has run once before the first sample.
    """
    time_of = clock(threads)
    samples: dict[str, list[float]] = {name: [] for name in works}
    counts, spoil = {}, np.zeros(COLD_BYTES // 8 if cold else 1)
    for name, work in works.items():
        progress.check()
        work()
        counts[name] = 1 if cold else calls_per_sample(work, time_of)
    names = list(works)
    for r in range(repeats):
        for name in names if r % 2 == 0 else reversed(names):
            progress.check()
            if cold:
                spoil += 1.0
            work, count = works[name], counts[name]
            start = time_of.read()
            for _ in range(count):
                work()
            samples[name].append((time_of.read() - start) / count / 1e6)
        yield samples


def speedup(base: list[float], other: list[float]) -> tuple[float, float, float]:
    """How many times as fast as ``base``: median of paired samples, with its 95 % interval."""
    ratio = np.asarray(base) / np.maximum(np.asarray(other), 1e-9)
    return median_interval(ratio)
