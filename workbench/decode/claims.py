"""Checks of claims about decoding, made on a `DecodingContext`.

    TokensPerForward   more tokens per pass of the target than the other method
    FasterThan         more tokens per second of decoding, both timed in turn
    Paired             any figure of two methods, prompt by prompt

Figures are paired: the same prompts, seeds and limits, one answer after the other in turn. The interval covers both
the choice of prompts and that of seeds, which at temperature 0 only repeat the clock.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from workbench import render
from workbench.claims import HELD, INCONCLUSIVE, NOT_HELD, Measurement
from workbench.decode._ground import DecodingConditions, DecodingContext
from workbench.decode._method import resolve
from workbench.decode.generation import Generation
from workbench.errors import ArgumentError
from workbench.measure._statistics import crossed_interval

__all__ = ["DecodingConditions", "DecodingContext", "FasterThan", "OverItems", "Pair", "Paired", "TokensPerForward"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two methods on one item: geometric means over seeds for ratios, else means."""

    HEADER: ClassVar[tuple[str, ...]] = ("prompt", "seeds", "figure", "of the other", "compared")

    item: str
    seeds: int
    own: float
    other: float
    compared: float

    def cells(self) -> tuple[str, ...]:
        """Under `HEADER`."""
        return self.item, str(self.seeds), *(render.number(x, 3) for x in (self.own, self.other, self.compared))


