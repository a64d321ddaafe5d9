"""Recursive speculative decoding by stochastic beam search: a draft of whole texts drawn without replacement.

Wonseok Jeon, Mukul Gagrani, Raghavv Goel, Junyoung Park, Mingu Lee, Christopher Lott. Recursive Speculative Decoding:
Accelerating LLM Inference via Sampling Without Replacement. 2024. arXiv:2402.14160. (RSD-S.) The search is that of
Wouter Kool, Herke van Hoof, Max Welling. Stochastic Beams and Where to Find Them. ICML 2019. arXiv:1903.06059.

    phi(x) = phi(parent) + log q(x)          g(x) = phi(x) + Gumbel          Z = max over siblings of g
    G(x) = -log( exp(-G(parent)) - exp(-Z) + exp(-g(x)) )                    the w largest G of a level stay

G(x) are Gumbel noises that are conditioned on their largest being the parent's. Is the rule (`WithoutReplacement`)
right for what stays below a node? How many children stay depends on which they are: behind a likely first child the
second one has a low G, and is more often cut off. But siblings stay in falling order of G, so whether child j + 1 stays
depends on the first j children, the value of its own G, and on other nodes; and given the first j, the value of the
next maximum is independent of which token attains it. So child j + 1, where there is one, is drawn from q without the
first j, and where there is none the rule draws from the p that remains: each step has the distribution that it should
have. That holds for siblings in falling order of G only; a test breaks the order and sees it. Nodes whose children are
all cut off stay in the draft. At temperature 0 it is a beam search by phi.
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
from workbench.decode.speculative.rsd_c import RSD
from workbench.errors import ArgumentError


@decoder
@dataclass(frozen=True)
class StochasticBeam(Drafted):
    """A tree from stochastic beam search.

    Attributes
    ----------
    width
        w, nodes of every level.
    depth
        Levels.
    """

    name: ClassVar[str] = "rsd-s"
    title: ClassVar[str] = "Recursive speculative decoding, stochastic beam"
    formula: ClassVar[str] = "G = -log(exp(-G_parent) - exp(-Z) + exp(-g)); the w largest of a level stay"
    citation: ClassVar[Citation] = RSD

    claim: ClassVar[Claim] = Claim(
        "Trees drawn without replacement yield more tokens per pass of the target than a chain of the same length.",
        "Llama 2 and OPT with small drafts, sampled: higher block efficiency than speculative decoding",
        TokensPerForward(
            than="draft-model",
            parameters=pruned_draft,
            than_parameters=partial(pruned_chain, tokens=5),
            temperature=0.8,
            kinds=("free",),
        ),
    )

    width: int = 3
    depth: int = 5

    def __post_init__(self) -> None:
        if self.width < 1 or self.depth < 1:
            raise ArgumentError(f"width={self.width}, depth={self.depth}: nodes of a level and levels, at least 1")

    def drafter(self, run: Run) -> Drafter:
        """Trees of the draft model."""
        return _Beam(run, self.follower(run), self.width, self.depth)


class _Beam(Levels):
    def __init__(self, run: Run, follower: Follower, width: int, depth: int) -> None:
        super().__init__(run, follower, depth)
        self.width = width

    def expand(self, depth: int, level: Sequence[Node]) -> list[Node]:
        """The best of all children; ``score`` is G."""
        del depth
        found: list[Node] = []
        for node in level:
            q = node.chances
            tokens, keys = self.draw(q, self.width)
            keys = keys + node.path
            scores = keys if self.run.sampler.greedy else conditioned(keys, node.score)
            log_q = np.log(q[tokens])
            found += [node.child(int(x), float(v), float(s)) for x, v, s in zip(tokens, log_q, scores, strict=True)]
        return sorted(found, key=lambda node: -node.score)[: self.width]


def conditioned(keys: np.ndarray, parent: float) -> np.ndarray:
    """Gumbel noises ``g``, in falling order, conditioned on the largest being ``parent``: G.

    With v = parent - g + log(1 - exp(g - Z)):  G = parent - max(0, v) - log(1 + exp(-|v|)), which does not cancel.
    """
    behind = np.minimum(keys - keys[0], 0.0)
    with np.errstate(divide="ignore"):
        v = parent - keys + np.log(-np.expm1(behind))
    return parent - np.maximum(0.0, v) - np.log1p(np.exp(-np.abs(v)))
