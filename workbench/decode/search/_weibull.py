"""A mixture of two Weibull distributions, fitted by expectation and maximisation.

    f(x) = (k / l) (x / l)^(k - 1) exp(-(x / l)^k)          mean l Gamma(1 + 1/k)

The best l for given k is (sum w x^k / sum w)^(1/k); the best k solves
sum w x^k log x / sum w x^k - 1/k = sum w log x / sum w, whose left side grows with k. Everything is done on log x,
because probabilities of texts span hundreds of orders of magnitude.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SHAPES = 1e-2, 50.0  # beyond them a component has shrunk to a point
SHARES = 0.2, 0.8  # of the first component
ROUNDS, STARTS = 100, (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class Weibull:
    """Shape k and the logarithm of the scale l."""

    shape: float
    log_scale: float

    def log_density(self, log_x: np.ndarray) -> np.ndarray:
        """``log f`` at x, given as its logarithm."""
        z = log_x - self.log_scale
        with np.errstate(over="ignore"):
            return math.log(self.shape) - self.log_scale + (self.shape - 1) * z - np.exp(self.shape * z)

    @property
    def log_mean(self) -> float:
        """``log (l Gamma(1 + 1/k))``."""
        return self.log_scale + math.lgamma(1 + 1 / self.shape)


@dataclass(frozen=True, slots=True)
class Mixture:
    """``share`` of `high`, the component of the larger mean, and the rest of `low`."""

    share: float
    high: Weibull
    low: Weibull
    log_likelihood: float

    def chance_high(self, log_x: np.ndarray) -> np.ndarray:
        """Probability that each x comes from `high`."""
        high = math.log(self.share) + self.high.log_density(log_x)
        low = math.log1p(-self.share) + self.low.log_density(log_x)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.nan_to_num(1 / (1 + np.exp(low - high)), nan=0.5)


def fit(log_x: np.ndarray, weights: np.ndarray) -> Weibull:
    """The most likely Weibull distribution of weighted values, given by their logarithms."""
    top = float(log_x.max())
    y, total = log_x - top, float(weights.sum())
    mean = float(weights @ y) / total

    def slope(k: float) -> float:
        powers = weights * np.exp(k * y)
        return float(powers @ y / powers.sum()) - 1 / k - mean

    low, high = SHAPES
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    shape = math.sqrt(low * high)
    return Weibull(shape, top + math.log(float(weights @ np.exp(shape * y)) / total) / shape)


def fit_mixture(log_x: np.ndarray) -> Mixture:
    """The most likely mixture of two, from three starts: the values split at their quartiles."""
    found = [_climb(log_x, (log_x > np.quantile(log_x, start)).astype(np.float64)) for start in STARTS]
    return max(found, key=lambda m: m.log_likelihood)


def _climb(log_x: np.ndarray, chance: np.ndarray) -> Mixture:
    """Expectation and maximisation from the chances of the one component, as long as the likelihood grows."""
    best = _maximised(log_x, np.clip(chance, 0.05, 0.95))
    for _ in range(ROUNDS):
        found = _maximised(log_x, np.clip(best.chance_high(log_x), 1e-12, 1 - 1e-12))
        if found.log_likelihood <= best.log_likelihood + 1e-9 * abs(best.log_likelihood):
            break
        best = found
    return best


def _maximised(log_x: np.ndarray, chance: np.ndarray) -> Mixture:
    """The most likely two components of values that come from the first with these chances."""
    share = float(np.clip(chance.mean(), *SHARES))
    parts = [(share, fit(log_x, chance)), (1 - share, fit(log_x, 1 - chance))]
    logs = np.stack([math.log(s) + w.log_density(log_x) for s, w in parts])
    top = logs.max(axis=0)
    likelihood = float((top + np.log(np.exp(logs - top).sum(axis=0))).sum())
    (share, high), (_, low) = sorted(parts, key=lambda part: -part[1].log_mean)
    return Mixture(share, high, low, likelihood)
