"""Probabilities of rows of scores, and what is counted of them, while a row lies in the first cache.

    p[i, j] = exp(s[i, j] - max) / sum over the keys that row i sees        d = i - j

    entropy[i] = -sum p log p      sink[i] = sum_{j < sinks} p      local[i] = sum_{d < near window} p
    distance[i] = sum_j p min(d, local)                             column[j] += p      slash[d] += p
    later[j] += p for near <= d <= far                              cells[i / block, j / block] += p
    logsumexp[i] = max + log sum exp(s - max)

Four readings of a row: its largest score, the exponentials, the scaled row with columns and slashes, and a few keys at
its ends. Cells take what ``block`` rows have added to their columns, so that they cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench_kernels._attention_tile import apart, larger, window
from workbench_kernels._errors import KernelError, check_array
from workbench_kernels._jit import kernel
from workbench_kernels._math import exp
from workbench_kernels._memory import zeros
from workbench_kernels._pool import even, parallel
from workbench_kernels._vector import add, fma, largest, load, mul, splat, store, sub, total

NONE = np.float32(-np.inf)


class RowSums:
    """What is counted of one head's rows over a text.

    Parameters
    ----------
    length
        Tokens of the text, n.
    sinks, local, near, far
        See above; local counts the query itself.
    block
        Tokens of a cell's side.

    Attributes
    ----------
    entropy, sink, local_mass, distance : ndarray of float32 [n]
        By query; nats, shares, shares, tokens.
    logsumexp : ndarray of float32 [n]
        By query; ``p[i, j] = exp(s[i, j] - logsumexp[i])``.
    column, later : ndarray of float32 [n]
        Sums by key.
    slash : ndarray of float32 [n]
        Sums by distance.
    cells : ndarray of float32 [ceil(n / block), ceil(n / block)]
        Sums.
    """

    def __init__(self, length: int, *, sinks: int, local: int, near: int, far: int, block: int) -> None:
        if min(length, sinks, local, near, block) < 1 or far < near:
            raise KernelError(
                f"length={length}, sinks={sinks}, local={local}, near={near}, block={block}: at least 1; "
                f"far={far}: at least near"
            )
        self.length, self.sinks, self.local, self.near, self.far, self.block = length, sinks, local, near, far, block
        self.entropy, self.sink, self.local_mass, self.distance = (zeros(length, np.float32) for _ in range(4))
        self.logsumexp = zeros(length, np.float32)
        self._column, self._slash = (zeros(length + 32, np.float32) for _ in range(2))
        self.later = zeros(length, np.float32)
        self.cells = zeros((-(-length // block),) * 2, np.float32)
        self._band = zeros(length + 32, np.float32)

    @property
    def column(self) -> np.ndarray:
        """Sums by key."""
        return self._column[: self.length]

    @property
    def slash(self) -> np.ndarray:
        """Sums by distance."""
        return self._slash[: self.length][::-1]

    def add(self, scores: np.ndarray, offset: int, span: int = 0) -> None:
        """Turn scores into probabilities, in place, and count them.

        Parameters
        ----------
        scores : ndarray of float32 [T, W]
            Of queries ``offset``, ``offset + 1``, ...; W >= offset + T, a multiple of 16. What lies behind a row's
            last key has no effect; it and what it does not see become 0.
        offset
        span
            Keys that a query sees, itself included; 0 for all.

        Raises
        ------
        KernelError
            If sizes do not fit.
        """
        self.check(scores, offset, span)
        self._count(scores, offset, span)

    def check(self, scores: np.ndarray, offset: int, span: int) -> None:
        """Refuse what `add` does not take.

        Raises
        ------
        KernelError
            If sizes do not fit.
        """
        check_array("scores", scores, np.float32, (None, None))
        rows, width = scores.shape
        if width % 16 or not offset + rows <= min(width, self.length) or offset < 0 or span < 0:
            raise KernelError(
                f"scores {scores.shape} at offset={offset}, span={span}: a multiple of 16 columns, at least "
                f"offset + rows of them and of the {self.length} tokens"
            )

    def _count(self, scores: np.ndarray, offset: int, span: int) -> None:
        rows, width = scores.shape
        by_row = self.entropy, self.logsumexp, self.sink, self.local_mass, self.distance
        sums = self._column, self._slash, self.later, self.cells.reshape(-1), self._band
        sizes = width, rows, offset, span, self.length, self.block, self.sinks, self.local, self.near, self.far
        _add_rows(scores.reshape(-1), *by_row, *sums, *sizes)


def add_all(sums: Sequence[RowSums], scores: Sequence[np.ndarray], offset: int, span: int = 0) -> None:
    """`RowSums.add` for several heads, a thread for each: no result depends on that.

    Raises
    ------
    KernelError
        If sizes do not fit; then nothing was counted.
    """
    for head, given in zip(sums, scores, strict=True):
        head.check(given, offset, span)

    def some(low: int, high: int) -> None:
        for head, given in zip(sums[low:high], scores[low:high], strict=True):
            head._count(given, offset, span)

    parallel(some, even(len(sums), len(sums)))


@kernel
def _add_rows(
    s, entropy, logsumexp, sink, mass_near, distance, column, slash, later, cells, band,
    width, rows, offset, span, length, block, sinks, local, near, far,
):  # fmt: skip
    apart()
    zero, none = splat(np.float32(0)), splat(NONE)
    side = (length + block - 1) // block
    for r in range(rows):
        i, at = offset + r, r * width
        last = i + 1
        first = max(0, last - span) if span > 0 else 0
        begin, end = first & ~15, (last + 15) & ~15
        top = none
        for j in range(begin, last, 16):
            x = load(s, at + j)
            if j < first or j + 16 > last:
                x = window(x, first - j, last - j, none)
            top = larger(top, x)
        peak = splat(largest(top))
        mass, weighted = zero, zero
        for j in range(begin, last, 16):
            x = sub(load(s, at + j), peak)
            if j < first or j + 16 > last:
                x = window(x, first - j, last - j, zero)
                e = window(exp(x), first - j, last - j, zero)
            else:
                e = exp(x)
            mass, weighted = add(mass, e), fma(e, x, weighted)
            store(s, at + j, e)
        whole = total(mass)
        entropy[i] = np.log(whole) - total(weighted) / whole
        logsumexp[i] = largest(top) + np.log(whole)
        _clear(s, at, begin)
        _clear(s, at + end, width - end)
        factor, place = splat(np.float32(1) / whole), length - 1 - i
        for j in range(begin, last, 16):
            p = mul(load(s, at + j), factor)
            store(s, at + j, p)
            store(band, j, add(load(band, j), p))
            store(slash, place + j, add(load(slash, place + j), p))
        _ends(s, at, i, sinks, local, near, far, sink, mass_near, distance, later)
        if (i + 1) % block == 0 or r == rows - 1:
            _flush(band, column, cells, i // block * side, last, block)


@kernel
def _clear(s, at, count):
    for j in range(0, count, 16):
        store(s, at + j, splat(np.float32(0)))


@kernel
def _ends(s, at, i, sinks, local, near, far, sink, mass_near, distance, later):
    """What is counted of the first keys and of the newest."""
    share = np.float32(0)
    for j in range(min(sinks, i + 1)):
        share += s[at + j]
    sink[i] = share
    close, steps = np.float32(0), np.float32(0)
    for d in range(min(local, i + 1)):
        p = s[at + i - d]
        close += p
        steps += p * np.float32(d)
    mass_near[i] = close
    distance[i] = steps + np.float32(local) * max(np.float32(0), np.float32(1) - close)
    for d in range(near, min(far, i) + 1):
        later[i - d] += s[at + i - d]


@kernel
def _flush(band, column, cells, place, keys, block):
    """Hand what some rows added up to columns and cells."""
    for cell in range((keys + block - 1) // block):
        start = cell * block
        share = np.float32(0)
        for j in range(start, min(start + block, keys)):
            share += band[j]
            column[j] += band[j]
            band[j] = np.float32(0)
        cells[place + cell] += share
