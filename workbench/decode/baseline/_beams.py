"""One group of beams, step by step: what beam search and diverse beam search share.

Of all one-token continuations of the running beams the 2 B best are looked at (more where several tokens end a text);
the B best that go on are the next running beams; those among the first B that end are finished, and of the finished
ones the B best stay. A finished text's score is its sum divided by its number of tokens to the power alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.decode.batch import Batch, room, say
from workbench.decode.run import Run
from workbench.errors import ArgumentError

EARLY = (True, False, "never")


@dataclass(frozen=True, slots=True)
class Beam:
    """A text: its tokens, the sum of their log-probabilities, what it is ranked by, and the events behind it."""

    tokens: tuple[int, ...] = ()
    events: tuple[int, ...] = ()
    log_p: float = 0.0
    score: float = 0.0

    @property
    def event(self) -> int:
        """The newest one; that of the prompt if there is none."""
        return self.events[-1] if self.events else 0


@dataclass(frozen=True, slots=True)
class Rules:
    """Beams of a group, exponent alpha of the length, when to stop, tokens at most, tokens that end a text."""

    width: int
    alpha: float
    early: bool | str
    limit: int
    ends: frozenset[int]

    def final(self, log_p: float, length: int) -> float:
        """A text's score."""
        return float(log_p / length**self.alpha)


@dataclass(eq=False)
class Group:
    """The beams of one group.

    Attributes
    ----------
    rules : Rules
    first : int
        Number of its first branch.
    running, rows
        Beams, and the row of each in the batch.
    finished
        Scores and texts, the best first.
    """

    rules: Rules
    first: int = 0
    running: list[Beam] = field(default_factory=lambda: [Beam()])
    rows: list[int] = field(default_factory=lambda: [0])
    finished: list[tuple[float, Beam]] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether no more texts are wanted."""
        return self.rules.early is True and len(self.finished) == self.rules.width

    def advance(self, run: Run, logits: np.ndarray, penalty: np.ndarray | None = None) -> list[int]:
        """Look at all continuations, keep the best; the tokens that were kept or finished."""
        length, rules, full = len(self.running[0].tokens) + 1, self.rules, self.full
        kept: list[Beam] = []
        rows: list[int] = []
        said: list[int] = []
        alive: set[int] = set()
        for rank, (row, token, log_p, score) in enumerate(self._candidates(logits[self.rows], penalty)):
            before = self.running[row]
            over = token in rules.ends or length == rules.limit
            columns: dict[str, Any] = {
                "token": token, "parent": before.event, "position": len(run.prompt) + length - 1, "value": score,
                "log_p": log_p, "branch": self.first + (rank if over else len(kept)),
            }  # fmt: skip
            if (rank >= rules.width or full) if over else len(kept) == rules.width:
                run.trace.add("prune", **columns)
                continue
            event = run.trace.add("expand", logits=logits[self.rows[row]], **columns)
            beam = Beam((*before.tokens, token), (*before.events, event), before.log_p + log_p, score)
            said.append(token)
            alive.add(row)
            if over:
                self._finish(run, beam, columns["branch"])
            else:
                kept.append(beam)
                rows.append(self.rows[row])
        for row in set(range(len(self.running))) - alive:
            dead = self.running[row]
            run.trace.add("prune", parent=dead.event, branch=self.first + row, value=dead.score)
        self.running, self.rows = kept, rows
        if not self._hopeful(length):
            self.running, self.rows = [], []
        return said

    def _candidates(self, logits: np.ndarray, penalty: np.ndarray | None) -> list[tuple[int, int, float, float]]:
        """Row, token, log-probability and score of the best continuations, in order."""
        wide = logits.astype(np.float64)
        wide -= wide.max(axis=1, keepdims=True)
        log_p = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
        scores = log_p + np.array([b.score for b in self.running])[:, None]
        if penalty is not None:
            scores -= penalty
        flat, count = scores.ravel(), max(2, 1 + len(self.rules.ends)) * self.rules.width
        some = np.argpartition(-flat, count)[:count] if count < flat.size else np.arange(flat.size)
        best = some[np.lexsort((some, -flat[some]))]
        rows, tokens = np.divmod(best, logits.shape[1])
        pairs = zip(rows.tolist(), tokens.tolist(), strict=True)
        return [(r, t, float(log_p[r, t]), float(scores[r, t])) for r, t in pairs if np.isfinite(scores[r, t])]

    def _finish(self, run: Run, beam: Beam, branch: int) -> None:
        score = self.rules.final(beam.score, len(beam.tokens))
        run.trace.add("score", parent=beam.event, branch=branch, value=score)
        self.finished.append((score, beam))
        self.finished.sort(key=lambda f: -f[0])
        del self.finished[self.rules.width :]

    def _hopeful(self, length: int) -> bool:
        """Whether a running beam may still come before the worst finished text, by the rule that was chosen."""
        rules = self.rules
        if not self.running or self.full:
            return False
        if len(self.finished) < rules.width:
            return True
        longest = rules.limit if rules.early == "never" and rules.alpha > 0 else length
        return rules.final(self.running[0].score, longest) > self.finished[-1][0]


def rules(run: Run, width: int, alpha: float, early: bool | str) -> Rules:
    """The rules of a run; see `Rules`."""
    return Rules(width, alpha, early, room(run), run.ends)


def check(width: int, early: bool | str) -> None:
    """Raise `ArgumentError` unless these are a width and a rule for stopping."""
    if width < 1:
        raise ArgumentError(f"width={width}: at least 1 beam")
    if early not in EARLY:
        raise ArgumentError(f"early_stopping={early!r}: True, False or 'never'")


def search(run: Run, batch: Batch, groups: Sequence[Group], penalty: float = 0.0) -> None:
    """Advance all groups until none runs; a group pays ``penalty`` for each beam of an earlier one with its token."""
    while any(g.running for g in groups):
        logits = batch.logits
        counts = np.zeros(logits.shape[1])
        for group in groups:
            if group.running:
                np.add.at(counts, group.advance(run, logits, penalty * counts if penalty else None), 1)
        chosen = [row for g in groups for row in g.rows]
        if not chosen:
            return
        batch.select(chosen)
        place = 0
        for group in groups:
            group.rows = list(range(place, place := place + len(group.running)))
        run.trace.step += 1
        batch.forward([b.tokens[-1] for g in groups for b in g.running])
        run.trace.add("verify", value=len(chosen), position=len(run.prompt) + int(batch.lengths.max()))
        run.progress.step("searching", int(batch.lengths.max()), room(run))


def emit_best(run: Run, groups: Sequence[Group]) -> None:
    """Emit the text of the best score, without penalties; all finished ones go to the notes of the trace."""
    found = [
        (group.rules.final(beam.log_p, len(beam.tokens)), n, beam)
        for n, group in enumerate(groups)
        for _, beam in group.finished
    ]
    found.sort(key=lambda f: -f[0])
    run.trace.notes["hypotheses"] = [
        {"text": run.decoded(b.tokens), "tokens": list(b.tokens), "score": s, "log_p": b.log_p, "group": n}
        for s, n, b in found
    ]
    best = found[0][2]
    say(run, best.tokens, best.events)
