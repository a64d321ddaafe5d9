"""Which papers hold up here: every published method carries its headline claim, and a check that can fail.

    Claim (statement, the paper's setting, check)  --replicate-->  Outcome: held, not held or inconclusive

The check measures the claim's counterpart on a model and text at hand, at equal true budget, over several
calibration seeds. It is a comparison with a 95 % interval: *held* if all of the interval is on the claimed
side, *not held* if all of it is on the other, else *inconclusive*. The declarative checks named here are in
`workbench._checks`; any function of `Context` and method name that returns a `Measurement` serves as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench import render
from workbench._checks import (
    HELD,
    INCONCLUSIVE,
    NOT_HELD,
    CloseTo,
    Faster,
    LowerLayerError,
    LowerPerplexity,
    Measurement,
    Run,
    interval_text,
    name_of,
)
from workbench.data import Text, Tokens, calibration, check_disjoint, evaluation, load_text
from workbench.errors import unknown
from workbench.jobs import Progress
from workbench.measure import Quality, perplexity
from workbench.models import LM, as_lm, load
from workbench.results import Provenance, Result

__all__ = [
    "HELD",
    "INCONCLUSIVE",
    "NOT_HELD",
    "Claim",
    "CloseTo",
    "Context",
    "Faster",
    "LowerLayerError",
    "LowerPerplexity",
    "Measurement",
    "Outcome",
    "Run",
    "claims",
    "replicate",
]

Check = Callable[["Context", str], Measurement]


@dataclass(frozen=True, slots=True)
class Claim:
    """The headline claim of a paper.

    Attributes
    ----------
    statement
        In our words.
    setting
        The paper's: models, data, sparsity.
    check
        Measures the counterpart here.
    """

    statement: str
    setting: str
    check: Check


@dataclass(frozen=True, eq=False, repr=False)
class Outcome(Result):
    """What became of one claim.

    Attributes
    ----------
    method, statement, setting : str
        Whose claim, what it says, where the paper showed it.
    status : str
        ``"held"``, ``"not held"`` or ``"inconclusive"``.
    measurement : Measurement
    dense_perplexity : float
        Of the unpruned model in the same run.
    model : str
        What was pruned.
    protocol, calibration : mapping
        Of the evaluation text, and of the calibration of the first seed.
    seconds : float
    provenance : Provenance
    """

    method: str
    statement: str
    setting: str
    status: str
    measurement: Measurement
    dense_perplexity: float
    model: str
    protocol: Mapping[str, Any] = field(repr=False)
    calibration: Mapping[str, Any] = field(repr=False)
    seconds: float
    provenance: Provenance = field(repr=False)

    def _headline(self) -> str:
        m = self.measurement
        figures = f"{m.quantity} {render.number(m.estimate)}, 95 % {interval_text(m.low, m.high)}"
        return f"{self.method}: {self.status} ({figures})"

    def _sections(self) -> tuple[render.Section, ...]:
        m = self.measurement
        rows = [
            ("claim", self.statement),
            ("in the paper", self.setting),
            ("asked here", m.asked),
            ("found", f"{m.quantity} {render.number(m.estimate)}, 95 % {interval_text(m.low, m.high)}"),
            ("verdict", f"{self.status}{f' ({m.note})' if m.note else ''}"),
        ]
        runs = [(r.method, r.seed, render.share(r.true_sparsity), r.perplexity, r.seconds) for r in m.runs]
        protocol = [("model", self.model), ("dense perplexity", self.dense_perplexity)]
        protocol += [(k, str(v)) for k, v in self.protocol.items()]
        protocol += [(f"calibration {k}", str(v)) for k, v in self.calibration.items()]
        header = ("method", "seed", "true sparsity", "perplexity", "seconds to prune")
        return (
            render.section("Claim", rows),
            render.section("Runs", runs, header),
            render.section("Protocol", protocol),
            render.prose("Provenance", str(self.provenance)),
        )


@dataclass(slots=True, eq=False)
class Context:
    """What checks are run on: a model, its texts, and a memory of what was measured already.

    Attributes
    ----------
    lm
        The dense model; never changed.
    text
        Calibration text, from which windows are drawn anew for every seed.
    tokens
        Evaluation windows.
    samples
        Calibration windows, each as long as an evaluation window.
    progress
        Hears of everything.
    """

    lm: LM
    text: Text
    tokens: Tokens
    samples: int = 16
    progress: Progress = field(default_factory=Progress)
    _runs: dict[tuple[str, str, int | None], Run] = field(default_factory=dict)
    _dense: Quality | None = None

    @classmethod
    def of(
        cls,
        model: Any = None,
        text: Any = None,
        *,
        samples: int = 16,
        seqlen: int = 512,
        windows: int | None = 24,
        progress: Progress | None = None,
    ) -> Context:
        """The usual context: two parts of one text (default: built in) on one model (default: embedded)."""
        lm = load() if model is None else load(model) if isinstance(model, str) else as_lm(model)
        first, second = load_text(text).split()
        tokens = evaluation(lm, second, seqlen=seqlen, windows=windows)
        context = cls(lm, first, tokens, samples, progress or Progress())
        check_disjoint(context.calibration(0), tokens)
        return context

    def calibration(self, seed: int) -> Tokens:
        """The calibration windows of a seed."""
        return calibration(self.lm, self.text, samples=self.samples, seqlen=self.tokens.seqlen, seed=seed)

    def dense(self) -> Quality:
        """The unpruned model, measured once."""
        if self._dense is None:
            self._dense = perplexity(self.lm, self.tokens, progress=self.progress)
        return self._dense

    def prune(self, method: Any, seed: int, **stages: Any) -> Any:
        """Prune the model with the calibration windows of a seed; methods that draw get the seed too."""
        import workbench.prune as package

        chosen = method
        if isinstance(method, str):
            has_seed = "seed" in package.resolve(method).parameters
            chosen = package.resolve(method, {"seed": seed} if has_seed else {})
        elif "seed" in getattr(method, "parameters", {}):
            chosen = type(method)(**{**method.parameters, "seed": seed})
        given = {"calibration": self.calibration(seed), "progress": self.progress, **stages}
        return package.prune(self.lm, chosen, **given)

    def run(self, method: Any, seed: int, *, pruned: Any = None, **stages: Any) -> Run:
        """Prune and measure, or remember: checks of several methods share what they compare with."""
        name, asked = name_of(method), repr(sorted(stages.items()))
        for key in ((name, asked, seed), (name, asked, None)):
            if key in self._runs:
                return self._runs[key]
        pruned = pruned or self.prune(method, seed, **stages)
        quality = perplexity(pruned, self.tokens, progress=self.progress)
        chance = bool(pruned.recipe.calibration) or "seed" in pruned.recipe.parameters
        sparsity, nll = pruned.report.true_sparsity, quality.nll_per_window
        found = Run(name, seed, sparsity, quality.perplexity, pruned.seconds, nll)
        self._runs[name, asked, seed if chance else None] = found
        return found


def replicate(method: str, context: Context | None = None) -> Outcome:
    """Run the claim of one method.

    Parameters
    ----------
    method
        A registered name.
    context
        Where to run it; None for the usual one on the embedded model (minutes).

    Raises
    ------
    ArgumentError
        If the method is unknown or carries no claim.

    Examples
    --------
    >>> replicate("wanda")                                                           # doctest: +SKIP
    wanda: held (perplexity ratio to magnitude 0.2, 95 % 0.15 to 0.27)
    """
    known = claims()
    if method not in known:
        raise unknown("method with a claim", method, known)
    claim, start = known[method], time.perf_counter()
    context = context or Context.of()
    dense = context.dense()
    found = claim.check(context, method)
    return Outcome(
        method,
        claim.statement,
        claim.setting,
        found.status,
        found,
        dense.perplexity,
        context.lm.source,
        dense.protocol,
        context.calibration(0).provenance,
        time.perf_counter() - start,
        Provenance.here(seed=0, method=method),
    )


def claims() -> dict[str, Claim]:
    """The claim of every registered method that carries one, by name."""
    from workbench.prune import registry

    return {name: cls.claim for name, cls in sorted(registry().items()) if cls.claim is not None}
