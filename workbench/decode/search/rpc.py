"""RPC: answers are weighed by the probability of the texts that lead to them, and unlikely texts are left out.

Zhi Zhou, Yuhao Tan, Zenan Li, Yuan Yao, Lan-Zhe Guo, Xiaoxing Ma, Yu-Feng Li. Bridging Internal Probability and
Self-Consistency for Effective and Efficient LLM Reasoning. 2025. arXiv:2502.00511.

    perplexity consistency    confidence(a) = sum of p(y | x) over the different texts y, of n drawn ones, with answer a
    reasoning pruning         p(y | x) follows two Weibull distributions; y goes if it rather comes from the one of the
                              smaller mean and p(y | x) is below the mean of all

Nothing is to be tuned. The most likely text with the answer of the greatest confidence is said. Departs from the
authors' code: the mixture is fitted by expectation and maximisation on log p from three starts (there: a general
minimiser from one); with fewer than four different probabilities nothing is pruned.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import decoder
from workbench.decode.batch import say
from workbench.decode.run import Run
from workbench.decode.search._hypotheses import Pool, Search, text_of
from workbench.decode.search._weibull import fit_mixture
from workbench.decode.search.checks import half_and_votes, more_right
from workbench.decode.search.scorers import last_number
from workbench.errors import ArgumentError

FEWEST = 4  # different probabilities that a mixture is fitted to


def keep(log_p: np.ndarray) -> np.ndarray:
    """Which texts of these log-probabilities stay, bool [N]; never none."""
    if len(np.unique(log_p)) < FEWEST:
        return np.ones(len(log_p), bool)
    likely = fit_mixture(log_p).chance_high(log_p) >= 0.5
    scaled = np.exp(log_p - log_p.max())
    return likely | (scaled >= scaled.mean())


def confidences(texts: Sequence[Hashable], answers: Sequence[Hashable], log_p: np.ndarray) -> dict[Hashable, float]:
    """Share of each answer in the probability of all different texts, the greatest first."""
    unique = {text: n for n, text in reversed(list(enumerate(texts)))}
    found: dict[Hashable, float] = {}
    top = log_p[list(unique.values())].max()
    for n in sorted(unique.values()):
        found[answers[n]] = found.get(answers[n], 0.0) + float(np.exp(log_p[n] - top))
    total = sum(found.values())
    return {a: c / total for a, c in sorted(found.items(), key=lambda item: -item[1])}


@decoder
@dataclass(frozen=True)
class RPC(Search):
    """Answers weighed by the probability of their texts.

    Attributes
    ----------
    n
        Texts.
    answer
        Of a text: what is voted on. By default the last number, else the whole text.
    prune
        Whether unlikely texts are left out.
    """

    name: ClassVar[str] = "rpc"
    title: ClassVar[str] = "RPC: perplexity consistency with reasoning pruning"
    formula: ClassVar[str] = "argmax_a sum_{different y with answer a, not pruned} p(y | x)"
    temperature: ClassVar[float] = 1.0
    citation: ClassVar[Citation] = Citation(
        "Zhi Zhou et al.",
        "Bridging Internal Probability and Self-Consistency for Effective and Efficient LLM Reasoning",
        2025,
        "2502.00511",
    )
    claim: ClassVar[Claim] = Claim(
        "Half as many texts are as good as self-consistency: 8 against 16, right answers at most 0.03 fewer.",
        "MATH, MathOdyssey, OlympiadBench, AIME; models of 7 billion parameters, up to 128 texts",
        more_right("right answers of RPC with 8 texts, less those of votes of 16", half_and_votes, "add", 80, -0.03),
    )

    n: int = 16
    answer: Callable[[str], Hashable] = last_number
    prune: bool = True

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ArgumentError(f"n={self.n}: at least 1 text")
        if not callable(self.answer):
            raise ArgumentError(f"answer={self.answer!r}: a function of the text")

    @property
    def parameters(self) -> dict[str, Any]:
        """Ready for JSON."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return own | {"answer": getattr(self.answer, "__name__", type(self.answer).__name__)}

    def decode(self, run: Run) -> None:
        """Draw all, prune, weigh, say."""
        found = Pool(run, self.n).finish()
        log_p, answers = np.array([h.total for h in found]), [self.answer(text_of(run, h)) for h in found]
        stays = keep(log_p) if self.prune else np.ones(len(found), bool)
        kept = np.flatnonzero(stays).tolist()
        shares = confidences([found[n].tokens for n in kept], [answers[n] for n in kept], log_p[kept])
        best = next(iter(shares))
        said = max((n for n in kept if answers[n] == best), key=lambda n: log_p[n])
        scores = [shares.get(a, 0.0) if s else 0.0 for a, s in zip(answers, stays, strict=True)]
        for hypothesis, score in zip(found, scores, strict=True):
            run.trace.add("score", parent=hypothesis.event, branch=hypothesis.branch, value=score)
        for n in np.flatnonzero(~stays).tolist():
            run.trace.add("prune", parent=found[n].event, branch=n, value=float(log_p[n]))
        self.note(run, found, scores)
        run.trace.notes["answers"] = {str(a): c for a, c in shares.items()}
        say(run, found[said].tokens, found[said].events, found[said].finished)
