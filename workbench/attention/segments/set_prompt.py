"""Set-based prompting: options that do not see each other and share their positions.

Reid McIlroy-Young, Katrina Brown, Conlan Olson, Linjun Zhang, Cynthia Dwork. Order-Independence Without Fine Tuning.
NeurIPS 2024. arXiv:2406.06581.

    option i, token t:  position |before| + t,  sees before and itself
    after,    token t:  position |before| + max_i |option i| + t,  sees everything

Nothing tells the options apart but what they say, so that the answer does not depend on their order.

Departs from the paper: options are read in one order, that of their token ids, whatever order they are given in. The
sums of attention are then the same to the last bit, where the paper's invariance is that of exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from workbench._citation import Citation
from workbench.attention.segments._method import Ids, Part, SegmentMethod, segment_method
from workbench.attention.segments.claims import SameInEveryOrder
from workbench.claims import Claim
from workbench.errors import ArgumentError


@segment_method
@dataclass(frozen=True)
class SetPrompt(SegmentMethod):
    """Options as a set.

    Attributes
    ----------
    canonical
        Read options in the order of their token ids; else as given, equal up to rounding.
    """

    name: ClassVar[str] = "set-prompt"
    title: ClassVar[str] = "Set-based prompting"
    formula: ClassVar[str] = "options start at |before| and see no other option; after starts at the longest one's end"
    citation: ClassVar[Citation] = Citation(
        "Reid McIlroy-Young, Katrina Brown, Conlan Olson, Linjun Zhang, Cynthia Dwork",
        "Order-Independence Without Fine Tuning",
        2024,
        "2406.06581",
        "NeurIPS",
    )
    claim: ClassVar[Claim] = Claim(
        "The answer does not depend at all on the order of the options, and is hardly less often right.",
        "GPT-2 and Llama models, among others; multiple-choice questions of CommonsenseQA and MMLU",
        SameInEveryOrder(),
    )

    canonical: bool = True

    def place(self, before: int, parts: Sequence[Ids], edges: Sequence[tuple[int, int]]) -> list[Part]:
        """All at one place."""
        if edges:
            raise ArgumentError(f"edges={list(edges)[:3]}: set-prompt takes none, its parts do not see each other")
        indices = range(len(parts))
        order = sorted(indices, key=lambda n: parts[n]) if self.canonical else indices
        return [Part(n, before) for n in order]
