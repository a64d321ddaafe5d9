"""Declarative checks of claims: what is pruned and compared, what would count as held. Public in `claims`.

    LowerPerplexity   below the other method at equal budget
    CloseTo           within a factor of the other method
    LowerLayerError   smaller error in the outputs of the weights, each on the dense model's inputs
    Faster            a removed model that decodes, or reads its prompt, faster than the other's

Figures are paired: the same windows, the same calibration seeds, the same budget. The interval covers
both the choice of evaluation windows and the choice of calibration windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch

from workbench import render
from workbench.jobs import Progress
from workbench.measure import speed
from workbench.measure._statistics import crossed_interval

if TYPE_CHECKING:
    from workbench._context import Context

HELD, NOT_HELD, INCONCLUSIVE = "held", "not held", "inconclusive"
SAME_BUDGET = 0.02


class Record(Protocol):
    """One thing that a check measured: a row of the outcome's table."""

    HEADER: ClassVar[tuple[str, ...]]

    def cells(self) -> tuple[str, ...]:
        """Under `HEADER`."""
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """One pruned model that a check looked at."""

    HEADER: ClassVar[tuple[str, ...]] = ("pruned by", "seed", "true sparsity", "perplexity", "seconds to prune")

    method: str
    seed: int
    true_sparsity: float
    perplexity: float
    seconds: float
    nll: np.ndarray = field(repr=False, compare=False)

    def cells(self) -> tuple[str, ...]:
        """Under `HEADER`."""
        quality = "-" if math.isnan(self.perplexity) else render.number(self.perplexity)
        return self.method, str(self.seed), render.share(self.true_sparsity), quality, f"{self.seconds:.1f}"

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, without the numbers of every window."""
        return {k: getattr(self, k) for k in ("method", "seed", "true_sparsity", "perplexity", "seconds")}


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a check found.

    Attributes
    ----------
    quantity
        What was estimated, e.g. ``"perplexity ratio to magnitude"``.
    estimate, low, high
        With its 95 % interval.
    status
        ``"held"``, ``"not held"`` or ``"inconclusive"``.
    asked
        The check in words: what would have counted as held.
    runs
        What was measured for it: pruned models, or others with the same two members as `Record`.
    note
        What a reader must know beside the figures; empty if nothing.
    """

    quantity: str
    estimate: float
    low: float
    high: float
    status: str
    asked: str
    runs: tuple[Record, ...]
    note: str = ""


@dataclass(frozen=True)
class _Versus:
    """Two methods at one budget, over seeds.

    Attributes
    ----------
    than
        Registered name, or an instance, of the other method.
    sparsity
        Share that both give up.
    pattern, units
        As `workbench.prune` takes them; both methods get them.
    seeds
        Of the calibration windows, and of methods that draw.
    """

    than: Any
    sparsity: float
    pattern: str | None = None
    units: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def stages(self) -> dict[str, Any]:
        """What both methods are asked for."""
        stages = {"sparsity": self.sparsity, "pattern": self.pattern, "units": self.units}
        return {k: v for k, v in stages.items() if v is not None}

    @property
    def at(self) -> str:
        """The budget in words."""
        extra = [x for x in (self.pattern, " and ".join(self.units or ())) if x]
        return f"at {render.share(self.sparsity)}{f', {extra[0]}' if extra else ''}"

    def runs(self, context: Context, method: str) -> tuple[list[Run], list[Run]]:
        """Both methods with every seed."""
        pairs = [[context.run(m, s, **self.stages) for m in (method, self.than)] for s in self.seeds]
        return [p[0] for p in pairs], [p[1] for p in pairs]


@dataclass(frozen=True)
class LowerPerplexity(_Versus):
    """Held if the interval of the perplexity ratio to the other method lies below 1."""

    def __call__(self, context: Context, method: str) -> Measurement:
        """Prune, measure, compare."""
        own, other = self.runs(context, method)
        ratio = _ratio([r.nll for r in own], [r.nll for r in other])
        status, note = _judge(ratio, (-1.0, 1.0), own, other)
        name = name_of(self.than)
        asked = f"{self.at}, lower perplexity than {name}"
        return Measurement(f"perplexity ratio to {name}", *ratio, status, asked, (*own, *other), note)


@dataclass(frozen=True)
class CloseTo(_Versus):
    """Held if the interval of the perplexity ratio to the other method lies in ``[1/factor, factor]``."""

    factor: float = 1.1

    def __call__(self, context: Context, method: str) -> Measurement:
        """Prune, measure, compare."""
        own, other = self.runs(context, method)
        ratio = _ratio([r.nll for r in own], [r.nll for r in other])
        status, note = _judge(ratio, (1 / self.factor, self.factor), own, other)
        name = name_of(self.than)
        asked = f"{self.at}, perplexity within a factor of {render.number(self.factor)} of {name}'s"
        return Measurement(f"perplexity ratio to {name}", *ratio, status, asked, (*own, *other), note)


