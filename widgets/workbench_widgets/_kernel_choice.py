"""What a kernel lab is asked to time: one choice, the models it may come from, and the Python that does the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.errors import ArgumentError, unknown
from workbench.execute import patterns
from workbench.execute._target import layer_paths, layer_weight
from workbench.models import as_lm
from workbench.prune.masks import Pattern
from workbench.session import Session
from workbench.weights import DEFAULT_NAME

PATTERNS = ("unstructured", "2:4", "1:4", "4x1", "16x1", "bsr16", "bsr32")
PRESETS = (
    ("SmolLM2-135M, up", 1536, 576),
    ("SmolLM2-135M, down", 576, 1536),
    ("Llama-3.2-1B, query", 2048, 2048),
    ("Llama-3.2-1B, up", 8192, 2048),
    ("Llama-3.1-8B, query", 4096, 4096),
)
MOST_WEIGHTS = 1 << 26  # 256 MiB in float32
CORNER = 64  # weights on a side of the corner that is drawn one by one


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """A matrix and how it is timed, in the words of `workbench.time_kernels`.

    Attributes
    ----------
    model, layer
        A layer of one of the lab's models; an empty ``model`` stands for a random matrix.
    rows, columns, pattern, sparsity
        Of the random matrix: outputs, inputs, where zeros are and their share.
    formats
        Names, or None for all that suit.
    values, tokens, threads, repeats, cold, break_even
        As in `workbench.time_kernels`.
    """

    model: str = ""
    layer: str = ""
    rows: int = 1536
    columns: int = 576
    pattern: str = "16x1"
    sparsity: float = 0.8
    formats: tuple[str, ...] | None = None
    values: tuple[str, ...] = ("fp32",)
    tokens: tuple[int, ...] = (1, 16, 128)
    threads: int = 1
    repeats: int = 9
    cold: bool = False
    break_even: bool = False

    def changed(self, changes: Mapping[str, Any]) -> KernelChoice:
        """With fields changed; lists become tuples.

        Raises
        ------
        ArgumentError
            If a field is unknown, or the matrix is too large.
        """
        known = [f.name for f in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise unknown("setting", name, known)
        given: dict[str, Any] = {name: _tuple(name, value) for name, value in changes.items()}
        made = dataclasses.replace(self, **given)
        if not made.model:
            sizes = (made.rows, made.columns)
            if not all(isinstance(n, int) and n >= 1 for n in sizes) or made.rows * made.columns > MOST_WEIGHTS:
                raise ArgumentError(f"{made.rows} x {made.columns}: whole numbers, at most {MOST_WEIGHTS:,} weights")
        return made

    @property
    def zeros(self) -> float | None:
        """The sparsity, or None where the pattern fixes it."""
        named = patterns.NAMED.get(self.pattern, self.pattern)
        return self.sparsity if Pattern.parse(named).sparsity is None else None

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `workbench.time_kernels`."""
        own = {} if self.model else {"pattern": self.pattern, "sparsity": self.zeros}
        names = ("formats", "values", "tokens", "threads", "repeats", "cold", "break_even")
        return own | {name: getattr(self, name) for name in names}

    def python(self) -> str:
        """The call of `workbench.time_kernels` that does the same."""
        first = f"(model, {self.layer!r})" if self.model else f"({self.rows}, {self.columns})"
        given = ", ".join(f"{k}={v!r}" for k, v in self.arguments().items() if v is not None)
        note = f"# model: {self.model}\n" if self.model else ""
        return f"import workbench\n\n{note}timings = workbench.time_kernels({first}, {given})\ntimings"

    def plain(self) -> dict[str, Any]:
        """As a dictionary for the front end."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}

    def __str__(self) -> str:
        if self.model:
            return f"{self.layer} of {self.model}"
        share = "" if self.zeros is None else f", {self.sparsity:.0%} zero".replace("%", " %")
        return f"{self.rows} x {self.columns}, {self.pattern}{share}"


def named_models(given: Any) -> dict[str, Any]:
    """The models that a lab can take layers from, by name.

    Parameters
    ----------
    given
        None, a model, a pruned result, a `Session` (its dense model and its variants) or a mapping of names to models.

    Raises
    ------
    ArgumentError
        If something in it is no model.
    """
    if given is None:
        return {}
    if isinstance(given, Session):
        return {"dense": given.dense, **{v.name: v for v in given.variants if not v.compiled}}
    models = dict(given) if isinstance(given, Mapping) else {_name(given): given}
    for model in models.values():
        as_lm(model)
    return models


def layers_of(model: Any) -> list[str]:
    """The names of the matrices of a model."""
    return list(layer_paths(as_lm(model).architecture))


def mask_of(choice: KernelChoice, models: Mapping[str, Any]) -> Any:
    """The matrix that is timed, or the mask of it if it is random: the very one that `time_kernels` makes."""
    if choice.model:
        return layer_weight(model_named(choice.model, models), choice.layer)[1]
    return patterns.random_mask((choice.rows, choice.columns), choice.pattern, choice.zeros, 0)


def model_named(name: str, models: Mapping[str, Any]) -> Any:
    """One of the models; an unknown name lists the near ones."""
    if name not in models:
        raise unknown("model", name, models)
    return models[name]


def _tuple(name: str, value: Any) -> Any:
    """Lists and single values of the fields that hold several, as tuples."""
    if isinstance(value, list):
        return tuple(value)
    several = name in ("values", "tokens", "formats") and isinstance(value, str | int)
    return (value,) if several else value


def _name(model: Any) -> str:
    lm = as_lm(model)
    name = DEFAULT_NAME if lm.source == "default" else lm.source or "model"
    return name if lm is model or not hasattr(model, "lm") else f"{name}, pruned"
