"""What methods of this family share: the canvas on which an answer is unmasked, and which model they run on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from workbench.decode._method import Decoder
from workbench.decode.diffusion.model import MaskedModel, load
from workbench.decode.diffusion.tasks import sample
from workbench.decode.run import Run
from workbench.decode.target import Target
from workbench.errors import ArgumentError
from workbench.models import LM


class Proposal(NamedTuple):
    """A token for every masked place, in order of place: what the model would put there, each on its own."""

    place: np.ndarray
    token: np.ndarray
    confidence: np.ndarray


class Canvas:
    """The answer while it is unmasked; every evaluation and every token becomes an event.

    Attributes
    ----------
    logits : ndarray of float32 [slots, V]
        Of the newest evaluation.
    """

    def __init__(self, run: Run) -> None:
        if not isinstance(run.target, MaskedModel):
            raise ArgumentError(f"target={run.target.source!r} is not a masked model")
        self.run, self.model, self.start = run, run.target, len(run.prompt)
        slots = self.model.slots(run.prompt)
        self.ids = np.array([*run.prompt, *[self.model.mask] * slots], np.int64)
        self.logits = np.empty((0, 0), np.float32)
        self._evaluation, self._rows = -1, np.full(slots, -1)

    @property
    def masked(self) -> np.ndarray:
        """Places of the answer, from 0, that are still masked."""
        return np.flatnonzero(self.ids[self.start :] == self.model.mask)

    def evaluate(self) -> None:
        """Ask the model; stops here if the job was cancelled."""
        run = self.run
        run.progress.check()
        self.logits = self.model.evaluate(self.ids, self.start)
        run.trace.target_forwards += 1
        self._evaluation = run.trace.add("verify", value=len(self.ids))

    def propose(self) -> Proposal:
        """Choose a token for every masked place by the run's sampler; its confidence is its unfiltered probability."""
        places, logits = self.masked, self.logits[self.masked].astype(np.float64)
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        tokens = np.array([self.run.sampler.choose(row, self.run.random) for row in logits], np.int64)
        return Proposal(places, tokens, p[np.arange(len(places)), tokens])

    def unmask(self, places: Iterable[int], tokens: Iterable[int]) -> None:
        """Put tokens in; they stay."""
        for place, token in zip(places, tokens, strict=True):
            logits = self.logits[place]
            top = logits.max()
            confidence = float(np.exp(logits[token] - top) / np.exp(logits - top).sum(dtype=np.float64))
            self._rows[place] = self.run.trace.add(
                "unmask", token=int(token), position=self.start + int(place), value=confidence, logits=logits,
                parent=self._evaluation,
            )  # fmt: skip
            self.ids[self.start + place] = token

    def emit(self) -> None:
        """Say the answer in order of place."""
        for place, row in enumerate(self._rows):
            if not self.run.emit(int(self.ids[self.start + place]), int(row)):
                return


@dataclass(frozen=True)
class Diffusion(Decoder):
    """Base of the family: unmasks a whole answer, then says it.

    It runs on a `MaskedModel`. None, and the embedded causal model that other methods run on by default, stand for the
    shipped one (`workbench.decode.diffusion.load`); any other causal model is refused.
    """

    family: ClassVar[str] = "diffusion"

    def target(self, model: Any) -> Target:
        """The masked model that it runs on; see the class."""
        if isinstance(model, MaskedModel):
            return model
        if model is None or (isinstance(model, LM) and model.source == "default"):
            return load()
        raise ArgumentError(
            f"model={getattr(model, 'source', model)!r} predicts the next token, but {self.name} fills in masked ones: "
            "pass workbench.decode.diffusion.load(), or None for it"
        )

    @classmethod
    def example_prompts(cls, model: Any) -> Sequence[Sequence[int]]:  # noqa: ARG003 - the same for all
        """List tasks."""
        return [
            sample(name, np.random.default_rng(n), 6).prompt for n, name in enumerate(("reverse", "shuffle", "sort"))
        ]

    def decode(self, run: Run) -> None:
        """Unmask, then emit."""
        canvas = Canvas(run)
        self.unmask(canvas)
        canvas.emit()

    @abstractmethod
    def unmask(self, canvas: Canvas) -> None:
        """Unmask all places."""


@dataclass(frozen=True)
class InRounds(Diffusion):
    """Base of those that evaluate, propose a token everywhere and keep some, until none is masked."""

    def unmask(self, canvas: Canvas) -> None:
        """Round after round."""
        while canvas.masked.size:
            canvas.evaluate()
            found = canvas.propose()
            kept = np.sort(self.select(found, canvas.run.random))
            canvas.unmask(found.place[kept], found.token[kept])
            canvas.run.trace.step += 1

    @abstractmethod
    def select(self, found: Proposal, random: np.random.Generator) -> np.ndarray:
        """Which of the proposals are kept: indices, at least one, each once."""


def share(name: str, value: float) -> None:
    """Raise `ArgumentError` unless a probability is one."""
    if not 0 <= value <= 1:
        raise ArgumentError(f"{name}={value}: a confidence, from 0 to 1")
