"""Sums over tokens while a layer runs, and the means that they become."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from workbench.architecture import Architecture
from workbench.errors import ArgumentError, unknown
from workbench.prune._runner import Stop

KINDS = ("norm", "moments", "absolute", "gram", "similarity", "gradient")


@dataclass(slots=True, eq=False)
class SiteStatistics:
    """Statistics of one input of a layer, over all calibration tokens.

    Attributes
    ----------
    square, mean, variance, absolute : Tensor [in], float32, or None
        Means over tokens of x^2, x, (x - mean)^2 and |x|.
    gram : Tensor [in, in], float32, or None
        Mean over tokens of x x^T.
    """

    square: torch.Tensor | None = None
    mean: torch.Tensor | None = None
    variance: torch.Tensor | None = None
    absolute: torch.Tensor | None = None
    gram: torch.Tensor | None = None

    def get(self, name: str) -> torch.Tensor:
        """The statistic called ``name``; ArgumentError if it was not collected."""
        value = getattr(self, name)
        if value is None:
            raise ArgumentError(f"the statistic {name!r} was not collected: name its kind in the method's needs")
        return value

    @property
    def rms(self) -> torch.Tensor:
        """Root mean square of every input, ``[in]``: the L2 norm over tokens up to a constant."""
        return self.get("square").sqrt()


@dataclass(slots=True, eq=False)
class LayerStatistics:
    """All that was collected of one layer.

    Attributes
    ----------
    sites
        By the names of `Architecture.sites`.
    cosine, angle : float
        Mean over tokens of the cosine between the layer's input and output, and of the angle over pi.
    gradients
        dLoss/dW in the weight's own layout, by parameter name within the layer.
    """

    sites: dict[str, SiteStatistics] = field(default_factory=dict)
    cosine: float = float("nan")
    angle: float = float("nan")
    gradients: dict[str, torch.Tensor] = field(default_factory=dict)


class Collector:
    """Sums statistics while a layer runs; `result` turns the sums into means."""

    def __init__(self, architecture: Architecture, kinds: Iterable[str]) -> None:
        self.architecture, self.kinds = architecture, frozenset(kinds)
        for kind in self.kinds:
            if kind not in KINDS:
                raise unknown("statistic", kind, KINDS)
        self._sums: dict[str, dict[str, torch.Tensor]] = {s: {} for s in architecture.sites}
        self._tokens = dict.fromkeys(architecture.sites, 0)
        self._pairs: list[tuple[float, float, int]] = []

    @contextmanager
    def watching(self, index: int, *, stop: bool = False) -> Iterator[None]:
        """Hook the four inputs of layer ``index``; ``stop``: leave the layer once the last was seen."""
        handles = []
        if self.kinds & {"norm", "moments", "absolute", "gram"}:
            for site, paths in self.architecture.sites.items():
                last = stop and site == "mlp_out"
                module = self.architecture.linear(index, paths[0])
                handles.append(module.register_forward_pre_hook(self._hook(site, last)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, site: str, last: bool) -> Any:
        def hook(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            self._add(site, args[0].detach().flatten(0, -2).float())
            if last:
                raise Stop

        return hook

    def _add(self, site: str, x: torch.Tensor) -> None:
        sums, before, new = self._sums[site], self._tokens[site], x.shape[0]

        def accumulate(name: str, value: torch.Tensor) -> None:
            sums[name] = sums[name].add_(value) if name in sums else value.clone()

        if "moments" in self.kinds:  # Chan's update: exact for inputs whose mean is far from zero
            mean = x.mean(0, dtype=torch.float64)
            centre = mean.float()
            around = (x - centre).square().sum(0).double()
            accumulate("m2", (around - new * (mean - centre).square()).clamp_min(0))
            if before:
                delta = mean - sums["mean"]
                sums["m2"] += delta.square() * (before * new / (before + new))
                sums["mean"] += delta * (new / (before + new))
            else:
                sums["mean"] = mean
        if "norm" in self.kinds:
            accumulate("square", torch.linalg.vector_norm(x, dim=0).double().square())
        if "absolute" in self.kinds:
            accumulate("absolute", x.abs().sum(0).double())
        if "gram" in self.kinds:
            if "gram" in sums:
                sums["gram"].addmm_(x.T, x)
            else:
                sums["gram"] = x.T @ x
        self._tokens[site] += new

    def pair(self, hidden: torch.Tensor, out: torch.Tensor) -> None:
        """Compare a layer's inputs with its outputs, ``[batch, seqlen, hidden]``."""
        if "similarity" in self.kinds:
            cosine = torch.cosine_similarity(hidden.float(), out.float(), dim=-1).double().clamp(-1, 1)
            angle = cosine.arccos() / torch.pi
            self._pairs.append((float(cosine.sum()), float(angle.sum()), cosine.numel()))

    def result(self) -> LayerStatistics:
        """The statistics of the layer that was watched; the sums are emptied."""
        layer = LayerStatistics()
        for site, sums in self._sums.items():
            n = max(self._tokens[site], 1)
            mean = sums.get("mean")
            layer.sites[site] = SiteStatistics(
                square=_mean(sums.get("square"), n),
                mean=None if mean is None else mean.float(),
                variance=_mean(sums.get("m2"), n),
                absolute=_mean(sums.get("absolute"), n),
                gram=_mean(sums.get("gram"), n),
            )
            self._sums[site], self._tokens[site] = {}, 0
        if self._pairs:
            count = sum(p[2] for p in self._pairs)
            layer.cosine = sum(p[0] for p in self._pairs) / count
            layer.angle = sum(p[1] for p in self._pairs) / count
            self._pairs = []
        return layer


def _mean(total: torch.Tensor | None, count: int) -> torch.Tensor | None:
    return None if total is None else (total / count).float()
