"""Diverse beam search: groups of beams, each told to differ from those before it.

Ashwin K. Vijayakumar, Michael Cogswell, Ramprasath R. Selvaraju, Qing Sun, Stefan Lee, David Crandall, Dhruv Batra.
Diverse Beam Search: Decoding Diverse Solutions from Neural Sequence Models. 2016. arXiv:1610.02424.

    group g at step t adds to its beams' scores    log p(y_t | y_<t) - lambda #{beams of groups < g that said y_t at t}

The B beams are G groups of B / G; each is a beam search by the rules of `beam`. As in the authors' code, what a beam
paid stays in its score while the group runs; the texts of all groups are then ranked by log p / |y|^alpha alone. One
group is beam search. Departs from the paper: the dissimilarity is
Hamming's alone, its best; it has others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import Decoder, decoder
from workbench.decode.baseline._beams import Group, check, emit_best, rules, search
from workbench.decode.baseline.beam import BeamSearch, deterministic
from workbench.decode.batch import begin
from workbench.decode.claims import DecodingContext, Paired
from workbench.decode.run import Run
from workbench.decode.sampling import Sampler
from workbench.errors import ArgumentError


def distinct(texts: Sequence[Sequence[int]], n: int = 2) -> float:
    """Different runs of n tokens in these texts, of all runs; 1 if no text is that long."""
    found = [tuple(t[i : i + n]) for t in texts for i in range(len(t) - n + 1)]
    return len(set(found)) / len(found) if found else 1.0


def _variety(context: DecodingContext, _name: str, item: Any, _seed: int) -> tuple[float, float]:
    """Different pairs of tokens among the texts that both searches finish."""
    found = []
    for method in (DiverseBeamSearch(), BeamSearch(width=6)):
        notes = context.generate(method, item, max_new_tokens=24).trace.notes["hypotheses"]
        found.append(distinct([h["tokens"] for h in notes]))
    return found[0], found[1]


@decoder
@dataclass(frozen=True)
class DiverseBeamSearch(Decoder):
    """Groups of beams that differ.

    Attributes
    ----------
    width
        Beams B of all groups.
    groups
        G; a divisor of ``width``.
    penalty
        lambda, in nats.
    alpha, early_stopping
        As for `beam`.
    """

    name: ClassVar[str] = "diverse-beam"
    title: ClassVar[str] = "Diverse beam search"
    family: ClassVar[str] = "baseline"
    formula: ClassVar[str] = "score += log p(y_t | y_<t) - lambda #{beams of earlier groups that said y_t at t}"
    citation: ClassVar[Citation] = Citation(
        "Ashwin K. Vijayakumar et al.",
        "Diverse Beam Search: Decoding Diverse Solutions from Neural Sequence Models",
        2016,
        "1610.02424",
    )
    claim: ClassVar[Claim] = Claim(
        "At equal width, groups that pay for repeating others find lists of texts with more distinct pairs of words.",
        "image captions, machine translation; B up to 100, distinct n-grams",
        Paired(
            quantity="distinct pairs of tokens among six texts, relative to beam search",
            figures=_variety,
            at_least=1.0,
            seeds=False,
        ),
    )

    width: int = 6
    groups: int = 3
    penalty: float = 0.5
    alpha: float = 1.0
    early_stopping: bool | str = False

    def __post_init__(self) -> None:
        check(self.width, self.early_stopping)
        if not math.isfinite(self.alpha):
            raise ArgumentError(f"alpha={self.alpha}: a finite number")
        if not 1 <= self.groups <= self.width or self.width % self.groups:
            raise ArgumentError(f"groups={self.groups}: a divisor of width={self.width}")
        if not 0 <= self.penalty < math.inf:
            raise ArgumentError(f"penalty={self.penalty}: 0 or more")

    def sampler(self, sampler: Sampler) -> Sampler:
        """Only one that draws nothing."""
        return deterministic(sampler)

    def decode(self, run: Run) -> None:
        """Search in all groups, then say the best text of any."""
        batch, size = begin(run), self.width // self.groups
        shared = rules(run, size, self.alpha, self.early_stopping)
        groups = [Group(shared, first=n * size) for n in range(self.groups)]
        search(run, batch, groups, self.penalty)
        emit_best(run, groups)
