"""AWRS: text under a constraint by adaptive weighted rejection sampling, not by masking the vocabulary.

Benjamin Lipkin, Benjamin LeBrun, Jacob Hoover Vigly, Joao Loula, David R. MacIver, Li Du, Jason Eisner, Ryan Cotterell,
Vikash Mansinghka, Timothy J. O'Donnell, Alexander K. Lew, Tim Vieira. Fast Controlled Generation from Language Models
with Adaptive Weighted Rejection Sampling. COLM 2025. arXiv:2504.05410.

    x_t = first allowed token in the order log p + Gumbel noise;  w *= estimate of the allowed mass Z_t

A text that was forced through a needle's eye of small Z_t was unlikely from the start: renormalising at each token
hides that, the weights say it. Of several particles one is drawn by weight, which tends to p(text | constraint).
At temperature 0 the most likely allowed token is taken and weights say nothing.
Departs from the paper: particles run one after the other and meet only at the end (importance resampling), where the
paper resamples on the way; the estimators are its recursive and geometric ones, chosen by max p >= 2/3 as in its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import Decoder, decoder
from workbench.decode.claims import Paired
from workbench.decode.constrained._constraint import Constraint, Texts, json_schema, regex
from workbench.decode.constrained._rejection import Drawn, best, draw
from workbench.decode.constrained.checks import FORMS, likelier
from workbench.decode.run import Run
from workbench.decode.sampling import draw as pick
from workbench.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Particle:
    """A finished text, its weight, and where its events are."""

    tokens: tuple[int, ...]
    log_weight: float
    events: tuple[int, ...]
    logits: tuple[np.ndarray, ...]
    finished: str


@decoder
@dataclass(frozen=True)
class AWRS(Decoder):
    """Rejection instead of masks.

    Attributes
    ----------
    pattern
        A regular expression that the whole answer matches; or
    schema
        a JSON schema (text or mapping) that it keeps to; or
    constraint
        any `Constraint` in its first state.
    particles
        Texts that are drawn; one of them is chosen by weight.
    """

    name: ClassVar[str] = "awrs"
    title: ClassVar[str] = "Adaptive weighted rejection sampling"
    family: ClassVar[str] = "constrained"
    formula: ClassVar[str] = "x_t = first allowed in Gumbel order; w *= Z_t (unbiased estimate of the allowed mass)"
    citation: ClassVar[Citation] = Citation(
        "Benjamin Lipkin, Benjamin LeBrun, Jacob Hoover Vigly, Joao Loula et al.",
        "Fast Controlled Generation from Language Models with Adaptive Weighted Rejection Sampling",
        2025,
        "2504.05410",
        "COLM",
    )

    claim: ClassVar[Any] = Claim(
        "Weighted particles follow the model under the constraint, which masking does not: its texts are less likely.",
        "Llama 3 models of 1 to 70 B on goal inference, molecules, text-to-SQL, JSON: more accurate than masking",
        Paired(
            quantity="log-probability of a text against masking's",
            figures=likelier,
            difference=True,
            at_least=0.0,
            tasks=FORMS,
        ),
    )

    pattern: str | None = None
    schema: Any = None
    constraint: Constraint | None = field(default=None, compare=False)
    particles: int = 1

    def __post_init__(self) -> None:
        given = sum(x is not None for x in (self.pattern, self.schema, self.constraint))
        if given > 1:
            raise ArgumentError(f"{given} of pattern, schema and constraint are given: give one")
        if self.particles < 1:
            raise ArgumentError(f"particles={self.particles}: at least 1")

    @classmethod
    def example_parameters(cls, model: Any) -> Mapping[str, Any]:
        """Texts without a digit."""
        tokenizer = model.tokenizer
        piece = str if tokenizer is None else lambda token: str(tokenizer.decode([token]))
        return {"constraint": Texts(lambda text: "7" not in text, lambda _: True, piece)}

    def constraint_of(self, run: Run) -> Constraint:
        """What the answer must be."""
        vocabulary, tokenizer = run.target.vocabulary, run.target.tokenizer
        if self.pattern is not None:
            return regex(self.pattern, tokenizer, vocabulary)
        if self.schema is not None:
            return json_schema(self.schema, tokenizer, vocabulary)
        if self.constraint is None:
            raise ArgumentError("awrs needs a constraint: pattern=, schema= or constraint=")
        return self.constraint.copy()

    def decode(self, run: Run) -> None:
        """Draw the particles, choose one, emit it."""
        constraint = self.constraint_of(run)
        start = run.prefill().logits[-1]
        base = run.target.length
        found: list[Particle] = []
        for n in range(1 if run.sampler.greedy else self.particles):
            run.target.crop(base)
            found.append(walk(run, constraint.copy(), start, n))
        weights = np.array([p.log_weight for p in found])
        if not np.isfinite(weights).any():
            run.finished = "no allowed text"
            run.trace.notes["log_weights"] = [None] * len(found)
            return
        shares = np.exp(weights - weights.max())
        chosen = found[pick(shares / shares.sum(), run.random.random()) if len(found) > 1 else 0]
        run.trace.notes["log_weights"] = [float(w) if np.isfinite(w) else None for w in weights]
        run.trace.notes["texts"] = [run.decoded(p.tokens) for p in found]
        for token, event, logits in zip(chosen.tokens, chosen.events, chosen.logits, strict=True):
            if not run.emit(token, event, logits=logits):
                break
        run.finished = run.finished or chosen.finished


def walk(run: Run, constraint: Constraint, logits: np.ndarray, branch: int) -> Particle:
    """One text from the end of the prompt on, one pass per token; nothing is emitted yet."""
    tokens: list[int] = []
    events: list[int] = []
    seen: list[np.ndarray] = []
    total, finished = 0.0, "limit"
    room = min(run.limit, run.target.context - len(run.prompt))
    while len(tokens) < room:
        if constraint.over():
            finished = "constraint"
            break
        drawn = step(run, constraint, logits)
        total += drawn.log_weight
        row = record(run, drawn, len(tokens), branch)
        if drawn.token < 0 or not np.isfinite(total):
            return Particle(tuple(tokens), -np.inf, tuple(events), tuple(seen), "no allowed token")
        if drawn.token in run.ends:
            finished = "stop token"
            break
        constraint.take(drawn.token)
        tokens.append(drawn.token)
        events.append(row if len(drawn.tried) > 1 and drawn.tried[0][0] != drawn.token else -1)
        seen.append(logits)
        if len(tokens) < room:
            run.trace.step += 1
            logits = run.forward([drawn.token]).logits[-1]
            run.trace.add("verify", value=1, position=len(run.prompt) + len(tokens), branch=branch)
    return Particle(tuple(tokens), total, tuple(events), tuple(seen), finished)


def step(run: Run, constraint: Constraint, logits: np.ndarray) -> Drawn:
    """One token; an end token is allowed where the text may end."""

    def allowed(token: int) -> bool:
        return constraint.complete() if token in run.ends else constraint.allows(token)

    if run.sampler.greedy:
        return best(logits, allowed)
    return draw(run.sampler.probabilities(logits), allowed, run.random)


def record(run: Run, drawn: Drawn, place: int, branch: int) -> int:
    """Record what the constraint was asked; the row of the token that was taken."""
    taken = -1
    for token, ok in drawn.tried:
        at = len(run.prompt) + place
        row = run.trace.add("constrain", token=token, position=at, branch=branch, value=float(ok))
        taken = row if token == drawn.token else taken
    return taken
