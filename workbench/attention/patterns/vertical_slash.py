"""Vertical-slash: a few columns and a few diagonals, guessed from the newest queries.

Huiqiang Jiang, Yucheng Li, Chengruidong Zhang, Qianhui Wu et al. MInference 1.0: Accelerating Pre-filling for
Long-Context LLMs via Dynamic Sparse Attention. NeurIPS 2024. arXiv:2407.02490; the recipe of Qwen2.5-1M, too.

    P = softmax of the last ``probe`` queries over all keys
    columns: the largest sum_i P[i, j];  diagonals: the largest sum_i P[i, i - d];  all that they touch is kept

Departs from the paper: how many there are is a share of the text's length, where it has constants for 128 thousand
tokens, and what is kept is rounded to blocks of 64 x 64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from workbench_kernels.attention_prefill import BLOCK

from workbench._citation import Citation
from workbench.attention.patterns._pattern import Pattern, blocks, pattern, share
from workbench.attention.watching import Passing
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
        columns, diagonals = self.lines(passing, head)
        count = blocks(passing.key.shape[1])
        kept = np.zeros((count, count), bool)
        kept[:, np.unique(columns // BLOCK)] = True
        i, j = np.indices((count, count))
        for d in np.unique(diagonals // BLOCK):  # a diagonal at distance d crosses two blocks of every row
            kept |= (i - j == d) | (i - j == d + 1)
        return kept

    def lines(self, passing: Passing, head: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns, and distances of diagonals, the strongest first."""
        length = passing.key.shape[1]
        asked = min(self.probe, passing.query.shape[1])
        newest = Passing(
            passing.layer, passing.query[:, -asked:], passing.key, passing.value, passing.scaling, passing.window,
            passing.softcap,
        )  # fmt: skip
        p = torch.softmax(newest.scores(head), -1).numpy()
        rows = np.arange(length - asked, length)[:, None]
        distance = rows - np.arange(length)[None]
        seen = distance >= 0
        slashes = np.bincount(distance[seen], weights=p[seen], minlength=length)
        best = [np.argsort(-sums, kind="stable") for sums in (p.sum(0), slashes)]
        sizes = (max(1, round(s * length)) for s in (self.vertical, self.slash))
        columns, diagonals = (order[:n] for order, n in zip(best, sizes, strict=True))
        return columns, diagonals
