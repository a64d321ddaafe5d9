"""Which format a layer gets: candidates timed against torch's own layer on the layer's real weight.

    ratio_r = exp(mean over token counts of log(torch's time / candidate's time))        repeat r, interleaved

Chosen is the highest median ratio, of several within 3 % the one with the fewest bytes, if its 95 % interval lies
above 1; else torch's layer stays.

Layers of one shape, pattern and sparsity (to a per cent) are alike: the first is timed with every format that suits
it, each other one with those that came within a quarter of the best. Layers with equal masks share one measurement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from workbench.architecture import matrix
from workbench.execute._clock import rounds, speedup
from workbench.execute.forms import Form, candidates, kept
from workbench.execute.linear import SparseLinear
from workbench.execute.patterns import pattern_of
from workbench.execute.timing import error_of, ours
from workbench.jobs import Progress
from workbench.render import number

NEAR = 0.75
LEVEL = 0.97
KEPT = "torch"


@dataclass(frozen=True, slots=True)
class Tried:
    """One format timed on one layer.

    Attributes
    ----------
    name : str
        Format and values.
    ratio, low, high : float
        Speed relative to torch's layer: geometric mean over the token counts, with its 95 % interval.
    by_tokens : tuple of float
        Speed at each token count.
    nbytes : int
        Bytes of the weight in this format.
    """

    name: str
    ratio: float
    low: float
    high: float
    by_tokens: tuple[float, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class LayerChoice:
    """What became of one linear layer, and why.

    Attributes
    ----------
    name : str
        E.g. ``"layers.0.mlp.up_proj"``.
    shape : (int, int)
        Outputs and inputs.
    sparsity : float
        Share of weights that are zero.
    pattern : str
        Found in the weight: see `workbench.execute.pattern_of`.
    tried : tuple of Tried
        The fastest first; empty if the format was given.
    choice : str
        Format and values, or ``"torch"`` where the layer stayed as it was.
    ratio : float
        Measured speed of the choice relative to torch's layer; NaN if it was not measured.
    reason : str
    bytes_before, bytes_after : int
        Of the weight, in memory.
    """

    name: str
    shape: tuple[int, int]
    sparsity: float
    pattern: str
    tried: tuple[Tried, ...]
    choice: str
    ratio: float
    reason: str
    bytes_before: int
    bytes_after: int


@dataclass
class Chooser:
    """Measures layer after layer and remembers what it has seen.

    Attributes
    ----------
    values : str
    tokens : tuple of int
    threads, repeats, seed : int
    progress : Progress
    """

    values: str
    tokens: tuple[int, ...]
    threads: int
    repeats: int
    seed: int
    progress: Progress
    _menus: dict[Any, list[Form]] = field(default_factory=dict)
    _seen: dict[Any, tuple[Tried, ...]] = field(default_factory=dict)

    def choose(self, name: str, layer: nn.Module, make: Callable[[Form], SparseLinear]) -> tuple[LayerChoice, Any]:
        """The record of one layer, and the module that takes its place (None: the layer stays)."""
        weight = matrix(layer).float().contiguous().numpy()
        shape = int(weight.shape[0]), int(weight.shape[1])
        pattern, sparsity = pattern_of(weight), 1 - kept(weight) / weight.size
        alike = (shape, pattern, round(sparsity, 2))
        first = alike not in self._menus
        menu = self._menus.setdefault(alike, candidates(weight, self.values))
        exact = (shape, hashlib.blake2b(np.packbits(weight != 0).tobytes()).digest())
        forms = {form.named(self.values): form for form in menu}
        made: dict[str, SparseLinear] = {}
        if exact not in self._seen:
            for n, form in forms.items():
                self.progress.check()
                if not first or self._right(form, weight):
                    made[n] = make(form)
            self._seen[exact] = self._measure(layer, made, shape[1])
            best = self._seen[exact][0].ratio if made else 0.0
            self._menus[alike] = [forms[t.name] for t in self._seen[exact] if t.ratio >= NEAR * best] if first else menu
        tried, size = self._seen[exact], int(weight.size) * matrix(layer).element_size()
        reason, winner = verdict(tried, pattern)
        if winner is None:
            return LayerChoice(name, shape, sparsity, pattern, tried, KEPT, 1.0, reason, size, size), None
        module = made.get(winner.name) or make(forms[winner.name])
        after = module.format.nbytes
        return LayerChoice(
            name, shape, sparsity, pattern, tried, winner.name, winner.ratio, reason, size, after
        ), module  # fmt: skip

    def _right(self, form: Form, weight: np.ndarray) -> bool:
        """Whether a kernel matches its reference on this weight: one that does not is no candidate."""
        one = ours(form, weight, self.values, self.threads)
        x = np.random.default_rng(self.seed).standard_normal((self.tokens[0], weight.shape[1])).astype(np.float32)
        return error_of(one, one.prepare(x), x) <= 1

    def _measure(self, layer: nn.Module, made: dict[str, SparseLinear], inputs: int) -> tuple[Tried, ...]:
        """All formats against the layer as it is, the fastest first."""
        kind = matrix(layer).dtype
        times: list[dict[str, list[float]]] = []
        for count in self.tokens:
            drawn = np.random.default_rng([self.seed, count]).standard_normal((count, inputs)).astype(np.float32)
            x = torch.from_numpy(drawn).to(kind)
            works: dict[str, Callable[[], Any]] = {KEPT: lambda x=x: layer(x)}  # type: ignore[misc]
            works |= {name: (lambda one=one, x=x: one(x)) for name, one in made.items()}  # type: ignore[misc]
            times.append(list(rounds(works, self.repeats, self.threads, self.progress))[-1])
        found = [self._tried(name, one, times) for name, one in made.items()]
        return tuple(sorted(found, key=lambda t: -t.ratio))

    def _tried(self, name: str, one: SparseLinear, times: Sequence[dict[str, list[float]]]) -> Tried:
        logs = [np.log(np.asarray(t[KEPT]) / np.maximum(t[name], 1e-9)) for t in times]
        mean = np.exp(np.mean(logs, axis=0))
        by_tokens = tuple(float(np.exp(np.median(x))) for x in logs)
        return Tried(name, *speedup(list(mean), [1.0] * len(mean)), by_tokens, int(one.format.nbytes))


def verdict(tried: Sequence[Tried], pattern: str) -> tuple[str, Tried | None]:
    """The reason in words, and the format chosen, if one beats torch."""
    if not tried:
        return "no kernel matched its reference", None
    level = [t for t in tried if t.ratio >= LEVEL * tried[0].ratio and (t.low > 1) == (tried[0].low > 1)]
    best = min(level, key=lambda t: (t.nbytes, not t.name.startswith(pattern)))
    said = f"{best.name} is {number(best.ratio, 3)}x as fast as torch ({best.low:.2f} to {best.high:.2f})"
    if best.low > 1:
        return f"{said}: the fastest of {len(tried)} on this {pattern} weight", best
    if best.high < 1:
        return f"the fastest, {said}, is slower", None
    return f"the fastest, {said}, is not certain to gain", None
