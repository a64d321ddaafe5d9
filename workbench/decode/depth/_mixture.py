"""Two Beta distributions over confidences: of exits that agreed with all layers, and of those that did not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GRID = np.linspace(0.3, 0.9, 61)  # thresholds that are tried, the paper's range


def agreement_threshold(pairs: Sequence[tuple[float, bool]], zeta: float, otherwise: float) -> float:
    """The smallest threshold at which an exit agrees with probability above zeta.

    Parameters
    ----------
    pairs
        Confidence, and whether the token was that of all layers.
    otherwise
        Stays while there are fewer than four pairs of either kind; 0.9 if no threshold of `GRID` will do.
    """
    found = beta_mixture(pairs)
    if found is None:
        return otherwise
    enough = GRID[posterior(GRID, *found) > zeta]
    return float(enough[0]) if enough.size else float(GRID[-1])


def beta_mixture(pairs: Sequence[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Shares, alphas, betas of the two kinds (agreed first): fitted to the kinds, then once to responsibilities."""
    c = np.clip(np.array([p[0] for p in pairs], np.float64), 1e-3, 1 - 1e-3)
    agreed = np.array([p[1] for p in pairs], bool)
    if min(agreed.sum(), (~agreed).sum()) < 4:
        return None
    weights = np.stack([agreed, ~agreed]).astype(np.float64)
    first = _moments(c, weights)
    own = posterior(c, *first)
    return _moments(c, np.stack([own, 1 - own]))


def posterior(x: np.ndarray, shares: np.ndarray, alphas: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Probability of the first kind at confidences ``x``."""
    logs = [np.log(s) + _log_density(x, a, b) for s, a, b in zip(shares, alphas, betas, strict=True)]
    gap = np.clip(logs[1] - logs[0], -700, 700)
    return np.asarray(1 / (1 + np.exp(gap)))


def _moments(c: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Beta distributions with the weighted means and variances."""
    total = weights.sum(1) + 1e-9
    mean = np.clip((weights * c).sum(1) / total, 1e-3, 1 - 1e-3)
    spread = (weights * (c - mean[:, None]) ** 2).sum(1) / total
    spread = np.clip(spread, 1e-4, 0.99 * mean * (1 - mean))
    size = mean * (1 - mean) / spread - 1
    return total / total.sum(), np.maximum(mean * size, 1e-2), np.maximum((1 - mean) * size, 1e-2)


def _log_density(x: np.ndarray, a: float, b: float) -> np.ndarray:
    from math import lgamma

    inside = np.clip(x, 1e-9, 1 - 1e-9)
    return np.asarray((a - 1) * np.log(inside) + (b - 1) * np.log1p(-inside) - lgamma(a) - lgamma(b) + lgamma(a + b))
