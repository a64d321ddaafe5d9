"""SpecPC: prompt tokens that a draft model does not heed are dropped before the model reads them.

Kevin Galim, Ethan Ewer, Wonjun Kang, Minjae Lee, Hyung Il Koo, Kangwook Lee. Draft-based Approximate Inference for
LLMs. ICLR 2026. arXiv:2506.08373.

    a_j = max over the draft's layers >= start, its heads and the last w queries i of (i's rank, 0 to 1) P[i, j]
    b_j = max of a over ``pool`` tokens around j;  the best first, each with its neighbours, until there are enough

The last w tokens stay. What is left is a shorter prompt: its tokens stand close together, as in the paper, and every
layer and head has the same keys. Departs from the paper: prompts here are shorter by far than its budgets of 1024
tokens and more, so that window, pool and neighbours are narrower (its 64, 64 and 64); the draft is by default the
model's own first layers, where the paper has a smaller model of the same family; of a window larger than the budget
the newest tokens stay, not the oldest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from workbench._citation import Citation
from workbench.attention.kv._drafts import heeded, shallow
from workbench.attention.kv._method import HeadView, KVMethod, kv_method
from workbench.attention.kv.claims import Needles
from workbench.claims import Claim
from workbench.errors import ArgumentError
from workbench.models import LM, as_lm


@kv_method
@dataclass(frozen=True)
class SpecPC(KVMethod):
    """What the draft's attention finds in the prompt.

    Attributes
    ----------
    recent
        w: queries that are looked at, and tokens that stay.
    pool, neighbours
        Tokens over which attention is pooled, and which come along with a chosen one, itself included.
    start
        First layer of the draft that counts; its last one does always.
    depth
        Share of the model's layers that the draft has, where none is given.
    draft
        A model with the same tokens: a handle, pruned result, or transformers causal LM.
    """

    name: ClassVar[str] = "specpc"
    title: ClassVar[str] = "SpecPC (prompt dropped by a draft)"
    formula: ClassVar[str] = "tokens with the largest max-pooled max of w_i P_ij of a draft, and their neighbours"
    citation: ClassVar[Citation] = Citation(
        "Kevin Galim, Ethan Ewer, Wonjun Kang, Minjae Lee, Hyung Il Koo, Kangwook Lee",
        "Draft-based Approximate Inference for LLMs",
        2026,
        "2506.08373",
        "ICLR",
    )
    claim: ClassVar[Claim] = Claim(
        "A draft's attention finds the prompt's tokens that matter; what is left answers as the whole prompt would.",
        "Qwen2.5-14B with 0.5B, Llama-3.1-8B with 1B; RULER and LongBench, 1024 to 3072 tokens, against LLMLingua-2 "
        "and others (here: against sinks and a window of as many keys)",
        Needles(than="streaming"),
    )

    sinks: int = 0
    recent: int = 32
    pool: int = 16
    neighbours: int = 16
    start: int = 8
    depth: float = 0.5
    draft: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.pool, self.neighbours) < 1 or self.start < 0 or not 0 < self.depth <= 1:
            raise ArgumentError(
                f"pool={self.pool}, neighbours={self.neighbours}, start={self.start}, depth={self.depth}: "
                "at least 1, at least 1, not negative, and a share above 0 and up to 1"
            )

    def reads(self, lm: LM, ids: Sequence[int], budget: int) -> np.ndarray | None:
        """The tokens that the draft heeds."""
        if budget >= len(ids):
            return None
        draft = shallow(lm, self.depth) if self.draft is None else as_lm(self.draft)
        share = heeded(draft, ids, self.start, self.recent)
        left, right = (self.pool - 1) // 2, self.pool // 2
        wide = torch.nn.functional.pad(share[None], (left, right))
        order = torch.nn.functional.max_pool1d(wide, self.pool, stride=1)[0].argsort(descending=True, stable=True)
        return self.with_neighbours(order[:budget].tolist(), len(ids), budget)

    def with_neighbours(self, order: Sequence[int], length: int, budget: int) -> np.ndarray:
        """The newest tokens, then those of ``order`` with their neighbours, nearest first: int64, ascending."""
        steps = range(-((self.neighbours - 1) // 2), self.neighbours // 2 + 1)
        near = sorted(steps, key=abs)
        first = range(length - 1, max(-1, length - 1 - self.recent), -1)
        wanted = [min(max(j + step, 0), length - 1) for j in order for step in near]
        return np.array(sorted(list(dict.fromkeys([*first, *wanted]))[:budget]), np.int64)

    def score(self, view: HeadView) -> torch.Tensor:
        """All alike: what was read stays."""
        return torch.zeros(len(view.keys))
