"""Particle filter: answers grow step by step, and after every step good ones are multiplied and bad ones die.

Isha Puri, Shivchander Sudalairaj, Guangxuan Xu, Kai Xu, Akash Srivastava. A Probabilistic Inference Approach to
Inference-Time Scaling of LLMs using Particle-Based Monte Carlo Methods. 2025. arXiv:2502.01618.

    until all are finished:
        every particle that runs grows by one step (to the next ``step``, or by so many tokens)
        w_i = exp(score_i / tau)                    score: a log-weight, there log r / (1 - r) of a reward model
        N new particles are drawn with chances w_i / sum w
    the particle with the best score is said

A finished particle keeps its last score and is drawn with the others. The particles then follow, for many of them,
p(y) prod_t w(y_1..t) / Z; with ``weights="change"`` a step is weighted by exp((score_t - score_t-1) / tau), which
telescopes to p(y) w(y) / Z: right for scores of the whole text so far, such as log-probabilities. The mean weights'
product estimates Z without bias for any number of particles (``trace.notes["log_z"]``).

Departs from the paper: no reward model, the scorer is given; a step is a line, not a paragraph, because this size of
model answers in lines; 8 particles. Systematic resampling (one uniform number) is offered beside the multinomial one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import decoder
from workbench.decode.batch import say
from workbench.decode.run import Run
from workbench.decode.sampling import draw
from workbench.decode.search._hypotheses import Hypothesis, Pool, Search, log_sum
from workbench.decode.search.checks import filter_and_best, more_right
from workbench.decode.search.scorers import as_scorer
from workbench.errors import ArgumentError, unknown

RESAMPLING, WEIGHTS, CHOOSE = ("multinomial", "systematic"), ("score", "change"), ("best", "draw")


def resample(chances: np.ndarray, random: np.random.Generator, how: str = "multinomial") -> list[int]:
    """N draws from N chances, ascending: each by itself, or all with one uniform number at equal distances."""
    count = len(chances)
    u = np.sort(random.random(count)) if how == "multinomial" else (random.random() + np.arange(count)) / count
    index = np.searchsorted(np.cumsum(chances) / chances.sum(), u, side="right")
    return np.minimum(index, np.flatnonzero(chances)[-1]).tolist()


@decoder
@dataclass(frozen=True)
class ParticleFilter(Search):
    """Answers that are multiplied or die after every step.

    Attributes
    ----------
    particles
        N.
    scorer
        As for best-of-n; its scores are log-weights.
    step
        Text that ends a step, or a number of tokens.
    tau
        Temperature of the weights.
    weights
        ``"score"`` (the paper's) or ``"change"``: see this module.
    resampling
        ``"multinomial"`` or ``"systematic"``.
    choose
        ``"best"``: the best score is said; ``"draw"``: one drawn by the last weights.
    """

    name: ClassVar[str] = "particle-filter"
    title: ClassVar[str] = "Particle filter"
    formula: ClassVar[str] = "w_i = exp(score_i / tau) after every step; N particles anew with chances w_i / sum w"
    citation: ClassVar[Citation] = Citation(
        "Isha Puri et al.",
        "A Probabilistic Inference Approach to Inference-Time Scaling of LLMs using Particle-Based Monte Carlo Methods",
        2025,
        "2502.01618",
    )
    claim: ClassVar[Claim] = Claim(
        "With the same reward and as many answers, particles come to the right one more often than best-of-n.",
        "MATH, Qwen2.5-Math and Llama 3 of 1.5 to 8 billion parameters, 4 to 64 particles, a learned process reward "
        "(here: an exact checker of every line)",
        more_right("right answers of 8 particles, less those of the best of 8", filter_and_best, "chain", 8),
    )

    particles: int = 8
    scorer: Any = "mean-log-p"
    step: str | int = "\n"
    tau: float = 1.0
    weights: str = "score"
    resampling: str = "multinomial"
    choose: str = "best"

    def __post_init__(self) -> None:
        if self.particles < 1:
            raise ArgumentError(f"particles={self.particles}: at least 1")
        if not self.step or (isinstance(self.step, int) and self.step < 1):
            raise ArgumentError(f"step={self.step!r}: a text that ends a step, or a number of tokens")
        if not self.tau > 0:
            raise ArgumentError(f"tau={self.tau}: a positive number")
        known = {"weights": WEIGHTS, "resampling": RESAMPLING, "choose": CHOOSE}
        for name, allowed in known.items():
            if getattr(self, name) not in allowed:
                raise unknown(name, getattr(self, name), allowed)
        object.__setattr__(self, "scorer", as_scorer(self.scorer))

    def decode(self, run: Run) -> None:
        """Grow, weigh, draw anew; then say one."""
        pool, scores = Pool(run, self.particles), np.zeros(self.particles)
        notes: dict[str, Any] = {"log_z": 0.0, "effective": []}
        while True:
            self._grow(run, pool)
            before, scores = scores, self.scorer.score(run, pool.hypotheses)
            log_w = (scores - before if self.weights == "change" else scores) / self.tau
            chances = self._weighed(run, pool, scores, log_w, notes)
            if not pool.running:
                break
            chosen = resample(chances, run.random, self.resampling)
            self._record(run, pool, chosen, chances)
            pool.select(chosen)
            scores = scores[chosen]
        best = draw(chances, float(run.random.random())) if self.choose == "draw" else int(scores.argmax())
        self.note(run, pool.hypotheses, scores.tolist())
        run.trace.notes |= notes | {"chances": chances.tolist()}
        said = pool.hypotheses[best]
        say(run, said.tokens, said.events, said.finished)

    def _grow(self, run: Run, pool: Pool) -> None:
        """One step of every particle that runs."""
        start = {h.branch: len(h.tokens) for h in pool.hypotheses}
        known = {h.branch: len(run.decoded(h.tokens)) for h in pool.hypotheses}

        def waits(hypothesis: Hypothesis) -> bool:
            if isinstance(self.step, int):
                return len(hypothesis.tokens) - start[hypothesis.branch] >= self.step
            return self.step in run.decoded(hypothesis.tokens)[known[hypothesis.branch] :].lstrip("\n")

        while pool.step(waits):
            pass

    @staticmethod
    def _weighed(run: Run, pool: Pool, scores: np.ndarray, log_w: np.ndarray, notes: dict[str, Any]) -> np.ndarray:
        """Chances of the particles; scores go to the record, the estimate of Z to the notes."""
        for hypothesis, score in zip(pool.hypotheses, scores.tolist(), strict=True):
            run.trace.add("score", parent=hypothesis.event, branch=hypothesis.branch, value=score)
        if not np.isfinite(log_w).any():
            notes["log_z"] = None  # no particle can be right: all have the same chance
            return np.full(len(log_w), 1 / len(log_w))
        log_total = log_sum(log_w)
        chances: np.ndarray = np.exp(log_w - log_total)
        if notes["log_z"] is not None:
            notes["log_z"] += log_total - float(np.log(len(log_w)))
        notes["effective"].append(float(1 / np.square(chances).sum()))
        return chances

    @staticmethod
    def _record(run: Run, pool: Pool, chosen: list[int], chances: np.ndarray) -> None:
        for n in sorted(set(range(len(chances))) - set(chosen)):
            run.trace.add("prune", parent=pool.hypotheses[n].event, branch=n, value=float(chances[n]))
        for new, n in enumerate(chosen):
            run.trace.add("resample", parent=pool.hypotheses[n].event, branch=new, value=float(chances[n]))
