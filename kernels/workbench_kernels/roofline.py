"""The roofline of this machine: how fast it can multiply and read at all, measured with the registers of the kernels.

    seconds >= max(flops / peak, bytes / bandwidth)

Peaks come from chains of independent accumulators that never leave their registers; bandwidths from reading a buffer
that fits into the second cache, into the last one or into neither. Each figure is the best of several short runs,
because a roof is what the machine can do, not what it did while something else was running.

Williams, Waterman, Patterson: Roofline: an insightful visual performance model for multicore architectures,
CACM 52(4), 2009.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numba.core import cgutils
from numba.core.extending import intrinsic

from workbench_kernels._cpu import features
from workbench_kernels._errors import check_choice
from workbench_kernels._jit import kernel
from workbench_kernels._memory import zeros as zeroed
from workbench_kernels._pool import check_threads, cores, parallel
from workbench_kernels._tile import each_add, put_row, row, zeros
from workbench_kernels._vector import F32, I32, LANES, call, load_i32
from workbench_kernels._wide import emit_dot_bf16, emit_dot_int8

CHAINS = 16 if features().wide else 6  # latency times throughput of a multiply-add is 8 to 12
STREAMS = 8
WORK = {"fp32": 2 * LANES, "bf16": 4 * LANES, "int8": 8 * LANES}  # operations of one instruction
L2, L3 = 1 << 20, 32 << 20  # where the system does not say


@dataclass(frozen=True, slots=True)
class Roofline:
    """What the machine can do at most with a number of threads.

    Attributes
    ----------
    threads : int
    fp32, bf16, int8 : float
        Peak of multiplications and additions, in GFLOP/s (int8: billions of operations).
    cache_l2, cache_l3, dram : float
        Read bandwidth in GB/s of data that lie in the second cache of each core, in the last cache, in memory.
    l2_bytes, l3_bytes : int
        Sizes of these caches: one core's second cache, the shared last one.
    """

    threads: int
    fp32: float
    bf16: float
    int8: float
    cache_l2: float
    cache_l3: float
    dram: float
    l2_bytes: int
    l3_bytes: int

    def bandwidth(self, nbytes: int | None = None) -> float:
        """GB/s at which ``nbytes`` that were just used can be read again; None: from memory.

        Half of a cache counts as usable, because what is written and the code need the rest.
        """
        if nbytes is None or nbytes > self.l3_bytes // 2:
            return self.dram
        return self.cache_l2 if nbytes <= self.l2_bytes * self.threads // 2 else self.cache_l3

    def bound_seconds(self, flops: float, nbytes: int, values: str, warm: bool = False) -> float:
        """The least time that an operation can take.

        Parameters
        ----------
        flops
            Multiplications and additions.
        nbytes
            Bytes that it moves.
        values
            ``"fp32"``, ``"bf16"`` or ``"int8"``: the type that is multiplied.
        warm
            Whether the bytes lie in a cache if they fit; otherwise they come from memory.

        Returns
        -------
        float
            Seconds.

        Examples
        --------
        >>> roof = Roofline(1, 100.0, 200.0, 400.0, 90.0, 70.0, 30.0, 1 << 20, 32 << 20)
        >>> roof.bound_seconds(2e9, 3_000_000, "fp32")
        0.02
        >>> roof.bound_seconds(0, 3_000_000, "fp32")
        0.0001
        """
        check_choice("values", values, tuple(WORK))
        return max(flops / getattr(self, values), nbytes / self.bandwidth(nbytes if warm else None)) * 1e-9


def bound_seconds(flops: float, nbytes: int, values: str, threads: int = 1, warm: bool = False) -> float:
    """`Roofline.bound_seconds` of this machine, which is measured when it is first asked (see `measure`)."""
    return measured(threads).bound_seconds(flops, nbytes, values, warm)


@lru_cache
def measured(threads: int = 1) -> Roofline:
    """`measure`, once per process."""
    return measure(threads)


def measure(threads: int | None = 1, seconds: float = 0.5) -> Roofline:
    """Measure peaks and bandwidths.

    Parameters
    ----------
    threads
        How many work at once; None for all cores.
    seconds
        For all figures together; compiling and filling the buffer come on top.

    Returns
    -------
    Roofline
    """
    count = check_threads(threads)
    l2, l3 = cache_sizes()
    each = seconds / 6
    peaks = {values: WORK[values] * _rate(values, count, each) for values in WORK}
    buffer = zeroed(_beyond_caches(l3) // 4, np.float32)
    sizes = {"cache_l2": min(l2 // 2 * count, l3 // 2), "cache_l3": l3 // 2, "dram": buffer.nbytes}
    reads = {name: _read_rate(buffer, size, count, each) for name, size in sizes.items()}
    return Roofline(count, **peaks, **reads, l2_bytes=l2, l3_bytes=l3)


def memory_read(threads: int = 1) -> tuple[Callable[[], None], int]:
    """A call that reads memory as fast as it can, to be timed beside what is to be held against it, and its bytes."""
    buffer, read = zeroed(_beyond_caches(cache_sizes()[1]) // 4, np.float32), _read(4)
    share = buffer.size // (LANES * STREAMS * threads)
    out, bounds = zeroed(LANES * STREAMS * threads, np.float32), list(range(threads + 1))
    return lambda: parallel(read, bounds, buffer, share, 1, out), 4 * LANES * STREAMS * share * threads


def _beyond_caches(l3: int) -> int:
    return max(4 * l3, 32 << 20)


def cache_sizes() -> tuple[int, int]:
    """Bytes of one core's second cache and of the last cache (1 MiB and 32 MiB where the system does not say)."""
    found = {}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            size = (folder / "size").read_text().strip()
            found[int((folder / "level").read_text())] = int(size.rstrip("KM")) << (20 if size.endswith("M") else 10)
        except (OSError, ValueError):
            continue
    return found.get(2, L2), max(found.get(3, L3), found.get(2, L2))


