"""What tells a good hypothesis from a bad one. Higher is better.

    log-p, mean-log-p    log p(y | x), and per token: what the model itself thinks of it
    pmi                  (log p(y | x) - log p(y)) / |y|: how much more likely the question makes it (Li et al., 2025)
    votes                share of the hypotheses with the same answer (Wang et al., 2022)
    a function           of the text so far: a verifier, whether it checks an equation or runs a test

Jiaxi Li, Yucheng Shi, Jin Lu, Ninghao Liu. MITS: Enhanced Tree Search Reasoning for LLMs via Pointwise Mutual
Information. 2025. arXiv:2510.03632 (steps there, tokens here: both sum over the text; p(y) is what the model says after
its first token alone, or after a text without the question).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.decode.batch import elsewhere
from workbench.decode.run import Run
from workbench.decode.search._hypotheses import Hypothesis, log_sum, text_of
from workbench.errors import ArgumentError, unknown

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def last_number(text: str) -> str:
    """The last number in a text, else the text itself without surrounding blanks.

    Examples
    --------
    >>> last_number("3 + 4 = 7, so 7."), last_number(" Paris ")
    ('7', 'Paris')
    """
    found = NUMBER.findall(text.replace(",", ""))
    return found[-1] if found else text.strip()


class Scorer(ABC):
    """Scores hypotheses."""

    @abstractmethod
    def score(self, run: Run, hypotheses: Sequence[Hypothesis]) -> np.ndarray:
        """Float64 ``[N]``; higher is better. As a log-weight: exp(score) is the weight."""

    @property
    def source(self) -> str:
        """How records name it."""
        return repr(self)


@dataclass(frozen=True)
class LogProbability(Scorer):
    """``log p(y | x)``, or its mean over tokens."""

    mean: bool = False

    def score(self, run: Run, hypotheses: Sequence[Hypothesis]) -> np.ndarray:
        """Sum or mean of what is known already."""
        del run
        return np.array([h.total / (len(h.tokens) if self.mean and h.tokens else 1) for h in hypotheses])


@dataclass(frozen=True)
class PMI(Scorer):
    """``(log p(y | x) - log p(y | without)) / |y|``; costs a pass of the target per hypothesis.

    Attributes
    ----------
    without
        The prompt without the question, as text or token ids; empty for the prompt's first token alone.
    """

    without: str | tuple[int, ...] = ()

    def score(self, run: Run, hypotheses: Sequence[Hypothesis]) -> np.ndarray:
        """Read every text again behind ``without``."""
        start = self._start(run)
        with elsewhere(run.target):
            return np.array([self._of(run, start, h) for h in hypotheses])

    def _start(self, run: Run) -> list[int]:
        if not self.without:
            return [run.prompt[0]]
        if not isinstance(self.without, str):
            return [int(t) for t in self.without]
        if run.target.tokenizer is None:
            raise ArgumentError("without is text, but the model has no tokenizer: give token ids")
        return list(run.target.tokenizer(self.without)["input_ids"])

    @staticmethod
    def _of(run: Run, start: list[int], hypothesis: Hypothesis) -> float:
        if not hypothesis.tokens:
            return 0.0
        logits = run.forward([*start, *hypothesis.tokens[:-1]]).logits[len(start) - 1 :]
        run.target.crop()
        prior = sum(float(row[t]) - log_sum(row) for row, t in zip(logits, hypothesis.tokens, strict=True))
        return (hypothesis.total - prior) / len(hypothesis.tokens)


@dataclass(frozen=True)
class Verifier(Scorer):
    """A function of the text so far."""

    function: Callable[[str], float]

    def score(self, run: Run, hypotheses: Sequence[Hypothesis]) -> np.ndarray:
        """What it returns."""
        return np.array([float(self.function(text_of(run, h))) for h in hypotheses])

    @property
    def source(self) -> str:
        """With the function's name."""
        return f"Verifier({getattr(self.function, '__name__', type(self.function).__name__)})"


@dataclass(frozen=True)
class Votes(Scorer):
    """Share of the hypotheses that come to the same answer."""

    answer: Callable[[str], Hashable] = last_number

    def score(self, run: Run, hypotheses: Sequence[Hypothesis]) -> np.ndarray:
        """Count equal answers."""
        answers = [self.answer(text_of(run, h)) for h in hypotheses]
        counts = Counter(answers)
        return np.array([counts[a] / len(answers) for a in answers])

    @property
    def source(self) -> str:
        """With the function's name."""
        return f"Votes({getattr(self.answer, '__name__', type(self.answer).__name__)})"


SCORERS: dict[str, Scorer] = {
    "log-p": LogProbability(),
    "mean-log-p": LogProbability(mean=True),
    "pmi": PMI(),
    "votes": Votes(),
}


def as_scorer(chosen: str | Scorer | Callable[[str], float]) -> Scorer:
    """A scorer from a scorer, a name, or a function of the text.

    Raises
    ------
    ArgumentError
        If it is none of them.
    """
    if isinstance(chosen, Scorer):
        return chosen
    if isinstance(chosen, str):
        if chosen not in SCORERS:
            raise unknown("scorer", chosen, SCORERS)
        return SCORERS[chosen]
    if callable(chosen):
        return Verifier(chosen)
    raise ArgumentError(f"scorer={chosen!r}: a name ({', '.join(SCORERS)}), a function of the text, or a Scorer")
