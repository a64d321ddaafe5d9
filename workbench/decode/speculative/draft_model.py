"""Speculative sampling: a small model drafts, the large one checks a whole draft in one pass.

Yaniv Leviathan, Matan Kalman, Yossi Matias. Fast Inference from Transformers via Speculative Decoding. ICML 2023.
arXiv:2211.17192. And: Charlie Chen, Sebastian Borgeaud, Geoffrey Irving, Jean-Baptiste Lespiau, Laurent Sifre, John
Jumper. Accelerating Large Language Model Decoding with Speculative Sampling. 2023. arXiv:2302.01318.

    x_i ~ q(. | x_<i), i = 1 ... gamma        accept x_i while u_i < p(x_i) / q(x_i)        else x ~ norm [p - q]+

Temperature and filters apply to q as to p. Departs from the papers: drafting stops early behind a token with q below
``confidence``, as in transformers' assisted generation; gamma is 7, because a pass of 8 tokens costs little more than
one of a single token here, and one of more costs more. The draft need not be another model: the same model, pruned
or rounded and compiled, drafts well, and with ``draft=None`` an int8 copy of the target does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import decoder
from workbench.decode.claims import FasterThan
from workbench.decode.run import Run
from workbench.decode.speculative._base import Drafter
from workbench.decode.speculative._draft import Chain, Drafted
from workbench.errors import ArgumentError


@decoder
@dataclass(frozen=True)
class DraftModel(Drafted):
    """A draft model drafts a chain.

    Attributes
    ----------
    draft_tokens
        gamma, at most.
    confidence
        A drafted token with a smaller probability is the last one; 0 always drafts gamma.
    """

    name: ClassVar[str] = "draft-model"
    title: ClassVar[str] = "Draft model (speculative sampling)"
    formula: ClassVar[str] = "x_i ~ q; accept x_i while u_i < p(x_i) / q(x_i), else x ~ norm [p - q]+"
    citation: ClassVar[Citation] = Citation(
        "Yaniv Leviathan, Matan Kalman, Yossi Matias",
        "Fast Inference from Transformers via Speculative Decoding",
        2023,
        "2211.17192",
    )

    claim: ClassVar[Claim] = Claim(
        "A cheaper draft model makes decoding twice to three times as fast, and outputs stay the same.",
        "T5-XXL 11B with T5-small, translation and summaries, one TPU-v4 (here: the draft is the model itself in int8)",
        FasterThan(at_least=2.0),
    )

    draft_tokens: int = 7
    confidence: float = 0.4

    def __post_init__(self) -> None:
        check_chain(self.draft_tokens, self.confidence)

    def drafter(self, run: Run) -> Drafter:
        """A chain of the draft model."""
        return Chain(run, self.follower(run), self.draft_tokens, self.confidence)


def check_chain(draft_tokens: int, confidence: float) -> None:
    """Raise `ArgumentError` unless a chain can be drafted so."""
    if draft_tokens < 1 or not 0 <= confidence <= 1:
        raise ArgumentError(
            f"draft_tokens={draft_tokens}, confidence={confidence}: at least 1, and a probability from 0 to 1"
        )