def all_threads() -> tuple[int, ...]:
    """Numbers of threads worth measuring: 1, 2, 4 ... and all cores.

    Examples
    --------
    >>> all_threads()[0]
    1
    """
    powers = [1 << n for n in range(int(math.log2(cores())) + 1)]
    return tuple(sorted({*powers, cores()}))


def _rate(values: str, threads: int, seconds: float) -> float:
    """Instructions per nanosecond of all threads together: the best run."""
    burn, rounds = _burn(tuple(WORK).index(values)), 20_000 * _longer(threads)
    inputs, out = zeroed(LANES * 9, np.float32), zeroed(LANES * CHAINS * threads, np.float32)
    inputs[:] = 1e-3
    burn(0, 1, 8, inputs, out)  # compiles
    bounds = list(range(threads + 1))
    return _best(lambda: parallel(burn, bounds, rounds, inputs, out), threads * rounds * CHAINS, seconds)


def _read_rate(buffer: np.ndarray, nbytes: int, threads: int, seconds: float) -> float:
    """Bytes per nanosecond of all threads together, each reading a part of its own."""
    share = nbytes // (4 * LANES * STREAMS * threads)
    out, bounds = zeroed(LANES * STREAMS * threads, np.float32), list(range(threads + 1))
    rounds = max(1, (4 << 20) * _longer(threads) // nbytes)
    amount, best = share * threads * 4 * LANES * STREAMS * rounds, 0.0
    for read in (_read(1), _read(4)):
        read(0, 1, buffer, 1, 1, out)  # compiles
        work = lambda read=read: parallel(read, bounds, buffer, share, rounds, out)  # noqa: E731
        best = max(best, _best(work, amount, seconds / 2))
    return best


def _longer(threads: int) -> int:
    """Runs of several threads last longer: waking them takes as long as a short run."""
    return 1 if threads == 1 else 24


def _best(work: Callable[[], None], amount: float, seconds: float) -> float:
    best, runs, end = math.inf, 0, time.perf_counter() + seconds
    while runs < 3 or time.perf_counter() < end:
        start = time.perf_counter_ns()
        work()
        best, runs = min(best, time.perf_counter_ns() - start), runs + 1
    return amount / best


@intrinsic(prefer_literal=True)
def _step(_typing: Any, acc: Any, x: Any, y: Any, kind: Any) -> Any:
    """One instruction on each accumulator of a tile, all with the same two operands; ``kind`` as in `WORK`."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        sums = cgutils.unpack_tuple(b, args[0])
        if kind.literal_value == 0:
            x, y = (b.bitcast(v, F32.llvm) for v in args[1:3])
            out = [call(b, "llvm.fma.v16f32", F32.llvm, [x, y, s]) for s in sums]
        elif kind.literal_value == 1:
            out = [emit_dot_bf16(b, s, args[1], args[2]) for s in sums]
        else:
            whole = [emit_dot_int8(b, b.bitcast(s, I32.llvm), args[1], args[2]) for s in sums]
            out = [b.bitcast(s, F32.llvm) for s in whole]
        return ctx.make_tuple(b, acc, out)

    return acc(acc, x, y, kind), code


@lru_cache
def _burn(kind: int) -> Any:
    chains = CHAINS

    @kernel
    def burn(lo, hi, rounds, inputs, out):
        for part in range(lo, hi):
            acc = zeros(chains)
            for n in range(rounds):
                acc = _step(acc, load_i32(inputs, (n & 7) * 16), load_i32(inputs, 128), kind)
            put_row(out, part * 16 * chains, acc)

    return burn


@lru_cache
def _read(ways: int) -> Any:
    """Sum parts of ``share`` rows of a buffer, as one stream or as several side by side."""
    streams = STREAMS

    @kernel
    def read(lo, hi, buffer, share, rounds, out):
        width, each = 16 * streams, share // ways
        for part in range(lo, hi):
            acc = zeros(streams)
            for _ in range(rounds):
                for n in range(each):
                    for w in range(ways):
                        acc = each_add(acc, row(buffer, (part * share + w * each + n) * width, streams))
                for n in range(ways * each, share):
                    acc = each_add(acc, row(buffer, (part * share + n) * width, streams))
            put_row(out, part * width, acc)

    return read
