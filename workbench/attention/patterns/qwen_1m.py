"""Qwen2.5-1M: vertical-slash chosen chunk by chunk, as much as a recall asks for, at positions of dual-chunk attention.

An Yang, Bowen Yu, Chengyuan Li, Dayiheng Liu et al. Qwen2.5-1M Technical Report. 2025. arXiv:2501.15383 (sections on
inference: sparse attention with chunked prefill, sparsity refinement, length extrapolation); for positions see
`_dual_chunk`.

    chunk of ``read`` queries: columns and diagonals in the order in which its last ``probe`` queries attend to them
    their number: the least for which these queries keep a share ``recall`` of their attention

Departs from the paper: it refines the number of lines offline, head by head on calibration texts, until enough
attention is kept; here it is found for every chunk on its probe queries, columns and diagonals in equal number (ours);
what is kept is rounded to blocks of 64 x 64.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from workbench_kernels.attention_prefill import BLOCK

from workbench._citation import Citation
from workbench.attention.patterns._dual_chunk import DualChunk, View
from workbench.attention.patterns._pattern import Pattern, attend, blocks, causal, pattern, share
from workbench.attention.patterns.claims import Beyond
from workbench.attention.patterns.minference import first_of
from workbench.attention.patterns.vertical_slash import strongest
from workbench.attention.rotating import Rotation
from workbench.attention.watching import Passing
from workbench.claims import Claim
from workbench.errors import ArgumentError, ModelError
from workbench.models import LM


@pattern
@dataclass(frozen=True)
class Qwen1M(Pattern):
    """Columns and diagonals, chunk by chunk, and positions that stay within the trained length.

    Attributes
    ----------
    recall
        Share of the probe queries' attention that is to be kept; 1 for all blocks.
    read
        Tokens of a chunk that are read at once, a multiple of 64.
    probe
        Newest queries of a chunk, at most 64.
    trained
        Tokens that the model was trained on; 0 for what its configuration says. Longer texts have positions of
        dual-chunk attention.
    neighbours
        Share of them within which distances to the chunk before are exact.
    """

    name: ClassVar[str] = "qwen-1m"
    title: ClassVar[str] = "Qwen2.5-1M (chunked vertical-slash, dual chunks)"
    formula: ClassVar[str] = "keep the fewest lines with which a chunk's last queries keep their recall"
    citation: ClassVar[Citation] = Citation(
        "An Yang, Bowen Yu, Chengyuan Li, Dayiheng Liu et al.", "Qwen2.5-1M Technical Report", 2025, "2501.15383"
    )
    claim: ClassVar[Claim] = Claim(
        "Beyond the trained length texts read better at dual-chunk positions than at plain ones.",
        "Qwen2.5-1M 7B and 14B, trained on 256 thousand tokens, read a million (here: 8192, read half as many again)",
        Beyond(parameters={"recall": 1.0}),
    )

    recall: float = 0.9
    read: int = 1024
    probe: int = 64
    trained: int = 0
    neighbours: float = 0.125
    chunks: DualChunk | None = field(default=None, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        share("recall", self.recall)
        share("neighbours", self.neighbours)
        if self.read < BLOCK or self.read % BLOCK:
            raise ArgumentError(f"read={self.read}: a multiple of {BLOCK} tokens")
        if not 1 <= self.probe <= BLOCK:
            raise ArgumentError(f"probe={self.probe}: 1 to {BLOCK} queries")
        if self.trained and self.trained < 2 * BLOCK:
            raise ArgumentError(f"trained={self.trained}: at least {2 * BLOCK} tokens, or 0 for the model's own")

    def bound(self, lm: LM) -> Qwen1M:
        """With the positions of a model; one whose keys cannot be moved is refused when a text is too long for it."""
        trained = self.trained or int(lm.module.config.max_position_embeddings)
        if trained < 2 * BLOCK:
            return replace(self)
        chunk = max(BLOCK, int(trained * (1 - self.neighbours)) // BLOCK * BLOCK)
        found = replace(self, trained=trained)
        try:
            return self._with(found, DualChunk(Rotation.of(lm), chunk, trained - chunk))
        except ModelError:
            return found

    def within(self, budget: float, tokens: int) -> Qwen1M:
        """A recall to aim at, ``budget ** (1 / 8)``; how many blocks that takes is known only with the text."""
        del tokens
        share("budget", budget)
        return self._with(replace(self, recall=budget**0.125), self.chunks)

    def keep(self, passing: Passing, head: int) -> np.ndarray:
        """Chunk by chunk."""
        return self._kept(passing, head, self._view(passing))

    def masks(self, passing: Passing) -> np.ndarray:
        """Bool ``[H, B, B]``; keys are turned once for all heads."""
        view = self._view(passing)
        return causal(np.stack([self._kept(passing, head, view) for head in range(len(passing.query))]))

    def attend(self, passing: Passing, masks: np.ndarray, threads: int = 1) -> torch.Tensor:
        """At plain positions within the trained length, else at those of dual chunks."""
        positions = self._positions(passing.key.shape[1])
        return attend(passing, masks, threads) if positions is None else positions.attend(passing, masks, threads)

    def _kept(self, passing: Passing, head: int, view: View) -> np.ndarray:
        length = passing.key.shape[1]
        count = blocks(length)
        if self.recall == 1:
            return np.ones((count, count), bool)
        kept = np.zeros((count, count), bool)
        for start in range(0, length, self.read):
            end = min(start + self.read, length)
            rows = slice(start // BLOCK, blocks(end))
            kept[rows, : blocks(end)] = fewest(view(head, max(start, end - self.probe), end), self.recall)[rows]
        return kept

    def _view(self, passing: Passing) -> View:
        """How probe queries see keys: ``(head, first, end) -> shares [end - first, end]``."""
        positions = self._positions(passing.key.shape[1])
        if positions is not None:
            return positions.view(passing)

        def plain(head: int, first: int, end: int) -> np.ndarray:
            part = replace(passing, query=passing.query[:, first:end], key=passing.key[:, :end])
            return torch.softmax(part.scores(head), -1).numpy()

        return plain

    def _positions(self, length: int) -> DualChunk | None:
        trained = self.trained if self.chunks is None else self.chunks.chunk + self.chunks.local
        if not trained or length <= trained:
            return None
        if self.chunks is None:
            raise ModelError(
                f"{length} tokens are more than the {trained} trained on: they need bound(lm) first, with a model of "
                "plain rotary positions"
            )
        return self.chunks

    @staticmethod
    def _with(found: Qwen1M, chunks: DualChunk | None) -> Qwen1M:
        object.__setattr__(found, "chunks", chunks)  # frozen, but not shown to anyone yet
        return found


def fewest(shares: np.ndarray, recall: float) -> np.ndarray:
    """Blocks of the fewest lines, columns and diagonals alike, that keep this much of some queries' attention.

    Parameters
    ----------
    shares : float32 [T, S]
        Of the last T queries of S tokens.
    recall

    Returns
    -------
    bool [B, B]
    """
    asked, length = shares.shape
    count = blocks(length)
    columns, diagonals = (first_of(order // BLOCK, count) for order in strongest(shares))
    i, j = np.indices((count, count))
    near = np.maximum(i - j, 0)
    rank = np.minimum(np.minimum(columns[j], diagonals[near]), diagonals[np.maximum(near - 1, 0)])
    rank[i == j] = -1
    owner = np.arange(length - asked, length) // BLOCK
    mass = np.zeros((count, count))
    for row in np.unique(owner):
        mass[row] = np.add.reduceat(shares[owner == row].sum(0), np.arange(0, length, BLOCK))
    order = np.argsort(rank, axis=None, kind="stable")
    enough = mass.ravel()[order].cumsum() >= recall * mass.sum() - 1e-6
    found: np.ndarray = rank <= rank.ravel()[order[int(enough.argmax())]]
    return found
