"""Intervals: what a figure from a sample can and cannot say."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=256)
def t_quantile(freedom: int, confidence: float = 0.95) -> float:
    """The two-sided quantile of Student's t: ``P(|T| < t) = confidence``.

    With ``T = sqrt(v) tan(a)`` the probability is ``c * integral of cos(a)**(v - 1)``, which Gauss-Legendre
    integrates to rounding; bisection inverts it.

    Examples
    --------
    >>> round(t_quantile(1), 3), round(t_quantile(10), 3), round(t_quantile(10**6), 3)
    (12.706, 2.228, 1.96)
    """
    nodes, weights = np.polynomial.legendre.leggauss(64)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) * 2 / math.sqrt(math.pi)

    def inside(t: float) -> float:
        angle = math.atan(t / math.sqrt(freedom))
        powers = np.cos(angle * (nodes + 1) / 2) ** (freedom - 1)
        return scale * angle / 2 * float(weights @ powers)

    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) < confidence else (low, middle)
    return high


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and its t interval, ``mean -+ t * s / sqrt(n)``; NaN ends for fewer than two values.

    Examples
    --------
    >>> [round(x, 3) for x in mean_interval(np.array([1.0, 2.0, 3.0]))]
    [2.0, -0.484, 4.484]
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = t_quantile(len(values) - 1, confidence) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def median_interval(
    values: np.ndarray, *, seed: int = 0, resamples: int = 2000, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Median and its bootstrap percentile interval; seeded, so the same values give the same interval."""
    rng = np.random.default_rng(seed)
    drawn = np.median(values[rng.integers(0, len(values), (resamples, len(values)))], axis=1)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(np.median(values)), float(low), float(high)


def crossed_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of ``values[seed, unit]`` and its interval when both seeds and units are samples.

    The half width is ``sqrt((t_u s_u)^2 + (t_s s_s)^2)``: the standard errors over units and over seeds (of
    the other's means), each with its own t quantile. Few seeds are paid for only as far as seeds matter; what
    seeds and units share is counted twice, so the interval errs on the wide side.

    Examples
    --------
    >>> [round(x, 3) for x in crossed_interval(np.array([[1.0, 2.0, 3.0], [1.5, 2.5, 3.5]]))]
    [2.25, -1.783, 6.283]
    """
    mean = float(values.mean())
    if values.shape[1] < 2:
        return mean, math.nan, math.nan
    halves = [
        t_quantile(len(m) - 1, confidence) * float(np.std(m, ddof=1)) / math.sqrt(len(m))
        for m in (values.mean(axis=0), values.mean(axis=1))
        if len(m) > 1
    ]
    half = math.hypot(*halves)
    return mean, mean - half, mean + half
