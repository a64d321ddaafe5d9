"""What a session keeps: the choice made, and the variant that came of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from workbench import render
from workbench.errors import ArgumentError, unknown
from workbench.prune import methods
from workbench.prune.masks import Pattern
from workbench.render import Section
from workbench.results import Result

MEASURE_DENSE, MEASURE_PRUNED = "measure the dense model", "measure the pruned model"


@dataclass(frozen=True, slots=True)
class Choice:
    """What to prune and how, in the words of `workbench.prune`; None leaves a stage to the method.

    With ``propagate=False`` every layer is scored on the unpruned model's activations, so the mask that is
    previewed is the mask that is applied; with True pruned layers are run again first, as most papers do.
    """

    method: str = "wanda"
    sparsity: float = 0.5
    units: str | None = None
    pattern: str | None = None
    allocation: str | None = None
    repair: str | None = None
    propagate: bool = False

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `workbench.prune`; stages left to the method are left out."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def scoring(self) -> tuple[str | None, ...]:
        """What a preview depends on: all but the sparsity (a repair may add biases, which cost parameters)."""
        return self.method, self.units, self.pattern, self.allocation, self.repair

    def __str__(self) -> str:
        extra = [x for x in (self.pattern, self.units, self.allocation, self.repair) if x]
        return " ".join([self.method, f"{self.sparsity:.0%}".replace("%", " %"), *extra])


@dataclass(frozen=True, slots=True)
class Execution:
    """How a model is run, in the words of `workbench.compile`."""

    format: str = "auto"
    values: str = "fp32"
    threads: int | None = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `workbench.compile`."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) is not None}

    def __str__(self) -> str:
        threads = "" if self.threads is None else f" on {self.threads} threads"
        return f"compiled {self.format}-{self.values}{threads}"


Step = Choice | Execution


def changed(choice: Choice, changes: Mapping[str, Any]) -> Choice:
    """A choice with fields changed: a new method begins with its own stages, N:M fixes the sparsity."""
    known = [f.name for f in dataclasses.fields(Choice)]
    for name in changes:
        if name not in known:
            raise unknown("choice", name, known)
    if changes.get("method", choice.method) != choice.method:
        choice = Choice(sparsity=choice.sparsity, propagate=choice.propagate)
    made = dataclasses.replace(choice, **changes)
    fixed = Pattern.parse(made.pattern).sparsity
    if fixed is not None:
        made = dataclasses.replace(made, sparsity=fixed)
    names = [m.name for m in methods()]
    if made.method not in names:
        raise unknown("method", made.method, names)
    if not 0 <= made.sparsity < 1:
        raise ArgumentError(f"sparsity={made.sparsity!r}: a share of the parameters in [0, 1), e.g. 0.5")
    return made


@dataclass(frozen=True, slots=True)
class Stage:
    """The partial result that announces the next part of a long piece of work: ``index`` of ``count``."""

    what: str
    index: int
    count: int


@dataclass(frozen=True, slots=True, repr=False)
class Samples(Result):
    """One prompt continued greedily by the dense and by the pruned model; None while not yet said."""

    prompt: str
    dense: str | None = None
    pruned: str | None = None

    def _headline(self) -> str:
        return f"Samples({self.prompt!r})"

    def _sections(self) -> tuple[Section, ...]:
        return (render.section("Greedy continuation", [("dense", self.dense or ""), ("pruned", self.pruned or "")]),)


class Source(Protocol):
    """Where a variant's model comes from when it is wanted."""

    def model(self, variant: Variant) -> Any:
        """The pruned result, or the compiled model."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Variant(Result):
    """One model made of the dense one, with everything that was measured of it beside the dense one of the same run.

    Attributes
    ----------
    number
        1, 2, ... in the order of making.
    lineage
        The steps that lead from the session's model to this one, the last one being its own.
    before, after
        Quality of the dense model and of this one, on the same tokens.
    dense_size, size
        Of a compiled variant ``size.weight_bytes`` is what its packed matrices and its embedding take.
    speed
        Against the dense model; None when it was not measured.
    samples
        None when the model has no tokenizer.
    seconds
        Wall time of all of it.
    recipe, report
        Of the pruning that its weights come from; None if there was none.
    parent
        Number of the variant that it was made from; 0 is the dense model.
    source
        Hands out its model.
    """

    number: int
    lineage: tuple[Step, ...]
    before: Any
    after: Any
    dense_size: Any
    size: Any
    speed: Any
    samples: Samples | None
    seconds: float
    recipe: Any
    report: Any
    parent: int
    source: Source = field(repr=False, metadata={"json": False})

    @property
    def name(self) -> str:
        """Number and steps, e.g. ``"1: wanda 50 %"``."""
        return f"{self.number}: " + " + ".join(map(str, self.lineage))

    @property
    def compiled(self) -> bool:
        """Whether it is a compiled model: it runs, but cannot be pruned further."""
        return isinstance(self.lineage[-1], Execution)

    @property
    def sparsity(self) -> float:
        """Share of the parameters that is zeroed or removed."""
        return float(self.report.true_sparsity) if self.report is not None else 0.0

    @property
    def model(self) -> Any:
        """What runs: a `Pruned`, or a `Compiled`; built again if it is not in memory."""
        return self.source.model(self)

    @property
    def pruned(self) -> Any:
        """What `workbench.prune` returned.

        Raises
        ------
        ArgumentError
            If this is a compiled variant.
        """
        if self.compiled:
            raise ArgumentError(f"{self.name!r} is compiled: prune or export the variant that it was made from")
        return self.model

    @property
    def lm(self) -> Any:
        """The handle of the pruned model, so that a variant goes wherever a model does."""
        return self.pruned.lm

    def to_dict(self) -> dict[str, Any]:
        """Every figure, ready for JSON; not the model."""
        from workbench.results import json_ready

        names = [f.name for f in dataclasses.fields(self) if f.name != "source"]
        return {"name": self.name} | {name: json_ready(getattr(self, name)) for name in names}

    def _headline(self) -> str:
        ratio = self.after.perplexity / self.before.perplexity
        return f"Variant({self.name!r}, perplexity {self.after.perplexity:.4g}, {ratio:.2f} x dense)"

    def _sections(self) -> tuple[Section, ...]:
        rows = [
            ("dense", self.before.perplexity, self.before.low, self.before.high, self.dense_size.parameters),
            ("compiled" if self.compiled else "pruned", self.after.perplexity, self.after.low, self.after.high,
             self.size.parameters),
        ]  # fmt: skip
        header = ("", "perplexity", "low", "high", "parameters")
        sections = [render.section("Dense and pruned", rows, header)]
        for part in (self.speed, self.samples):
            sections.extend(part._sections() if part is not None else ())
        return tuple(sections)
