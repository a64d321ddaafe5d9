"""From logits to the distribution that a token is drawn from: temperature, top-k, top-p, min-p."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Sampler:
    """How tokens are chosen from logits.

    Filters are applied in this order, each on what the one before left, renormalised: temperature, top-k, top-p, min-p.

    Attributes
    ----------
    temperature
        Logits are divided by it; 0 takes the most likely token (the first of equals).
    top_k
        Only the k most likely; 0 for all. Of equals those with the smaller number stay.
    top_p
        Only the smallest set of most likely tokens with at least this probability (Holtzman et al., 2020).
    min_p
        Only those with at least this share of the largest probability (Nguyen et al., 2024).

    Raises
    ------
    ArgumentError
        If one is out of its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < np.inf:
            raise ArgumentError(f"temperature={self.temperature}: 0 (most likely token) or a positive number")
        if self.top_k < 0:
            raise ArgumentError(f"top_k={self.top_k}: 0 (all) or a positive number")
        if not 0 < self.top_p <= 1:
            raise ArgumentError(f"top_p={self.top_p}: above 0, at most 1 (all)")
        if not 0 <= self.min_p <= 1:
            raise ArgumentError(f"min_p={self.min_p}: 0 (all) to 1")

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken."""
        return self.temperature == 0

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """The distribution over the next token.

        Parameters
        ----------
        logits : ndarray [V]

        Returns
        -------
        ndarray of float64 [V]; at temperature 0 all on the most likely token
        """
        if self.greedy:
            p = np.zeros(len(logits))
            p[int(np.argmax(logits))] = 1.0
            return p
        scaled = (logits.astype(np.float64) - np.max(logits)) / self.temperature
        p = np.exp(scaled)
        p /= p.sum()
        if 0 < self.top_k < p.size:
            p[np.argsort(-p, kind="stable")[self.top_k :]] = 0
            p /= p.sum()
        if self.top_p < 1:
            order = np.argsort(-p, kind="stable")
            before = np.cumsum(p[order]) - p[order]
            p[order[before >= self.top_p]] = 0
            p /= p.sum()
        if self.min_p > 0:
            p[p < self.min_p * p.max()] = 0
            p /= p.sum()
        return p

    def choose(self, logits: np.ndarray, random: np.random.Generator) -> int:
        """A token; uses one uniform number unless greedy."""
        return int(np.argmax(logits)) if self.greedy else draw(self.probabilities(logits), random.random())


def draw(p: np.ndarray, u: float) -> int:
    """The token at which the cumulative distribution passes ``u`` in [0, 1)."""
    cumulative = np.cumsum(p)
    token = int(np.searchsorted(cumulative, u * cumulative[-1], side="right"))
    return min(token, int(np.flatnonzero(p)[-1]))
