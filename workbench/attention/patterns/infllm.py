"""InfLLM: the first keys, the newest, and those blocks of the past whose representative keys answer the queries.

Chaojun Xiao, Pengle Zhang, Xu Han, Guangxuan Xiao et al. InfLLM: Training-Free Long-Context Extrapolation for LLMs
with an Efficient Context Memory. NeurIPS 2024. arXiv:2402.04617.

    relevance of a key     r_m = 1/l sum_{n=1..l} q_{m+n} . k_m                    l = ``local``, the window behind it
    representatives R_b    the ``representatives`` keys of block b with the largest r
    block b for queries X  sum_heads sum_{q in X} sum_{k in R_b} q . k             the largest are kept

Departs from the paper: blocks have 64 keys and are looked up for every 64 queries, where it has 128 and 512; their
number is a share of a row's blocks, where it has a constant; queries and keys are taken as they are rotated, where it
puts all of the past at one distance, so that full memory is dense attention; nothing is moved between devices. The
published code takes for relevance the attention that a key gets within the window, summed, and its score is the mean
over queries and representatives, which orders blocks alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from workbench_kernels.attention_prefill import BLOCK

from workbench._citation import Citation
from workbench.attention.patterns._pattern import Pattern, causal, pattern, share
from workbench.attention.patterns.a_shape import AShape
from workbench.attention.patterns.block_top import means
from workbench.attention.patterns.claims import Needle
from workbench.attention.watching import Passing
from workbench.claims import Claim
from workbench.errors import ArgumentError


@dataclass(frozen=True)
class Memory(Pattern):
    """Base of patterns that look blocks of the past up, for all heads at once.

    Attributes
    ----------
    sinks, local
        First and newest tokens, always kept.
    representatives
        Keys that stand for a block.
    budget
        Share of a row's blocks that may be kept; sinks and the window count, and are kept if it is too small for them.
    """

    sinks: int = 64
    local: int = 256
    representatives: int = 4
    budget: float = 0.25

    def __post_init__(self) -> None:
        AShape(sinks=self.sinks, local=self.local)
        share("budget", self.budget)
        if not 1 <= self.representatives <= BLOCK:
            raise ArgumentError(f"representatives={self.representatives}: 1 to {BLOCK} keys of a block")

    def keep(self, passing: Passing, head: int) -> np.ndarray:
        """The same for all heads."""
        found: np.ndarray = self.masks(passing)[head]
        return found

    def masks(self, passing: Passing) -> np.ndarray:
        """Bool ``[H, B, B]``."""
        always = causal(AShape(sinks=self.sinks, local=self.local).keep(passing, 0))
        scores = self.scores(passing)
        kept = remembered(always, scores, self.budget_of(passing, scores))
        return np.broadcast_to(kept, (len(passing.query), *kept.shape))

    def scores(self, passing: Passing) -> np.ndarray:
        """How much the queries of each block want each block of keys: float32 ``[B, B]``."""
        raise NotImplementedError

    def budget_of(self, passing: Passing, scores: np.ndarray) -> float:
        """Share of the blocks for this layer."""
        del passing, scores
        return self.budget

    def within(self, budget: float, tokens: int) -> Memory:
        """Its own budget, of which sinks and window take at most half."""
        share("budget", budget)
        narrow = AShape(self.sinks, self.local).within(max(budget / 2, 1e-9), tokens).local
        return replace(self, budget=budget, local=min(self.local, narrow))


@pattern
@dataclass(frozen=True)
class InfLLM(Memory):
    """Sinks, a window, and a memory of blocks."""

    name: ClassVar[str] = "infllm"
    title: ClassVar[str] = "InfLLM (block memory)"
    formula: ClassVar[str] = "keep blocks with the largest sum of q . k over their representative keys"
    citation: ClassVar[Citation] = Citation(
        "Chaojun Xiao, Pengle Zhang, Xu Han, Guangxuan Xiao et al.",
        "InfLLM: Training-Free Long-Context Extrapolation for LLMs with an Efficient Context Memory",
        2024,
        "2402.04617",
        "NeurIPS",
    )
    claim: ClassVar[Claim] = Claim(
        "A memory of blocks finds what stands far back, where sinks and a window of the same cost do not.",
        "Mistral-7B, LLaMA-3-8B: InfiniteBench and LongBench, needles in up to a million tokens (here: in 2048)",
        Needle(than="a-shape"),
    )

    def scores(self, passing: Passing) -> np.ndarray:
        """Means of queries against means of representatives, summed over heads."""
        keys = representatives(passing, self.local, self.representatives)
        found = torch.zeros(keys.shape[1], keys.shape[1])
        for head, own in enumerate(keys):
            found += means(passing.query[head]) @ own.T
        return found.numpy()


def representatives(passing: Passing, local: int, count: int) -> torch.Tensor:
    """Mean of the keys of each block that the queries behind them want most: float32 ``[H, B, D]``."""
    found = []
    for head, queries in enumerate(passing.query.float()):
        keys = passing.key[head // passing.group].float()
        wanted = (behind(queries, local) * keys).sum(1)
        parts = zip(wanted.split(BLOCK), keys.split(BLOCK), strict=True)
        found.append(torch.stack([k[w.topk(min(count, len(w))).indices].mean(0) for w, k in parts]))
    return torch.stack(found)


def behind(queries: torch.Tensor, local: int) -> torch.Tensor:
    """Mean of the ``local`` queries behind each, or of those that there are; the last has itself: ``[S, D]``."""
    length = len(queries)
    sums = torch.cat([queries.new_zeros(1, queries.shape[1], dtype=torch.float64), queries.double().cumsum(0)])
    start = torch.arange(length).add(1).clamp(max=length - 1)
    end = torch.arange(length).add(1 + local).clamp(max=length)
    return ((sums[end] - sums[start]) / (end - start)[:, None]).float()


def remembered(always: np.ndarray, scores: np.ndarray, budget: float) -> np.ndarray:
    """Row by row what is always kept, and the best others while the row's budget lasts: bool ``[B, B]``."""
    kept = always.copy()
    for i in range(len(kept)):
        left = round(budget * (i + 1)) - int(kept[i, : i + 1].sum())
        others = np.flatnonzero(~kept[i, : i + 1])
        if left > 0:
            kept[i, others[np.argsort(-scores[i, others], kind="stable")[:left]]] = True
    return kept
