"""Beam search: the B most likely beginnings are kept, step by step, and the best finished text is said.

Alex Graves. Sequence Transduction with Recurrent Neural Networks. 2012. arXiv:1211.3711 (section 2.5).

    score(y) = log p(y | x) / |y|^alpha          |y| counts the token that ends the text

Running beams are compared by their sums, which are of one length; finished texts by their scores. The rules are those
of transformers: of the 2 B best continuations the B best unfinished ones run on, those among the first B that end are
finished. Departs from the paper in how lengths are compared and when it ends: it is over when B texts are finished and

    early_stopping=True       at once
    early_stopping=False      no running beam, at its present length, scores above the worst of them
    early_stopping="never"    none does at the greatest length either (alpha > 0): nothing better can come,
                              if the search is wide enough

or when the limit of tokens is reached, which finishes what runs. A text in ``stop`` ends what is said, not the search.

Events: ``expand`` for every beam kept or finished (parent: the one it continues; value: its sum; branch: its rank),
``prune`` with a token for a continuation looked at and dropped, without one for a beam that nothing continues,
``score`` for a finished text. ``trace.notes["hypotheses"]`` has the finished ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import Decoder, decoder
from workbench.decode.baseline._beams import Group, check, emit_best, rules, search
from workbench.decode.batch import begin
from workbench.decode.claims import DecodingContext, Paired
from workbench.decode.run import Run
from workbench.decode.sampling import Sampler
from workbench.errors import ArgumentError


def deterministic(sampler: Sampler) -> Sampler:
    """The sampler, if it draws nothing."""
    if not sampler.greedy:
        raise ArgumentError(f"temperature={sampler.temperature}: a search with beams draws nothing; leave it at 0")
    return sampler


def _likelihoods(context: DecodingContext, _name: str, item: Any, _seed: int) -> tuple[float, float]:
    """Log-probability per token of what four beams and one beam say."""
    found = []
    for width in (4, 1):
        chosen = BeamSearch(width=width)
        notes = context.generate(chosen, item, max_new_tokens=32).trace.notes["hypotheses"]
        found.append(float(notes[0]["score"]))
    return found[0], found[1]


@decoder
@dataclass(frozen=True)
class BeamSearch(Decoder):
    """The most likely beginnings side by side.

    Attributes
    ----------
    width
        Beams B.
    alpha
        Exponent of the length: above 0 favours long texts, below 0 short ones; 0 compares sums.
    early_stopping
        True, False or ``"never"``: see the table in this module.
    """

    name: ClassVar[str] = "beam"
    title: ClassVar[str] = "Beam search"
    family: ClassVar[str] = "baseline"
    formula: ClassVar[str] = "argmax_y log p(y | x) / |y|^alpha over the B best beginnings of each length"
    citation: ClassVar[Citation] = Citation(
        "Alex Graves", "Sequence Transduction with Recurrent Neural Networks", 2012, "1211.3711"
    )
    claim: ClassVar[Claim] = Claim(
        "Beams find texts that the model holds more likely than those that it says greedily.",
        "speech recognition on TIMIT, width 100; with length normalisation as in machine translation",
        Paired(
            quantity="log-probability per token, less that of greedy decoding, answers of 32 tokens",
            figures=_likelihoods,
            difference=True,
            at_least=0.0,
            seeds=False,
        ),
    )

    width: int = 4
    alpha: float = 1.0
    early_stopping: bool | str = False

    def __post_init__(self) -> None:
        check(self.width, self.early_stopping)
        if not math.isfinite(self.alpha):
            raise ArgumentError(f"alpha={self.alpha}: a finite number")

    def sampler(self, sampler: Sampler) -> Sampler:
        """Only one that draws nothing."""
        return deterministic(sampler)

    def decode(self, run: Run) -> None:
        """Search, then say the best."""
        batch = begin(run)
        groups = [Group(rules(run, self.width, self.alpha, self.early_stopping))]
        search(run, batch, groups)
        emit_best(run, groups)
