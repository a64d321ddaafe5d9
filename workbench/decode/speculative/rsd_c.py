"""Recursive speculative decoding with constant branching: every node of the draft gets several children at once.

Wonseok Jeon, Mukul Gagrani, Raghavv Goel, Junyoung Park, Mingu Lee, Christopher Lott. Recursive Speculative Decoding:
Accelerating LLM Inference via Sampling Without Replacement. 2024. arXiv:2402.14160. (RSD-C.)

    children of a node at depth d: the b_d tokens with the largest log q(x) + g_x, g_x standard Gumbel
    in that order:  accept x if u < p(x) / q(x);  else p <- norm [p - q]+,  q <- norm (q without x)

Gumbel-top-k finds tokens in the order of drawing them one after the other from what is left of q, which is what the
rule (`WithoutReplacement`) takes for granted: siblings in another order give another distribution, as a test shows. At
temperature 0 the children are the most likely tokens. Departs from the paper in the sizes: b = (2, 2, 1, 1), 14 nodes,
because trees of 30 and more cost more than they yield on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import decoder
from workbench.decode.claims import TokensPerForward
from workbench.decode.run import Run
from workbench.decode.speculative._base import Drafter
from workbench.decode.speculative._draft import Drafted, Follower, Levels, Node
from workbench.decode.speculative._draft_checks import pruned_chain, pruned_draft
from workbench.errors import ArgumentError

RSD = Citation(
    "Wonseok Jeon, Mukul Gagrani, Raghavv Goel, Junyoung Park, Mingu Lee, Christopher Lott",
    "Recursive Speculative Decoding: Accelerating LLM Inference via Sampling Without Replacement",
    2024,
    "2402.14160",
)


@decoder
@dataclass(frozen=True)
class ConstantBranching(Drafted):
    """A tree with as many children per node as its level says.

    Attributes
    ----------
    branching
        b: children of every node, level by level.
    """

    name: ClassVar[str] = "rsd-c"
    title: ClassVar[str] = "Recursive speculative decoding, constant branching"
    formula: ClassVar[str] = "children = top b of log q + Gumbel; after a refusal p <- norm [p - q]+, q <- norm q\\x"
    citation: ClassVar[Citation] = RSD

    claim: ClassVar[Claim] = Claim(
        "Trees drawn without replacement yield more tokens per pass of the target than a chain of the same length.",
        "Llama 2 and OPT with small drafts, sampled: higher block efficiency than speculative decoding",
        TokensPerForward(
            than="draft-model",
            parameters=pruned_draft,
            than_parameters=partial(pruned_chain, tokens=4),
            temperature=0.8,
            kinds=("free",),
        ),
    )

    branching: tuple[int, ...] = (2, 2, 1, 1)

    def __post_init__(self) -> None:
        check_branching("branching", self.branching)

    def drafter(self, run: Run) -> Drafter:
        """Trees of the draft model."""
        return Branches(run, self.follower(run), self.branching)


class Branches(Levels):
    """Every node of level d gets ``branching[d]`` children, drawn without replacement."""

    def __init__(self, run: Run, follower: Follower, branching: Sequence[int]) -> None:
        super().__init__(run, follower, len(branching))
        self.branching = tuple(branching)

    def expand(self, depth: int, level: Sequence[Node]) -> list[Node]:
        """Children of all nodes, node by node."""
        found: list[Node] = []
        for node in level:
            q = node.chances
            tokens, _ = self.draw(q, self.branching[depth])
            found += [node.child(int(x), float(v)) for x, v in zip(tokens, np.log(q[tokens]), strict=True)]
        return found


def check_branching(name: str, branching: Sequence[int]) -> None:
    """Raise `ArgumentError` unless it gives the children of every level."""
    if not branching or min(branching) < 1:
        raise ArgumentError(f"{name}={tuple(branching)}: children of a node, level by level, each at least 1")
