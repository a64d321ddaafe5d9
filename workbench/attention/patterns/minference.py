"""MInference: every head reads with the pattern that suits it best, found once on an example.

Huiqiang Jiang, Yucheng Li, Chengruidong Zhang, Qianhui Wu et al. MInference 1.0: Accelerating Pre-filling for
Long-Context LLMs via Dynamic Sparse Attention. NeurIPS 2024. arXiv:2407.02490 (its kernel-aware search).

    candidates = A-shape, block top-k, and vertical-slash with several proportions of columns to diagonals,
                 each with the largest sizes whose blocks fit into the budget
    head -> the candidate that keeps most of the example's attention (recall);  from then on this one

Departs from the paper: the cost of a candidate is the number of blocks of 64 x 64 that our kernel computes, where it
counts the floating-point operations of its GPU kernels; the candidate is judged by the attention that it keeps, which
is what the title of its search says, where the published code compares outputs; sizes are shares of the text, where it
has constants for 128 thousand tokens. Without a choice made beforehand the first text that is read is the example.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from workbench_kernels.attention_prefill import BLOCK

from workbench._citation import Citation
from workbench.attention.patterns._mass import block_mass
from workbench.attention.patterns._pattern import Pattern, blocks, causal, pattern, share
from workbench.attention.patterns.a_shape import AShape
from workbench.attention.patterns.block_top import BlockTop
from workbench.attention.patterns.claims import Recall
from workbench.attention.patterns.vertical_slash import VerticalSlash, last_shares, strongest, touched_by
from workbench.attention.watching import Passing
from workbench.claims import Claim
from workbench.errors import ArgumentError

Choice = Mapping[tuple[int, int], Pattern]
COLUMNS = (0.1, 0.3, 0.5, 0.7, 0.9)  # columns among all lines of a vertical-slash candidate; ours


@pattern
@dataclass(frozen=True)
class MInference(Pattern):
    """A pattern a head, chosen on an example under one budget.

    Attributes
    ----------
    budget
        Share of the blocks that each head may compute.
    probe
        Newest queries that vertical-slash asks.
    choice : mapping of (layer, head) to Pattern
        What was chosen; heads without an entry get theirs from the next text that is read. Give it to another
        instance to read other texts, or other lengths, with the same choice.
    """

    name: ClassVar[str] = "minference"
    title: ClassVar[str] = "MInference (a pattern a head)"
    formula: ClassVar[str] = "head -> the pattern with the largest recall within the budget, on an example"
    citation: ClassVar[Citation] = Citation(
        "Huiqiang Jiang, Yucheng Li, Chengruidong Zhang, Qianhui Wu et al.",
        "MInference 1.0: Accelerating Pre-filling for Long-Context LLMs via Dynamic Sparse Attention",
        2024,
        "2407.02490",
        "NeurIPS",
    )

    claim: ClassVar[Claim] = Claim(
        "A pattern chosen for every head on an example keeps more of attention than any one pattern of the same cost.",
        "LLaMA-3-8B-1M and three more, 128 thousand tokens and more (here: 2048, the example is another piece)",
        Recall(than=("a-shape", "block-top", "vertical-slash"), elsewhere=True),
    )

    budget: float = 0.25
    probe: int = 64
    choice: dict[tuple[int, int], Pattern] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        share("budget", self.budget)
        if self.probe < 1:
            raise ArgumentError(f"probe={self.probe}: at least 1 query")

    def keep(self, passing: Passing, head: int) -> np.ndarray:
        """By the pattern of this head, which is chosen now if it has none."""
        count = blocks(passing.key.shape[1])
        if self.budget == 1:
            return np.ones((count, count), bool)
        key = passing.layer, head
        if key not in self.choice:
            self.choice[key] = self._best(passing, head, block_mass(passing, head))
        return self.choice[key].keep(passing, head)

    def learn(self, passing: Passing, mass: np.ndarray) -> None:
        """Choose for the heads of a layer that have no pattern yet."""
        for head in range(len(mass)):
            if self.budget < 1 and (passing.layer, head) not in self.choice:
                self.choice[passing.layer, head] = self._best(passing, head, mass[head])

    def within(self, budget: float, tokens: int) -> MInference:
        """Its own budget; for another one than it had the choice is made anew."""
        del tokens
        return replace(self, budget=budget, choice=self.choice if budget == self.budget else {})

    def kinds(self) -> dict[str, int]:
        """How many heads got which pattern."""
        names = [p.name for p in self.choice.values()]
        return {name: names.count(name) for name in sorted(set(names))}

    def _best(self, passing: Passing, head: int, mass: np.ndarray) -> Pattern:
        return max(self._candidates(passing, head), key=lambda pair: kept_of(mass, pair[1]))[0]

    def _candidates(self, passing: Passing, head: int) -> list[tuple[Pattern, np.ndarray]]:
        """Patterns within the budget, and the blocks that they keep here."""
        tokens = passing.key.shape[1]
        plain = AShape().within(self.budget, tokens), BlockTop(budget=self.budget)
        found: list[tuple[Pattern, np.ndarray]] = [(one, one.keep(passing, head)) for one in plain]
        count = blocks(tokens)
        if causal(found[0][1]).sum() > self.budget * count * (count + 1) / 2 + 0.5:
            del found[0]  # even the narrowest is too much
        lines = strongest(last_shares(passing, head, self.probe))
        for columns in COLUMNS:
            sizes = fitting(lines, columns, self.budget)
            if sizes is not None:
                first, second = sizes
                one = VerticalSlash(vertical=first / tokens, slash=second / tokens, probe=self.probe)
                found.append((one, touched_by(lines[0][:first], lines[1][:second], count)))
        return found


def kept_of(mass: np.ndarray, kept: np.ndarray) -> float:
    """Attention in kept blocks."""
    return float((mass * causal(kept)).sum())


def fitting(lines: tuple[np.ndarray, np.ndarray], columns: float, budget: float) -> tuple[int, int] | None:
    """The most columns and diagonals whose blocks fit into a budget; None if one of each is too much.

    Parameters
    ----------
    lines : columns and distances of diagonals, the strongest first
    columns
        Their share of all lines.
    budget
    """
    tokens = len(lines[0])
    count = blocks(tokens)
    i, j = np.indices((count, count))
    first = [first_of(order // BLOCK, count) for order in lines]  # rank of the strongest line of each block
    across, apart = first[0][j] / columns, np.maximum(i - j, 0)  # of n lines in all, those below n are kept
    along = np.minimum(first[1][apart], first[1][np.maximum(apart - 1, 0)]) / (1 - columns)
    rank = np.where(i == j, 0, np.minimum(across, along))[i >= j]
    most = int(budget * rank.size)
    in_all = np.sort(rank)[most] if most < rank.size else tokens / min(columns, 1 - columns)
    sizes = math.ceil(in_all * columns), math.ceil(in_all * (1 - columns))
    return None if min(sizes) < 1 else (min(tokens, sizes[0]), min(tokens, sizes[1]))


def first_of(groups: np.ndarray, count: int) -> np.ndarray:
    """Where each group 0 to count - 1 comes first in a sequence."""
    found = np.full(count, len(groups))
    np.minimum.at(found, groups, np.arange(len(groups)))
    return found


def as_table(choice: Choice) -> list[dict[str, Any]]:
    """A choice, ready for JSON."""
    return [{"layer": i, "head": h, "pattern": p.name, **p.parameters} for (i, h), p in sorted(choice.items())]
