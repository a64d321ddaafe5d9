"""What claims about unmasking are checked on, and the check: fewer evaluations, no fewer right answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from workbench import render
from workbench.claims import HELD, INCONCLUSIVE, NOT_HELD, Measurement
from workbench.decode._method import Decoder, resolve
from workbench.decode.diffusion.model import MaskedModel, ended, load
from workbench.decode.diffusion.tasks import TASKS, ListTask, sample
from workbench.decode.generation import generate
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.measure._statistics import crossed_interval


@dataclass(frozen=True, slots=True)
class DiffusionConditions:
    """Under which a claim about unmasking was checked."""

    model: str
    tasks: tuple[str, ...]
    samples: int
    seeds: tuple[int, ...]

    def rows(self) -> list[tuple[str, Any]]:
        """Names and values, all of them."""
        return [
            ("model", self.model),
            ("tasks", ", ".join(self.tasks)),
            ("questions of each, per seed", self.samples),
            ("seeds", ", ".join(map(str, self.seeds))),
        ]

    def summary(self) -> str:
        """In one sentence."""
        return (
            f"The masked-diffusion model {self.model!r} on {len(self.tasks)} list tasks, {self.samples} questions of "
            f"each with every seed ({', '.join(map(str, self.seeds))})."
        )


@dataclass(slots=True, eq=False)
class DiffusionContext:
    """A masked model and questions for it.

    Attributes
    ----------
    model
        None for the shipped one.
    samples
        Questions of each task and seed.
    seeds
        Of the questions and of what is drawn.
    """

    model: Any = None
    tasks: tuple[str, ...] = TASKS
    samples: int = 10
    seeds: tuple[int, ...] = (0, 1, 2)
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.model = load() if self.model is None else self.model
        if self.samples < 1 or len(self.tasks) < 2 or len(self.seeds) < 2:
            raise ArgumentError("a context needs questions, and at least two tasks and two seeds for an interval")

    @classmethod
    def of(cls) -> Self:
        """The shipped model on all tasks."""
        return cls()

    def conditions(self) -> DiffusionConditions:
        """Model, tasks, seeds."""
        return DiffusionConditions(self.model.source, self.tasks, self.samples, self.seeds)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Nothing to prepare."""
        yield


@dataclass(frozen=True, slots=True)
class OnTask:
    """Two methods on one list task, means over seeds."""

    HEADER: ClassVar[tuple[str, ...]] = ("task", "evaluations", "of the other", "right", "of the other")

    task: str
    evaluations: float
    other_evaluations: float
    right: float
    other_right: float

    def cells(self) -> tuple[str, ...]:
        """Under `HEADER`."""
        counts = (render.number(x, 3) for x in (self.evaluations, self.other_evaluations))
        return self.task, *counts, render.share(self.right), render.share(self.other_right)


@dataclass(frozen=True, kw_only=True)
class FewerEvaluations:
    """Held if the method needs at most this share of the other's evaluations and loses hardly any right answer.

    Attributes
    ----------
    than
        Registered name of the other method.
    at_most
        The ratio of evaluations (geometric mean over tasks and seeds), the upper end of its interval included.
    loss
        Share of right answers that may be lost, the interval included.
    parameters, than_parameters
        Of both methods.
    temperature
        Of both.
    """

    needs: ClassVar[type[DiffusionContext]] = DiffusionContext
    than: str = "unmask"
    at_most: float
    loss: float = 0.02
    parameters: Mapping[str, Any] = field(default_factory=dict)
    than_parameters: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 0.0

    def __call__(self, context: DiffusionContext, name: str) -> Measurement:
        """Answer every question with both."""
        both = resolve(name, self.parameters), resolve(self.than, self.than_parameters)
        found = np.empty((2, 2, len(context.seeds), len(context.tasks)))  # method, evaluations and share right, ...
        for s, seed in enumerate(context.seeds):
            for t, task in enumerate(context.tasks):
                asked = questions(task, context.samples, seed)
                for m, method in enumerate(both):
                    found[m, :, s, t] = measure(context.model, method, asked, self.temperature, seed)
                context.progress.step(f"unmask with {name}", s * len(context.tasks) + t + 1, found[0, 0].size)
        ratio = np.exp(crossed_interval(np.log(found[0, 0] / found[1, 0])))
        lost = crossed_interval(found[1, 1] - found[0, 1])
        status = INCONCLUSIVE
        if ratio[2] <= self.at_most and lost[2] <= self.loss:
            status = HELD
        elif ratio[1] > self.at_most or lost[1] > self.loss:
            status = NOT_HELD
        note = (
            f"right answers {render.share(found[0, 1].mean())} against {render.share(found[1, 1].mean())}: lost "
            f"{100 * lost[0]:.1f} points, 95 % {100 * lost[1]:.1f} to {100 * lost[2]:.1f}"
        )
        means = found.mean(axis=2)
        rows = tuple(
            OnTask(n, *(float(means[m, f, t]) for f in (0, 1) for m in (0, 1))) for t, n in enumerate(context.tasks)
        )
        quantity = f"evaluations relative to {self.other}"
        estimate, low, high = (float(x) for x in ratio)
        return Measurement(quantity, estimate, low, high, status, self.asked, rows, note)

    @property
    def other(self) -> str:
        """The other method in words."""
        given = ", ".join(f"{k}={v}" for k, v in self.than_parameters.items())
        return f"{self.than}({given})" if given else self.than

    @property
    def asked(self) -> str:
        """What counts as held."""
        return (
            f"at most {render.number(self.at_most)} times the evaluations of {self.other}, and at most "
            f"{100 * self.loss:.0f} points of right answers lost"
        )


def questions(name: str, samples: int, seed: int, size: int | None = None) -> list[ListTask]:
    """Tasks of one kind; same arguments, same tasks."""
    random = np.random.default_rng([seed, *name.encode()])
    return [sample(name, random, size) for _ in range(samples)]


def measure(
    model: MaskedModel, method: Decoder, asked: Sequence[ListTask], temperature: float = 0.0, seed: int = 0
) -> tuple[float, float]:
    """Evaluations per answer, and the share of right answers."""
    evaluations, right = [], []
    for n, task in enumerate(asked):
        own = int(np.random.default_rng([seed, n, *task.name.encode()]).integers(2**31))
        found = generate(model, task.prompt, method, temperature=temperature, seed=own, detail=False)
        evaluations.append(found.trace.target_forwards.max(initial=0))
        right.append(task.right(ended(found.tokens.tolist())))
    return math.fsum(evaluations) / len(asked), sum(right) / len(asked)
