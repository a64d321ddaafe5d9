"""What a pruning method is, and the one dict that holds them.

A method is a frozen dataclass in a file of its own; its fields are the paper's hyper-parameters. Three kinds differ
in what they score; higher always means keep:

    WeightMethod    score(weight, inputs) -> [out, in]                     one number per weight
    ChannelMethod   score(layer) -> {kind: [units, channels]}              numbers per channel of each unit
    LayerMethod     score(model) -> [layers]                               one number per layer
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch

from workbench._citation import Citation
from workbench._registry import Registry
from workbench.architecture import Architecture, matrix
from workbench.data import Tokens
from workbench.jobs import Progress
from workbench.prune.masks import Pattern
from workbench.prune.statistics import LayerStatistics, SiteStatistics, Statistics

PROTECT_FROM = 12


@dataclass(frozen=True)
class Method(ABC):
    """Base of every pruning method; see `WeightMethod`, `ChannelMethod` and `LayerMethod`.

    Attributes
    ----------
    name, title
        For menus: the registry's key and how people write it.
    family
        ``"weights"``, ``"channels"`` or ``"layers"``.
    units
        Kinds of units it removes.
    needs
        Kinds of statistics that `score` reads; empty: no data.
    protect
        How many first and last layers are never touched (in models of at least `PROTECT_FROM` layers).
    propagate
        Whether, by the paper, a layer is scored on what the already pruned layers before it put out.
    allocation, repair
        The paper's own stages, by name; any other can be asked for.
    formula
        One line, in the symbols of the file's header.
    claim
        The paper's headline claim and how it is checked here.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    family: ClassVar[str]
    units: ClassVar[tuple[str, ...]]
    needs: ClassVar[frozenset[str]] = frozenset()
    protect: ClassVar[tuple[int, int]] = (0, 0)
    propagate: ClassVar[bool] = False
    allocation: ClassVar[str] = "uniform"
    repair: ClassVar[str] = "none"
    citation: ClassVar[Citation | None] = None
    formula: ClassVar[str]
    claim: ClassVar[Any] = None

    def protected(self, layers: int) -> frozenset[int]:
        """The layers, of so many, that are never touched."""
        first, last = self.protect if layers >= PROTECT_FROM else (0, 0)
        return frozenset(range(first)) | frozenset(range(layers - last, layers))

    @property
    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters, ready for JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


Solver = Callable[[torch.Tensor, int, Pattern], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class WeightMethod(Method):
    """Scores single weights. ``compare`` says among which: those of one output row, or of the whole matrix."""

    family: ClassVar[str] = "weights"
    units: ClassVar[tuple[str, ...]] = ("weight",)
    compare: ClassVar[str] = "row"

    @abstractmethod
    def score(self, weight: torch.Tensor, inputs: SiteStatistics | None) -> torch.Tensor:
        """Score every weight.

        Parameters
        ----------
        weight : Tensor [out, in], float32
        inputs
            Statistics of what the weight multiplies; None if the method needs none.

        Returns
        -------
        Tensor [out, in], float32, >= 0; higher = keep
        """

    def solver(self, inputs: SiteStatistics | None) -> Solver | None:
        """For methods that update weights while they choose: what to call for every weight that reads ``inputs``.

        It takes (weight, count, pattern) and returns (new weight, mask). None: select by `score`, then repair.
        """
        del inputs
        return None


@dataclass(frozen=True)
class LayerView:
    """One layer as a channel method sees it."""

    architecture: Architecture
    index: int
    statistics: LayerStatistics

    def weight(self, path: str) -> torch.Tensor:
        """The float32 weight ``[out, in]`` at a path of the layer (a vector ``[n]`` for a norm)."""
        module = self.architecture.linear(self.index, path)
        return module.weight.detach().float() if module.weight.ndim == 1 else matrix(module).float()

    def output_path(self, kind: str) -> str:
        """The linear that carries units of ``kind`` back into the residual stream."""
        family = self.architecture.family
        return family.down if kind == "neuron" else family.o

    def inputs(self, kind: str) -> SiteStatistics:
        """Statistics of what that linear multiplies: one channel per input."""
        return self.statistics.sites[self.architecture.site_of(self.output_path(kind))]

    def by_unit(self, kind: str, channels: torch.Tensor) -> torch.Tensor:
        """Scores of the output linear's inputs ``[in]`` as ``[units, channels of the unit]``."""
        slot = next(s for s in self.architecture.slots(kind, self.index) if s.axis == 1)
        return channels[slot.index.to(channels.device)]


@dataclass(frozen=True)
class ChannelMethod(Method):
    """Scores the channels of neurons and KV groups; a unit's score is the mean over its channels."""

    family: ClassVar[str] = "channels"
    units: ClassVar[tuple[str, ...]] = ("neuron", "kv_group")

    @abstractmethod
    def score(self, layer: LayerView, kind: str) -> torch.Tensor:
        """Score the units of one kind in a layer: float32 ``[units, channels]``, higher = keep."""


@dataclass(frozen=True)
class ModelView:
    """A whole model as a layer method sees it."""

    architecture: Architecture
    tokens: Tokens
    statistics: Statistics | None
    progress: Progress


@dataclass(frozen=True)
class LayerMethod(Method):
    """Scores whole layers."""

    family: ClassVar[str] = "layers"
    units: ClassVar[tuple[str, ...]] = ("layer",)

    @abstractmethod
    def score(self, model: ModelView) -> torch.Tensor:
        """Score every layer: float64 ``[layers]``, higher = keep; ``inf`` = never remove."""


METHODS: Registry[Method] = Registry(Method, "method", ("name", "title", "family", "units", "formula"))
method, registry, resolve = METHODS.register, METHODS.classes, METHODS.resolve


@dataclass(frozen=True, slots=True)
class MethodInfo:
    """What menus and tables show of a method."""

    name: str
    title: str
    family: str
    units: tuple[str, ...]
    needs: tuple[str, ...]
    citation: Citation | None
    formula: str
    patterns: tuple[str, ...]
    default_allocation: str
    default_repair: str
    parameters: Mapping[str, Any]


def methods() -> tuple[MethodInfo, ...]:
    """All methods, by family and name.

    Examples
    --------
    >>> [m.name for m in methods() if m.family == "layers"]
    ['shortened-llama', 'shortgpt']
    """
    order: Callable[[type[Method]], tuple[str, str]] = lambda c: (c.family, c.name)  # noqa: E731
    return tuple(
        MethodInfo(
            name=c.name,
            title=c.title,
            family=c.family,
            units=c.units,
            needs=tuple(sorted(c().needs)),
            citation=c.citation,
            formula=c.formula,
            patterns=("unstructured", "2:4", "4:8", "16x1") if c.family == "weights" else (),
            default_allocation=c.allocation,
            default_repair=c.repair,
            parameters=c().parameters,
        )
        for c in sorted(METHODS.values(), key=order)
    )
