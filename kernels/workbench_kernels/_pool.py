"""Threads that sleep between calls: work is split into contiguous parts, one per thread.

An OpenMP pool of Numba's beside torch's would spin against it: with both loaded and a busy neighbour an empty
parallel loop took 11.9 ms. Here workers wait on a lock, a call wakes as many as it needs, and the calling thread does
the first part itself. Kernels release the GIL, so parts run side by side. What a part computes does not depend on how
many parts there are.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from workbench_kernels._errors import KernelError

GRAIN = 20_000  # nanoseconds of work that a thread is woken for; 0: always


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    def __init__(self) -> None:
        self.start, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.task: Callable[[], None] | None = None
        self.error: BaseException | None = None
        threading.Thread(target=self._loop, daemon=True, name="sparse-kernels").start()

    def _loop(self) -> None:
        while True:
            self.start.acquire()
            task, self.task = self.task, None
            try:
                if task is not None:
                    task()
            except BaseException as error:  # noqa: BLE001 - handed to the caller, who raises it
                self.error = error
            self.done.release()

    def submit(self, task: Callable[[], None]) -> None:
        self.task, self.error = task, None
        self.start.release()


class _Pool:
    def __init__(self) -> None:
        self.workers: list[_Worker] = []
        self.busy = threading.Lock()

    def run(self, function: Callable[..., Any], bounds: Sequence[int], args: tuple[Any, ...]) -> None:
        with self.busy:
            while len(self.workers) < len(bounds) - 2:
                self.workers.append(_Worker())
            used = self.workers[: len(bounds) - 2]
            for worker, lo, hi in zip(used, bounds[1:], bounds[2:], strict=False):
                worker.submit(lambda lo=lo, hi=hi: function(lo, hi, *args))  # type: ignore[misc]
            try:
                function(bounds[0], bounds[1], *args)
            finally:
                for worker in used:
                    worker.done.acquire()
        for worker in used:
            if worker.error is not None:
                raise worker.error


_pool = _Pool()


def _forget() -> None:
    """A forked child has no workers."""
    global _pool  # noqa: PLW0603 - one pool per process
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def check_threads(threads: int | None) -> int:
    """How many threads to use: all cores if None.

    Raises
    ------
    KernelError
        If it is not a whole number of at least 1.
    """
    if threads is None:
        return cores()
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise KernelError(f"threads={threads!r}: a whole number of at least 1, or None for all cores")
    return threads


def worth(threads: int, nbytes: int, flops: int) -> int:
    """How many of the threads to use: each is to have `GRAIN` nanoseconds of work, else waking it does not pay.

    Parameters
    ----------
    threads
        That the caller offers.
    nbytes, flops
        That the work reads from memory, and multiplications and additions in it.
    """
    work = max(nbytes / 30, flops / 150)
    return max(1, min(threads, int(work / GRAIN) if GRAIN else threads))


@contextmanager
def always_split() -> Iterator[None]:
    """Use all threads that are offered however little there is to do: for checks that results do not depend on it."""
    global GRAIN  # noqa: PLW0603 - one pool per process
    before, GRAIN = GRAIN, 0
    try:
        yield
    finally:
        GRAIN = before


def even(items: int, threads: int) -> list[int]:
    """Bounds of ``threads`` contiguous parts of ``items``, none of them empty.

    Examples
    --------
    >>> even(10, 3)
    [0, 3, 6, 10]
    >>> even(1, 4)
    [0, 1]
    """
    parts = max(1, min(threads, items))
    return [items * p // parts for p in range(parts + 1)]


def parallel(function: Callable[..., Any], bounds: Sequence[int], *args: Any) -> None:
    """Call ``function(lo, hi, *args)`` for each part of ``bounds``, side by side; one part needs no thread."""
    if len(bounds) == 2:
        function(bounds[0], bounds[1], *args)
    else:
        _pool.run(function, bounds, args)
