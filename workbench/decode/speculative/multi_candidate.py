"""Improved multi-candidate speculative decoding: a tree from the target's own token, cut off where the draft is unsure.

Xiaofan Lu, Yixiao Zeng, Feiyang Ma, Zixu Yu, Marco Levorato. Improving Multi-candidate Speculative Decoding. 2024.
arXiv:2409.10644. It builds on: Sen Yang, Shujian Huang, Xinyu Dai, Jiajun Chen. Multi-Candidate Speculative Decoding.
2024. arXiv:2401.06706.

    k = (k_1, k_2, ...): each node at depth d has k_d children, drawn from q without replacement
    after a level:  stop if  sum over its nodes of prod q(path)  <  stop_below

Three ideas of the paper. (1) *The first level comes from the target*: its last logits p are known before drafting, so
candidates can be drawn from p itself. By the exact rule, with q = p the first candidate is accepted with probability
min(1, p / p) = 1, and no other is ever looked at (a test shows it). Keeping the candidate whose branch goes deepest
would favour predictable tokens and change the distribution, which this method promises to keep. So the exact form of
the idea is a first level of one token drawn from p: the target's own token, on which every draft hangs here. (2) *One
mask, sliced*: that is what the verifier does for all trees. (3) *A decision when to stop*: the paper trains a small
network; here it is the mass above, the draft's own estimate of the chance that the target goes on inside the tree. It
looks at tokens that were drawn and stay drawn, so that it does not touch the distribution.

Departs from the paper also in the sizes: k = (3, 2, 1), 15 nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import decoder
from workbench.decode.claims import FasterThan
from workbench.decode.run import Run
from workbench.decode.speculative._base import Drafter
from workbench.decode.speculative._draft import Drafted, Follower, Node
from workbench.decode.speculative._draft_checks import pruned_draft
from workbench.decode.speculative.rsd_c import Branches, check_branching
from workbench.errors import ArgumentError


@decoder
@dataclass(frozen=True)
class MultiCandidate(Drafted):
    """Several candidates per node, and an early end.

    Attributes
    ----------
    k_config
        Candidates below every node, level by level.
    stop_below
        No level below one whose paths have less probability than this, all together; 0 never stops early.
    """

    name: ClassVar[str] = "multi-candidate"
    title: ClassVar[str] = "Multi-candidate speculative decoding, improved"
    formula: ClassVar[str] = "k_d children per node from q without replacement; stop if the sum of prod q < stop_below"
    citation: ClassVar[Citation] = Citation(
        "Xiaofan Lu, Yixiao Zeng, Feiyang Ma, Zixu Yu, Marco Levorato",
        "Improving Multi-candidate Speculative Decoding",
        2024,
        "2409.10644",
    )

    claim: ClassVar[Claim] = Claim(
        "Deciding when to stop makes multi-candidate drafting faster than trees of fixed depth.",
        "Llama 2 7B with a draft of 68M: up to 27.5 % faster than multi-candidate decoding, all three ideas together",
        FasterThan(
            than="multi-candidate",
            parameters=pruned_draft,
            than_parameters=lambda context: {**pruned_draft(context), "stop_below": 0.0},
            kinds=("free",),
        ),
    )

    k_config: tuple[int, ...] = (3, 2, 1)
    stop_below: float = 0.4

    def __post_init__(self) -> None:
        check_branching("k_config", self.k_config)
        if not 0 <= self.stop_below <= 1:
            raise ArgumentError(f"stop_below={self.stop_below}: a probability, 0 to 1")

    def drafter(self, run: Run) -> Drafter:
        """Trees of the draft model."""
        return _Deciding(run, self.follower(run), self.k_config, self.stop_below)


class _Deciding(Branches):
    def __init__(self, run: Run, follower: Follower, branching: Sequence[int], stop_below: float) -> None:
        super().__init__(run, follower, branching)
        self.stop_below = stop_below

    def enough(self, level: Sequence[Node]) -> bool:
        """Whether the target has likely left the tree by now."""
        return float(np.exp([node.path for node in level]).sum()) < self.stop_below
