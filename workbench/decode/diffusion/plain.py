"""A fixed number of tokens per evaluation: what parallel unmasking is compared with, and one by one.

Nie et al., "Large Language Diffusion Models" (LLaDA), 2025, arXiv 2502.09992; after Chang et al., "MaskGIT: Masked
Generative Image Transformer", 2022, arXiv 2202.04200.

    c_i = p(x_i | canvas), x_i argmax or drawn;  keep the k masked places of the highest c_i, or k at random;  repeat

With k = 1 nothing is drawn in parallel, and no error of independence can happen. LLaDA fixes the number of rounds and
spreads the tokens over them; we fix the tokens of a round, the same where one divides the other. No blocks: the
answers here are one block long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import decoder
from workbench.decode.diffusion._base import InRounds, Proposal
from workbench.decode.diffusion.checks import FewerEvaluations
from workbench.errors import ArgumentError, unknown

ORDERS = ("confidence", "random")


@decoder
@dataclass(frozen=True)
class Unmask(InRounds):
    """The k most confident places of each round.

    Attributes
    ----------
    each
        k, tokens per evaluation.
    order
        ``"confidence"``, or ``"random"``: any k places.
    """

    each: int = 1
    order: str = "confidence"

    name: ClassVar[str] = "unmask"
    title: ClassVar[str] = "Masked diffusion, k tokens at a time"
    formula: ClassVar[str] = "keep the k masked i of the highest p(x_i | canvas), then evaluate again"
    citation: ClassVar[Citation | None] = Citation(
        "Shen Nie et al.", "Large Language Diffusion Models", 2025, "2502.09992"
    )
    claim: ClassVar[Claim | None] = Claim(
        "Kept by confidence, two tokens an evaluation are as often right as one at a time in random order.",
        "LLaDA-8B: keeping the most confident tokens beats keeping random ones on all benchmarks tried",
        FewerEvaluations(at_most=0.75, parameters={"each": 2}, than_parameters={"order": "random"}),
    )

    def __post_init__(self) -> None:
        if self.each < 1:
            raise ArgumentError(f"each={self.each}: at least 1 token per evaluation")
        if self.order not in ORDERS:
            raise unknown("order", self.order, ORDERS)

    def select(self, found: Proposal, random: np.random.Generator) -> np.ndarray:
        """The first k by the order; of equals the one further left."""
        if self.order == "random":
            return random.permutation(len(found.place))[: self.each]
        return np.argsort(-found.confidence, kind="stable")[: self.each]
