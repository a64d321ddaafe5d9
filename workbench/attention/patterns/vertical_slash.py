"""Vertical-slash: a few columns and a few diagonals, guessed from the newest queries.

Huiqiang Jiang, Yucheng Li, Chengruidong Zhang, Qianhui Wu et al. MInference 1.0: Accelerating Pre-filling for
Long-Context LLMs via Dynamic Sparse Attention. NeurIPS 2024. arXiv:2407.02490; the recipe of Qwen2.5-1M, too.

    P = softmax of the last ``probe`` queries over all keys
    columns: the largest sum_i P[i, j];  diagonals: the largest sum_i P[i, i - d];  all that they touch is kept

Departs from the paper: how many there are is a share of the text's length, where it has constants for 128 thousand
tokens, and what is kept is rounded to blocks of 64 x 64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from workbench_kernels.attention_prefill import BLOCK

from workbench._citation import Citation
from workbench.attention.patterns._pattern import Pattern, blocks, pattern, share
from workbench.attention.patterns.claims import Recall
from workbench.attention.watching import Passing
from workbench.claims import Claim
from workbench.errors import ArgumentError


@pattern
@dataclass(frozen=True)
class VerticalSlash(Pattern):
    """Columns and diagonals.

    Attributes
    ----------
    vertical, slash
        Columns and diagonals, as shares of the text's tokens.
    probe
        Newest queries that are asked.
    """

    name: ClassVar[str] = "vertical-slash"
    title: ClassVar[str] = "Vertical-slash (MInference)"
    formula: ClassVar[str] = "keep the columns and diagonals that the last queries attend to most"
    citation: ClassVar[Citation] = Citation(
        "Huiqiang Jiang, Yucheng Li, Chengruidong Zhang, Qianhui Wu et al.",
        "MInference 1.0: Accelerating Pre-filling for Long-Context LLMs via Dynamic Sparse Attention",
        2024,
        "2407.02490",
        "NeurIPS",
    )

    claim: ClassVar[Claim] = Claim(
        "Columns and diagonals found for a text keep more of attention than sinks and a window of the same cost.",
        "LLaMA-3-8B-1M and three more, 128 thousand tokens and more (here: 2048, over all heads)",
        Recall(than=("a-shape",)),
    )

    vertical: float = 0.02
    slash: float = 0.05
    probe: int = 64

    def __post_init__(self) -> None:
        share("vertical", self.vertical)
        share("slash", self.slash)
        if self.probe < 1:
            raise ArgumentError(f"probe={self.probe}: at least 1 query")

    def keep(self, passing: Passing, head: int) -> np.ndarray:
        """Guess, then mark what columns and diagonals touch."""
        return touched_by(*self.lines(passing, head), blocks(passing.key.shape[1]))

    def lines(self, passing: Passing, head: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns, and distances of diagonals, the strongest first."""
        length = passing.key.shape[1]
        columns, diagonals = strongest(last_shares(passing, head, self.probe))
        sizes = (max(1, round(s * length)) for s in (self.vertical, self.slash))
        return columns[: next(sizes)], diagonals[: next(sizes)]

    def within(self, budget: float, tokens: int) -> VerticalSlash:
        """Columns and diagonals in their proportion; what they touch depends on the text and is known only then."""
        share("budget", budget)
        if budget == 1:
            return replace(self, vertical=1.0)
        scale = touching(self.vertical, self.slash, budget, blocks(tokens))
        return replace(self, vertical=min(1.0, self.vertical * scale), slash=min(1.0, self.slash * scale))


def touched_by(columns: np.ndarray, diagonals: np.ndarray, count: int) -> np.ndarray:
    """Blocks that lines cross: bool ``[B, B]``; a diagonal at distance d crosses two blocks of every row."""
    across, along = np.zeros(count, bool), np.zeros(count + 1, bool)
    across[columns // BLOCK] = along[diagonals // BLOCK] = True
    i, j = np.indices((count, count))
    apart = np.maximum(i - j, 0)
    found: np.ndarray = across[j] | along[apart] | (along[apart - 1] & (apart > 0))
    return found


def touching(vertical: float, slash: float, budget: float, count: int) -> float:
    """By what both shares are to be multiplied so that about ``budget`` of the blocks are touched.

    Of n lines strewn over B blocks ``B (1 - exp(-n / B))`` blocks are touched; lines stand together, which is why
    three tokens count as one line (ours, from what the default model does).
    """
    together = 3

    def touched(scale: float) -> float:
        columns, diagonals = (1 - np.exp(-scale * x * BLOCK / together) for x in (vertical, slash))
        both = 1 - (1 - diagonals) ** 2
        return float(1 - (1 - columns) * (1 - both)) if count > 1 else 1.0

    low, high = 0.0, 1 / min(vertical, slash)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if touched(middle) < budget else (low, middle)
    return high


def last_shares(passing: Passing, head: int, probe: int) -> np.ndarray:
    """How the last ``probe`` queries attend: float32 ``[probe, S]``."""
    newest = replace(passing, query=passing.query[:, -probe:])
    found: np.ndarray = torch.softmax(newest.scores(head), -1).numpy()
    return found


def strongest(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All columns, and all distances of diagonals, those first that some last queries ``[T, S]`` attend to most."""
    asked, length = shares.shape
    distance = np.arange(length - asked, length)[:, None] - np.arange(length)[None]
    seen = distance >= 0
    slashes = np.bincount(distance[seen], weights=shares[seen], minlength=length)
    columns, diagonals = (np.argsort(-sums, kind="stable") for sums in (shares.sum(0), slashes))
    return columns, diagonals