Parameters = Mapping[str, Any] | Callable[[DecodingContext], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class OverItems(ABC):
    """Base: a figure of the method and of another, on every item and seed; held if the interval lies in the claim.

    Attributes
    ----------
    at_least, at_most
        Where the ratio (or difference) must lie.
    kinds
        Of prompts; empty for all.
    seeds
        Whether seeds matter: else the first one does.
    difference
        Figures are compared by their difference; else by their ratio, for which they must be positive.
    """

    needs: ClassVar[type[Any]] = DecodingContext
    at_least: float = -math.inf
    at_most: float = math.inf
    kinds: tuple[str, ...] = ()
    seeds: bool = True
    difference: bool = False

    @property
    @abstractmethod
    def measured(self) -> str:
        """What is compared, in words."""

    @abstractmethod
    def pair(self, context: DecodingContext, name: str, item: Any, seed: int) -> tuple[float, float]:
        """The method's figure, and that of what it is compared with; NaN leaves the item out."""

    def items(self, context: DecodingContext) -> Sequence[Any]:
        """What figures are taken on."""
        return context.of_kinds(self.kinds)

    def __call__(self, context: DecodingContext, name: str) -> Measurement:
        """Take all figures, compare them."""
        items, seeds = list(self.items(context)), context.seeds if self.seeds else context.seeds[:1]
        found = np.empty((len(seeds), len(items), 2))
        for s, seed in enumerate(seeds):
            for n, item in enumerate(items):
                context.progress.step(f"decode with {name}", s * len(items) + n, len(seeds) * len(items))
                found[s, n] = self.pair(context, name, item, seed)
        return self.judged(found, [getattr(item, "name", str(item)) for item in items])

    def judged(self, figures: np.ndarray, names: Sequence[str]) -> Measurement:
        """The verdict on figures ``[seeds, items, 2]``: the method's and the other's."""
        whole = np.isfinite(figures).all(axis=(0, 2))
        figures, kept = figures[:, whole], [n for n, w in zip(names, whole, strict=True) if w]
        note = "" if whole.all() else f"left out, without a figure: {', '.join(sorted(set(names) - set(kept)))}"
        if not self.difference and (figures <= 0).any():
            raise ArgumentError(f"{self.measured}: a figure is not positive; compare by difference=True")
        scaled = figures if self.difference else np.log(figures)
        ends = crossed_interval(scaled[..., 0] - scaled[..., 1]) if kept else (math.nan,) * 3
        back = (lambda x: x) if self.difference else np.exp
        estimate, low, high = (float(back(x)) for x in ends)
        means = back(scaled.mean(axis=0))
        compared = back((scaled[..., 0] - scaled[..., 1]).mean(axis=0))
        table = zip(kept, means, compared, strict=True)
        rows = tuple(Pair(n, len(figures), float(m[0]), float(m[1]), float(c)) for n, m, c in table)
        if math.isnan(low):
            status, note = INCONCLUSIVE, note or "there are too few prompts for an interval"
        elif low >= self.at_least and high <= self.at_most:
            status = HELD
        else:
            status = NOT_HELD if high < self.at_least or low > self.at_most else INCONCLUSIVE
        return Measurement(self.measured, estimate, low, high, status, self.asked, rows, note)

    @property
    def asked(self) -> str:
        """What counts as held, in words."""
        bounds = [f"at least {render.number(self.at_least)}"] if math.isfinite(self.at_least) else []
        bounds += [f"at most {render.number(self.at_most)}"] if math.isfinite(self.at_most) else []
        kinds = f" on prompts of the kinds {', '.join(self.kinds)}" if self.kinds else ""
        return f"{self.measured}{kinds}: {' and '.join(bounds)}"


@dataclass(frozen=True, kw_only=True)
class _Against(OverItems):
    """Two methods on prompts.

    Attributes
    ----------
    than
        Registered name, or an instance, of the other method.
    parameters, than_parameters
        Hyper-parameters of both; a function makes them of the context, such as a draft model.
    temperature
        Of both.
    """

    than: Any = "greedy"
    parameters: Parameters = field(default_factory=dict)
    than_parameters: Parameters = field(default_factory=dict)
    temperature: float = 0.0

    def both(self, context: DecodingContext, name: str, item: Any, seed: int) -> tuple[Generation, Generation]:
        """Both answers; which one comes first changes from one to the next."""
        chosen = (
            self._resolved(context, name, self.parameters),
            self._resolved(context, self.than, self.than_parameters),
        )
        context._made["turn"] = turn = not context._made.get("turn", False)
        found = {}
        for n in (0, 1) if turn else (1, 0):
            found[n] = context.generate(chosen[n], item, seed, temperature=self.temperature)
        return found[0], found[1]

    def _resolved(self, context: DecodingContext, method: Any, parameters: Parameters) -> Any:
        def make() -> tuple[Any, Parameters]:
            return resolve(method, parameters(context) if callable(parameters) else parameters), parameters

        return context.once((str(method), id(parameters)), make)[0]  # kept beside it, the id stays its own

    @property
    def other(self) -> str:
        """The other method's name, with the temperature."""
        name = self.than if isinstance(self.than, str) else repr(self.than)
        return f"{name}{f' at temperature {render.number(self.temperature)}' if self.temperature else ''}"


@dataclass(frozen=True, kw_only=True)
class TokensPerForward(_Against):
    """Held if the method says at least so many times as many tokens per pass of the target.

    Examples
    --------
    >>> TokensPerForward(at_least=2, kinds=("copy",)).asked
    'tokens per pass of the target relative to greedy on prompts of the kinds copy: at least 2'
    """

    at_least: float = 1.0

    @property
    def measured(self) -> str:
        """What is compared."""
        return f"tokens per pass of the target relative to {self.other}"

    def __call__(self, context: DecodingContext, name: str) -> Measurement:
        """As `OverItems`, with one seed where nothing is drawn."""
        if self.temperature == 0 and self.seeds:
            return replace(self, seeds=False)(context, name)
        return super().__call__(context, name)

    def pair(self, context: DecodingContext, name: str, item: Any, seed: int) -> tuple[float, float]:
        """Tokens per pass of both."""
        own, other = self.both(context, name, item, seed)
        return _positive(own.trace.cost.tokens_per_forward), _positive(other.trace.cost.tokens_per_forward)


@dataclass(frozen=True, kw_only=True)
class FasterThan(_Against):
    """Held if the method decodes at least so many times as fast."""

    at_least: float = 1.0

    @property
    def measured(self) -> str:
        """What is compared."""
        return f"tokens per second of decoding relative to {self.other}"

    def pair(self, context: DecodingContext, name: str, item: Any, seed: int) -> tuple[float, float]:
        """Tokens per second of both, the prompt's pass not counted."""
        own, other = self.both(context, name, item, seed)
        return _positive(own.trace.cost.tokens_per_second), _positive(other.trace.cost.tokens_per_second)


def _positive(figure: float) -> float:
    """NaN instead, where an answer ended at once."""
    return figure if figure > 0 else math.nan


Figures = Callable[[DecodingContext, str, Any, int], tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Paired(OverItems):
    """Held if figures that a method brings itself compare as claimed.

    Attributes
    ----------
    quantity
        What is compared, in words: ``"share of right answers, less that of greedy"``.
    figures
        ``figures(context, name, item, seed)`` -> the method's figure, and what it is compared with.
    tasks
        Items of its own, such as questions with an answer; else the context's prompts.
    """

    quantity: str
    figures: Figures
    tasks: tuple[Any, ...] = ()

    @property
    def measured(self) -> str:
        """What is compared."""
        return self.quantity

    def items(self, context: DecodingContext) -> Sequence[Any]:
        """Tasks, or prompts."""
        return self.tasks or super().items(context)

    def pair(self, context: DecodingContext, name: str, item: Any, seed: int) -> tuple[float, float]:
        """What ``figures`` says."""
        return self.figures(context, name, item, seed)
