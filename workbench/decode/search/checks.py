"""What the claims of this family measure: shares of right answers, question by question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.decode._method import resolve
from workbench.decode.search.tasks import STOP, Question, read, task

if TYPE_CHECKING:
    from workbench.decode.claims import DecodingContext, Figures, Paired
    from workbench.decode.generation import Generation

LIMITS = {name: task(name).max_new_tokens for name in ("add", "chain")}


def more_right(quantity: str, figures: Figures, name: str, count: int, at_least: float = 0.01) -> Paired:
    """A check on questions of a task: a difference of shares of right answers."""
    from workbench.decode.claims import Paired

    questions = task(name).questions(count)
    return Paired(quantity=quantity, figures=figures, difference=True, at_least=at_least, tasks=questions)


def _answer(context: DecodingContext, question: Question, seed: int, method: str, **parameters: Any) -> Generation:
    temperature = parameters.pop("temperature", 0.0)
    most = LIMITS[question.name.split()[0]]
    chosen = resolve(method, parameters)
    return context.generate(chosen, question.prompt, seed, stop=STOP, max_new_tokens=most, temperature=temperature)


def votes_and_greedy(context: DecodingContext, _name: str, question: Question, seed: int) -> tuple[float, float]:
    """Whether the votes of 16 answers, and the greedy answer, are right."""
    votes = _answer(context, question, seed, "best-of-n", n=16, scorer="votes")
    greedy = context.once(("greedy", question.prompt), lambda: _answer(context, question, 0, "greedy"))
    return float(question.right(votes.text)), float(question.right(greedy.text))


def filter_and_best(context: DecodingContext, _name: str, question: Question, seed: int) -> tuple[float, float]:
    """Whether 8 particles, and the best of 8 answers, are right by the same reward."""
    common: dict[str, Any] = {"scorer": question.reward, "temperature": 1.0}
    particles = _answer(context, question, seed, "particle-filter", particles=8, **common)
    best = _answer(context, question, seed, "best-of-n", n=8, **common)
    return float(question.right(particles.text)), float(question.right(best.text))


def half_and_votes(context: DecodingContext, _name: str, question: Question, seed: int) -> tuple[float, float]:
    """Share of right answers of RPC on both halves of 16 texts, and whether the votes of all 16 are right."""
    from workbench.decode.search.rpc import confidences, keep

    drawn = _answer(context, question, seed, "best-of-n", n=16, scorer="votes", temperature=1.0)
    texts = drawn.trace.notes["hypotheses"]
    found = []
    for half in (texts[:8], texts[8:]):
        log_p = np.array([t["log_p"] for t in half])
        kept = np.flatnonzero(keep(log_p))
        answers = [read(half[n]["text"]) for n in kept]
        shares = confidences([tuple(half[n]["tokens"]) for n in kept], answers, log_p[kept])
        found.append(next(iter(shares)) == question.answer)
    return float(np.mean(found)), float(question.right(drawn.text))
