"""The contest of the kernels lab: a student's compiled function against our CSR kernel, by ratio.

Both multiply the same matrix by the same vector on one thread; theirs must have just matched numpy. They run in turns,
and the score is the median of the ratios of their times: 1 is as fast as ours, 0.5 takes twice as long.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from workbench_kernels.formats import CSR
from workbench_kernels.matmul import matmul

from workbench.errors import ArgumentError
from workbench.labs.checking import close

SHAPE, DENSITY = (2048, 1024), 0.2
SAMPLE_SECONDS = 1e-3

Kernel = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray], Any]


def contest(kernel: Kernel, *, rounds: int = 15, seed: int = 0) -> float:
    """Time a kernel against ours, print and return the score.

    Parameters
    ----------
    kernel
        ``kernel(values, columns, starts, x, out)`` for float32 ``[nnz]``, int32 ``[nnz]``, int64 ``[N + 1]``, float32
        ``[K]`` and float32 ``[N]``.
    rounds
        How often each runs, in turn.

    Returns
    -------
    float
        Our time over its time: more is better.

    Raises
    ------
    Wrong
        If it does not compute the product.
    ArgumentError
        If ``rounds`` is less than 1.
    """
    if rounds < 1:
        raise ArgumentError(f"rounds={rounds!r}: at least 1")
    random = np.random.default_rng(seed)
    kept = random.random(SHAPE) < DENSITY
    dense = np.where(kept, random.standard_normal(SHAPE), 0).astype(np.float32)
    arrays = (dense[kept], np.nonzero(kept)[1].astype(np.int32), np.append(0, np.cumsum(kept.sum(axis=1))))
    x, out = random.standard_normal(SHAPE[1], dtype=np.float32), np.full(SHAPE[0], np.nan, np.float32)
    weight, column = CSR.from_dense(dense, "fp32"), x[None]
    kernel(*arrays, x, out)
    close(out, dense.astype(np.float64) @ x, "before it is timed it has to be right", tolerance=1e-4)
    matmul(weight, column)
    theirs, ours = _in_turns(lambda: kernel(*arrays, x, out), lambda: matmul(weight, column), rounds)
    ratios = [b / a for a, b in zip(theirs, ours, strict=True)]
    score = statistics.median(ratios)
    sys.stdout.write(
        f"contest: {score:.2f} x the speed of ours (rounds from {min(ratios):.2f} to {max(ratios):.2f}; "
        f"{statistics.median(theirs) * 1e6:.0f} against {statistics.median(ours) * 1e6:.0f} microseconds)\n"
    )
    return score


def _in_turns(first: Callable[[], Any], second: Callable[[], Any], rounds: int) -> tuple[list[float], list[float]]:
    """Seconds per call of both, round by round; who begins changes."""
    calls = [max(1, int(SAMPLE_SECONDS / max(_seconds(run, 3), 1e-9))) for run in (first, second)]
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            found[which].append(_seconds((first, second)[which], calls[which]))
    return found


def _seconds(run: Callable[[], Any], calls: int) -> float:
    read = time.thread_time if sys.platform.startswith("linux") else time.perf_counter
    began = read()
    for _ in range(calls):
        run()
    return (read() - began) / calls
