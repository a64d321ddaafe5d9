"""Hypotheses that are drawn token by token, all of them in one batch: what the methods of this family share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from workbench.decode._method import Decoder
from workbench.decode.batch import WAIT, begin, room
from workbench.decode.run import Run
from workbench.decode.sampling import Sampler, draw


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A drawn text, or the beginning of one.

    Attributes
    ----------
    branch : int
        Its number.
    tokens : tuple of int
        With the token that ended it.
    log_p : tuple of float
        Of each token, by the model itself, whatever it was drawn with.
    events : tuple of int
        Of each token.
    finished : str
        Why it is over; empty while it is not.
    """

    branch: int
    tokens: tuple[int, ...] = ()
    log_p: tuple[float, ...] = ()
    events: tuple[int, ...] = ()
    finished: str = ""

    @property
    def event(self) -> int:
        """The newest one; the prompt's if there is none."""
        return self.events[-1] if self.events else 0

    @property
    def total(self) -> float:
        """Log-probability of the whole."""
        return float(sum(self.log_p))


class Pool:
    """Hypotheses of one prompt; those that are finished leave the batch.

    Parameters
    ----------
    run
    count
        How many.
    """

    def __init__(self, run: Run, count: int) -> None:
        self.run, self.limit = run, room(run)
        self.hypotheses = [Hypothesis(n) for n in range(count)]
        self.batch = begin(run, count)
        self._rows = list(range(count))  # hypothesis of each row of the batch

    @property
    def running(self) -> list[int]:
        """Hypotheses that are not finished."""
        return [n for n, h in enumerate(self.hypotheses) if not h.finished]

    def text(self, hypothesis: Hypothesis) -> str:
        """What it says; up to a stop text."""
        return text_of(self.run, hypothesis)

    def step(self, waits: Callable[[Hypothesis], bool] | None = None) -> bool:
        """Draw a token for every hypothesis that runs and does not wait; whether there was one."""
        grow = [n for n in self.running if waits is None or not waits(self.hypotheses[n])]
        if not grow:
            return False
        self._feed(set(grow))
        logits = {n: self.batch.logits[row] for row, n in enumerate(self._rows)}
        for n in grow:
            self.hypotheses[n] = self._drawn(self.hypotheses[n], logits[n])
        self.run.progress.step("searching", max(len(h.tokens) for h in self.hypotheses), self.limit)
        return True

    def _feed(self, grow: set[int]) -> None:
        """Pass the newest token of those that grow, unless the batch knows it already; drop the finished."""
        kept = [row for row, n in enumerate(self._rows) if not self.hypotheses[n].finished]
        if len(kept) < len(self._rows):
            self.batch.select(kept)
            self._rows = [self._rows[row] for row in kept]
        ids = np.full(len(self._rows), WAIT)
        for row, n in enumerate(self._rows):
            tokens = self.hypotheses[n].tokens
            if n in grow and len(tokens) > self.batch.lengths[row]:
                ids[row] = tokens[-1]
        if (ids != WAIT).any():
            self.run.trace.step += 1
            self.batch.forward(ids)
            longest = len(self.run.prompt) + int(self.batch.lengths.max())
            self.run.trace.add("verify", value=int((ids != WAIT).sum()), position=longest)

    def _drawn(self, before: Hypothesis, logits: np.ndarray) -> Hypothesis:
        run, u = self.run, float(self.run.random.random())
        token = draw(run.sampler.probabilities(logits), u)
        log_p = float(logits[token]) - log_sum(logits)
        total = before.total + log_p
        event = run.trace.add(
            "expand", token=token, parent=before.event, position=len(run.prompt) + len(before.tokens), value=total,
            branch=before.branch, u=u, log_p=log_p, logits=logits,
        )  # fmt: skip
        grown = replace(
            before, tokens=(*before.tokens, token), log_p=(*before.log_p, log_p), events=(*before.events, event)
        )
        return replace(grown, finished=self._over(grown))

    def _over(self, hypothesis: Hypothesis) -> str:
        if hypothesis.tokens[-1] in self.run.ends:
            return "stop token"
        if self.run.stop and any(s in self.run.decoded(hypothesis.tokens) for s in self.run.stop):
            return "stop text"
        return "limit" if len(hypothesis.tokens) >= self.limit else ""

    def select(self, chosen: Sequence[int]) -> None:
        """Go on with these hypotheses, in this order; one may occur several times."""
        place = {n: row for row, n in enumerate(self._rows)}
        picked = [(new, place[n]) for new, n in enumerate(chosen) if not self.hypotheses[n].finished]
        self.hypotheses = [replace(self.hypotheses[n], branch=new) for new, n in enumerate(chosen)]
        self._rows = [new for new, _ in picked]
        if picked:
            self.batch.select([row for _, row in picked])

    def finish(self) -> list[Hypothesis]:
        """Draw until all are finished."""
        while self.step():
            pass
        return self.hypotheses


def log_sum(logits: np.ndarray) -> float:
    """``log sum exp`` in float64."""
    wide = logits.astype(np.float64)
    top = float(wide.max())
    if top == -np.inf:
        return top
    return top + float(np.log(np.exp(wide - top).sum()))


def text_of(run: Run, hypothesis: Hypothesis) -> str:
    """What a hypothesis says, up to a stop text."""
    text = run.decoded(hypothesis.tokens)
    places = [text.index(s) for s in run.stop if s in text]
    return text[: min(places)] if places else text


@dataclass(frozen=True)
class Search(Decoder):
    """Base of methods that draw several texts; at temperature 0, where all would be equal, they take their own.

    Attributes
    ----------
    temperature
        Theirs.
    """

    family: ClassVar[str] = "search"
    temperature: ClassVar[float] = 0.8

    def sampler(self, sampler: Sampler) -> Sampler:
        """The user's, or at temperature 0 one with the method's own temperature."""
        return replace(sampler, temperature=self.temperature) if sampler.greedy else sampler

    def note(self, run: Run, hypotheses: Sequence[Hypothesis], scores: Sequence[float]) -> None:
        """Put all texts, with their scores, into the notes of the trace."""
        run.trace.notes["temperature"] = run.sampler.temperature
        run.trace.notes["hypotheses"] = [
            {
                "text": text_of(run, h),
                "tokens": list(h.tokens),
                "score": float(s) if np.isfinite(s) else None,
                "log_p": h.total,
            }
            for h, s in zip(hypotheses, scores, strict=True)
        ]
