"""From which sparsity on a kernel pays: its time on random masks of several densities, relative to a dense peer.

time / peer's time = fixed + slope * density            least squares, every point equally in per cent
break-even sparsity = 1 - (1 - fixed) / slope
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from workbench.errors import ArgumentError, unknown
from workbench.execute import patterns
from workbench.execute._clock import check_count, check_threads, check_tokens, rounds, torch_threads
from workbench.execute.forms import check_values, named_forms
from workbench.execute.reports import BreakEven, BreakEvenRow
from workbench.execute.timing import Contestant, ours, torch_dense
from workbench.jobs import Progress
from workbench.prune.masks import Pattern
from workbench.results import Provenance

PEERS = ("torch", "dense")
SPARSITIES = (0.3, 0.5, 0.7, 0.85, 0.95)
Key = tuple[str, str, int]


def swept(pattern: str) -> bool:
    """Whether a pattern leaves the sparsity open."""
    return pattern not in ("dense", "empty") and ":" not in pattern


def break_even(
    shape: tuple[int, int],
    *,
    pattern: str = "unstructured",
    formats: Sequence[str] | str | None = None,
    values: Sequence[str] | str = ("fp32",),
    tokens: Sequence[int] | int = (1, 16, 128),
    sparsities: Sequence[float] = SPARSITIES,
    peer: str = "torch",
    threads: int | None = 1,
    repeats: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> BreakEven:
    """Find out from which sparsity on each kernel is faster than a dense one.

    Parameters
    ----------
    shape
        Outputs and inputs.
    pattern, formats, values, tokens, threads, repeats, seed, progress
        As for `time_kernels`; the pattern must leave the sparsity open.
    sparsities
        Where to measure, at least two.
    peer
        ``"torch"``: its dense float32 layer; ``"dense"``: our own kernel with the same values.

    Raises
    ------
    ArgumentError
        If an argument or a name is wrong.
    Cancelled
        If the job was cancelled.
    """
    begun, progress = time.perf_counter(), progress or Progress()
    if peer not in PEERS:
        raise unknown("peer", peer, PEERS)
    if not swept(pattern) or Pattern.parse(patterns.NAMED.get(pattern, pattern)).is_nm:
        raise ArgumentError(f"pattern={pattern!r} leaves no choice of sparsity: pass 'unstructured' or a block")
    points = sorted(set(sparsities))
    if len(points) < 2:
        raise ArgumentError(f"sparsities={sparsities!r}: at least two different ones make a line")
    kinds = [check_values(v) for v in dict.fromkeys((values,) if isinstance(values, str) else values)]
    counts, repeats, workers = check_tokens(tokens), check_count("repeats", repeats), check_threads(threads)
    found: dict[Key, list[tuple[float, float]]] = {}
    with torch_threads(workers), torch.inference_mode():
        for n, sparsity in enumerate(points):
            progress.step("break-even", n, len(points))
            weight = patterns.random_weight(shape, pattern, sparsity, seed)
            entered = _entered(weight, kinds, formats, workers, progress)
            for count in counts:
                _measure(entered, weight, count, repeats, workers, peer, found, progress)
    progress.step("break-even", len(points), len(points))
    rows = tuple(_fit(key, line) for key, line in found.items() if len(line) > 1)
    took = time.perf_counter() - begun
    return BreakEven(shape, pattern, peer, workers, rows, took, Provenance.here(seed=seed))


def _entered(
    weight: np.ndarray, kinds: Sequence[str], formats: Sequence[str] | str | None, threads: int, progress: Progress
) -> list[Contestant]:
    entered = [torch_dense(weight, "fp32")]
    for values in kinds:
        for form in named_forms(formats, weight, values):
            progress.check()
            entered.append(ours(form, weight, values, threads))
    return entered


def _measure(
    entered: list[Contestant], weight: np.ndarray, tokens: int, repeats: int, threads: int, peer: str,
    found: dict[Key, list[tuple[float, float]]], progress: Progress,
) -> None:  # fmt: skip
    x = np.random.default_rng(tokens).standard_normal((tokens, weight.shape[1])).astype(np.float32)
    samples = list(rounds({c.name: c.prepare(x) for c in entered}, repeats, threads, progress))[-1]
    density = np.count_nonzero(weight) / weight.size
    for one in entered:
        own = "dense" if one.values == "fp32" else f"dense-{one.values}"
        against = samples["torch" if peer == "torch" else own]
        if one.format not in ("torch", "dense"):
            ratio = float(np.median(np.asarray(samples[one.name]) / np.asarray(against)))
            found.setdefault((one.format, one.values, tokens), []).append((density, ratio))


def _fit(key: Key, points: list[tuple[float, float]]) -> BreakEvenRow:
    density, ratio = np.array(points).T
    slope, fixed = np.polyfit(density, ratio, 1, w=1 / ratio)
    residual = float(np.abs((fixed + slope * density) / ratio - 1).max())
    return BreakEvenRow(*key, line_crosses(fixed, slope), float(fixed), float(slope), density, ratio, residual)


def line_crosses(fixed: float, slope: float) -> float:
    """The sparsity at which ``fixed + slope * (1 - sparsity)`` is 1: 0 if it is always below, NaN if never.

    Examples
    --------
    >>> line_crosses(0.2, 2.0), line_crosses(0.1, 0.5), line_crosses(1.2, 1.0)
    (0.6, 0.0, nan)
    """
    if fixed + slope <= 1:
        return 0.0
    return float("nan") if fixed >= 1 else 1 - (1 - fixed) / slope
