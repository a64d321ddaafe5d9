"""Drafting and verifying: what all speculative methods share. A method says how it drafts; the rest is here.

context -> Drafter.propose -> DraftTree -> one pass of the target -> Rule -> tokens -> Drafter.observe -> ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from workbench.decode._method import Decoder
from workbench.decode.acceptance import Certain, Greedy, Rule, WithoutReplacement
from workbench.decode.run import Run
from workbench.decode.target import Forward
from workbench.decode.tree import DraftTree
from workbench.decode.verify import Verified, verify


class Drafter(ABC):
    """Guesses what comes next.

    Attributes
    ----------
    hidden
        Whether it wants the target's hidden states.
    """

    hidden: ClassVar[bool] = False

    def begin(self, run: Run, forward: Forward) -> None:
        """Hear about the prompt's pass (logits and hidden state after its last token) before the first draft."""
        del run, forward

    @abstractmethod
    def propose(self, context: Sequence[int], room: int) -> DraftTree:
        """A draft that hangs on the last token of ``context``, of at most ``room`` nodes; empty to decline."""

    def observe(self, verified: Verified) -> None:
        """Hear what became of the draft, also of an empty one."""
        del verified


@dataclass(frozen=True)
class Speculative(Decoder):
    """Base of the methods that draft; they implement `drafter`, and override `rule` where the paper has its own."""

    family: ClassVar[str] = "speculative"
    promises: ClassVar[str] = "distribution"

    @abstractmethod
    def drafter(self, run: Run) -> Drafter:
        """A fresh drafter for a run."""

    def rule(self, run: Run, sampled: bool) -> Rule:
        """The rule of acceptance; ``sampled`` says whether drafts come with the distributions they were drawn from."""
        if run.sampler.greedy:
            return Greedy()
        return WithoutReplacement() if sampled else Certain()

    def decode(self, run: Run) -> None:
        """Draft, verify, emit."""
        drafter = self.drafter(run)
        forward = run.prefill(hidden=drafter.hidden)
        drafter.begin(run, forward)
        token = run.sampler.choose(forward.logits[-1], run.random)
        run.emit(token, logits=forward.logits[-1])
        while not run.done:
            run.progress.check()
            tree = drafter.propose(run.tokens, run.room) if run.room else DraftTree.of()
            rule = self.rule(run, bool(tree.q))
            drafter.observe(verify(run, tree.first(run.room), rule, hidden=drafter.hidden))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Float64 probabilities of the last axis."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    chances = np.exp(shifted)
    return chances / chances.sum(axis=-1, keepdims=True)
