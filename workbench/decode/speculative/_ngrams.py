"""Tables of what followed the last few tokens, with probabilities: what STAND and OPT-Tree draft from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.decode.speculative._base import softmax
from workbench.decode.speculative._top import top_tokens


class Ngrams:
    """For n-grams of several lengths the likeliest next tokens and the running mean of their probabilities.

    The mean runs over the times that the n-gram was seen: ``old k / (k + 1) + new / (k + 1)``; a token that is not
    among the largest of a time counts as 0 there.

    Parameters
    ----------
    lengths
        Of the n-grams; the longest known one is used.
    width
        Tokens kept of each.
    """

    def __init__(self, lengths: Sequence[int] = (4, 3, 2), width: int = 10) -> None:
        self.lengths, self.width = tuple(sorted(lengths, reverse=True)), width
        self._rows: dict[tuple[int, ...], tuple[int, np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def source(self) -> str:
        """What it is, for records."""
        return f"Ngrams({len(self)} n-grams)"

    def find(self, text: Sequence[int]) -> tuple[int, np.ndarray, np.ndarray] | None:
        """Length of the longest known n-gram that ends the text, tokens and probabilities, most likely first."""
        for n in self.lengths:
            row = self._rows.get(tuple(text[-n:])) if len(text) >= n else None
            if row is not None:
                return n, row[1], row[2]
        return None

    def learn(self, text: Sequence[int], tokens: np.ndarray, chances: np.ndarray) -> None:
        """What follows a text: tokens with their probabilities."""
        for n in self.lengths:
            if len(text) >= n:
                key = tuple(text[-n:])
                old = self._rows.get(key)
                self._rows[key] = (1, tokens, chances) if old is None else self._mean(old, tokens, chances)

    def follow(self, text: Sequence[int], successor: int) -> None:
        """What did follow a text, where nothing else is known: that token with probability 1."""
        self.learn(text, np.array([successor]), np.ones(1))

    def _mean(
        self, old: tuple[int, np.ndarray, np.ndarray], tokens: np.ndarray, chances: np.ndarray
    ) -> tuple[int, np.ndarray, np.ndarray]:
        seen, known, values = old
        mean = dict(zip(known.tolist(), (values * (seen / (seen + 1))).tolist(), strict=True))
        for token, chance in zip(tokens.tolist(), chances.tolist(), strict=True):
            mean[token] = mean.get(token, 0.0) + chance / (seen + 1)
        best = sorted(mean.items(), key=lambda item: (-item[1], item[0]))[: self.width]
        return seen + 1, np.array([t for t, _ in best]), np.array([p for _, p in best])


def likeliest(logits: np.ndarray, width: int, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The most likely tokens of each row and their probabilities: int64 and float64 ``[T, width]``."""
    width = min(width, logits.shape[1])
    tokens = top_tokens(logits, width)
    if temperature != 1.0:
        return tokens, np.take_along_axis(softmax(logits / temperature), tokens, axis=1)
    top = np.take_along_axis(logits, tokens, axis=1)
    shifted = logits - top[:, :1]
    total = np.exp(shifted, out=shifted).sum(axis=1, dtype=np.float64)
    return tokens, np.exp((top - top[:, :1]).astype(np.float64)) / total[:, None]
