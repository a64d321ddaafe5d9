"""What parallel unmasking costs in right answers: `parallel_quality`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from workbench import render
from workbench.decode._method import Decoder, resolve
from workbench.decode.diffusion.checks import measure, questions
from workbench.decode.diffusion.model import MaskedModel, load
from workbench.decode.diffusion.tasks import independent_accuracy
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.results import Provenance, Result

METHODS: Mapping[str, Decoder | tuple[str, Mapping[str, object]]] = {
    "one by one": ("unmask", {}),
    "2 at a time": ("unmask", {"each": 2}),
    "4 at a time": ("unmask", {"each": 4}),
    "all at once": ("unmask", {"each": 64}),
    "confidence": ("confidence", {}),
    "localleap": ("localleap", {}),
    "radd, 4 steps": ("radd", {"steps": 4}),
    "radd, 1024 steps": ("radd", {"steps": 1024}),
}


@dataclass(frozen=True, eq=False, repr=False)
class ParallelQuality(Result):
    """Right answers against evaluations.

    Attributes
    ----------
    methods, tasks : tuple of str
    evaluations, accuracy : ndarray [methods, tasks]
        Evaluations per answer; share of right answers.
    independent : ndarray [tasks]
        The accuracy of exact conditionals when all places are drawn at once (`independent_accuracy`), mean over the
        questions: what no model can exceed in one evaluation.
    samples : int
        Questions of each task.
    temperature : float
    model : str
    provenance : Provenance
    """

    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    evaluations: np.ndarray
    accuracy: np.ndarray
    independent: np.ndarray
    samples: int
    temperature: float
    model: str
    provenance: Provenance = field(repr=False)

    def _headline(self) -> str:
        best = self.accuracy.mean(1)
        lead = ", ".join(
            f"{m} {render.share(a)} in {e:.1f}"
            for m, a, e in zip(self.methods, best, self.evaluations.mean(1), strict=True)
        )
        return f"ParallelQuality({self.model}, {len(self.tasks)} tasks; right answers and evaluations: {lead})"

    def _sections(self) -> tuple[render.Section, ...]:
        rows = [
            (m, *(f"{render.share(a)} in {e:.1f}" for a, e in zip(*each, strict=True)))
            for m, *each in zip(self.methods, self.accuracy, self.evaluations, strict=True)
        ]
        rows.append(("exact, all at once", *(f"{render.share(a)} in 1" for a in self.independent)))
        order = np.argsort(self.evaluations.mean(1), kind="stable")
        series = {
            task: {"x": self.evaluations[order, t].tolist(), "y": self.accuracy[order, t].tolist()}
            for t, task in enumerate(self.tasks)
        }
        picture = render.lines(
            series, title="Right answers against evaluations", x_label="evaluations per answer", y_label="share right"
        )
        about = [
            ("model", self.model), ("questions of each task", self.samples), ("temperature", self.temperature),
        ]  # fmt: skip
        return (
            render.section("Right answers, and evaluations per answer", rows, ("", *self.tasks), picture=picture),
            render.section("Protocol", about),
        )


def parallel_quality(
    model: MaskedModel | None = None,
    tasks: Sequence[str] = ("copy", "reverse", "sort", "replace-random", "shuffle"),
    methods: Mapping[str, Decoder | tuple[str, Mapping[str, object]]] | None = None,
    *,
    samples: int = 30,
    size: int | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> ParallelQuality:
    """Right answers against evaluations, per method and list task.

    Parameters
    ----------
    model
        None for the shipped one; `Oracle` for exact conditionals, so that only the error of independence is left.
    tasks
        Names, see `workbench.decode.diffusion.tasks.TASKS`.
    methods
        Label to a decoder, or to its name and hyper-parameters; None for `METHODS`.
    samples, size
        Questions of each task; names in their lists, None for any number.
    temperature
        1 draws from the model, which is what the closed forms speak of; 0 takes the most likely tokens.

    Raises
    ------
    ArgumentError
        If a name is unknown or there is nothing to measure.

    Examples
    --------
    >>> parallel_quality(samples=4, tasks=("copy", "shuffle")).accuracy.shape          # doctest: +SKIP
    (8, 2)
    """
    model, progress = load() if model is None else model, progress or Progress()
    chosen = {k: m if isinstance(m, Decoder) else resolve(*m) for k, m in (methods or METHODS).items()}
    if samples < 1 or not tasks:
        raise ArgumentError(f"samples={samples}, tasks={tasks!r}: at least one of each")
    found = np.empty((2, len(chosen), len(tasks)))
    independent = np.empty(len(tasks))
    for t, name in enumerate(tasks):
        asked = questions(name, samples, seed, size)
        independent[t] = np.mean([independent_accuracy(task) for task in asked])
        for m, method in enumerate(chosen.values()):
            found[:, m, t] = measure(model, method, asked, temperature, seed)
            progress.step("unmasking list tasks", t * len(chosen) + m + 1, len(chosen) * len(tasks))
    where = Provenance.here(seed=seed, method=", ".join(map(repr, chosen.values())))
    return ParallelQuality(
        tuple(chosen), tuple(tasks), found[0], found[1], independent, samples, temperature, model.source, where
    )