@dataclass(frozen=True)
class LowerLayerError(_Versus):
    """Held if ``|X W' - X W|^2 / |X W|^2``, in the log mean over all weights, is below the other's."""

    windows: int = 4

    def __call__(self, context: Context, method: str) -> Measurement:
        """Prune, run the dense model once per pair, compare."""
        own: list[Run] = []
        other: list[Run] = []
        errors = []
        for seed in self.seeds:
            both = [context.prune(m, seed, **self.stages) for m in (method, self.than)]
            found = [layer_errors(context.lm, p, context.tokens.ids[: self.windows]) for p in both]
            errors.append([np.log(np.maximum(e, 1e-12)) for e in found])
            for runs, name, p in zip((own, other), (method, name_of(self.than)), both, strict=True):
                runs.append(Run(name, seed, p.report.true_sparsity, math.nan, p.seconds, np.empty(0)))
        ratio = _ratio([e[0] for e in errors], [e[1] for e in errors])
        status, note = _judge(ratio, (-1.0, 1.0), own, other)
        name = name_of(self.than)
        asked = f"{self.at}, lower error of the weights' outputs than {name}"
        return Measurement(f"output error ratio to {name}", *ratio, status, asked, (*own, *other), note)


@dataclass(frozen=True)
class Faster(_Versus):
    """Held if the pruned model is faster than the other method's, both timed side by side."""

    phase: str = "decode"
    repeats: int = 7
    seeds: tuple[int, ...] = (0,)

    def __call__(self, context: Context, method: str) -> Measurement:
        """Prune both, then time them in turn."""
        both = [context.prune(m, self.seeds[0], **self.stages) for m in (method, self.than)]
        length = min(128, context.tokens.seqlen)
        found = speed(*both, prompt_tokens=length, repeats=self.repeats, progress=context.progress)
        timing = found.decode if self.phase == "decode" else found.prefill
        ratio = timing.ratio, timing.low, timing.high
        named = zip((method, self.than), both, strict=True)
        runs = [context.run(m, self.seeds[0], pruned=p, **self.stages) for m, p in named]
        status, note = _judge(ratio, (1.0, math.inf), runs[:1], runs[1:])
        if timing.verdict == "too noisy to tell":
            status, note = INCONCLUSIVE, "the machine was too noisy to tell"
        name = name_of(self.than)
        asked = f"{self.at}, faster {self.phase} than {name} ({found.threads} threads)"
        return Measurement(f"{self.phase} speed relative to {name}", *ratio, status, asked, tuple(runs), note)


def layer_errors(dense: Any, pruned: Any, ids: np.ndarray) -> np.ndarray:
    """Relative squared output error of every prunable weight, on the inputs it has in the dense model.

    Parameters
    ----------
    dense, pruned
        Handle, and pruned result of the same shapes.
    ids : int64 [windows, tokens]

    Returns
    -------
    float64 [weights]
    """
    before, after = dense.architecture, pruned.lm.architecture
    pairs = {
        (i, name): (module, after.linears(i)[name])
        for i in range(before.num_layers)
        for name, module in before.linears(i).items()
    }
    sums = {key: np.zeros(2) for key in pairs}
    with _watching(pairs, sums), torch.no_grad(), Progress().interrupting(dense.module):
        for row in ids:
            dense.module.base_model(input_ids=torch.from_numpy(row[None]), use_cache=False)
    return np.array([wrong / right for wrong, right in sums.values()])


@contextmanager
def _watching(
    pairs: Mapping[Any, tuple[torch.nn.Module, torch.nn.Module]], sums: Mapping[Any, np.ndarray]
) -> Iterator[None]:
    def hook(key: Any, other: torch.nn.Module) -> Any:
        def compare(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            wrong = (other(inputs[0]) - output).double().square().sum()
            sums[key] += [float(wrong), float(output.double().square().sum())]

        return compare

    hooks = [module.register_forward_hook(hook(key, other)) for key, (module, other) in pairs.items()]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def name_of(method: Any) -> str:
    """How a run names its method: the registered name, or the ``repr`` of an instance."""
    return method if isinstance(method, str) else repr(method)


def interval_text(low: float, high: float) -> str:
    """An interval in words."""
    return f"{render.number(low)} to {render.number(high)}"


def _ratio(own: list[np.ndarray], other: list[np.ndarray]) -> tuple[float, float, float]:
    """``exp`` of the mean difference ``[seeds, units]``, with its interval."""
    mean, low, high = crossed_interval(np.stack(own) - np.stack(other))
    with np.errstate(over="ignore"):
        return float(np.exp(mean)), float(np.exp(low)), float(np.exp(high))


def _judge(
    ratio: tuple[float, float, float], claimed: tuple[float, float], own: list[Run], other: list[Run]
) -> tuple[str, str]:
    """Status and note, from where the interval lies and whether the budgets were equal."""
    _, low, high = ratio
    gap = np.mean([r.true_sparsity for r in own]) - np.mean([r.true_sparsity for r in other])
    if abs(gap) > SAME_BUDGET:
        return INCONCLUSIVE, f"the budgets differ by {render.share(abs(float(gap)))}"
    if not (math.isfinite(low) or math.isfinite(high)):
        return INCONCLUSIVE, "there are too few windows for an interval"
    if claimed[0] < low and high < claimed[1]:
        return HELD, ""
    return (NOT_HELD, "") if high <= claimed[0] or low >= claimed[1] else (INCONCLUSIVE, "")
