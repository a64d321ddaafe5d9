"""What claims about pruning are checked on: a model, its texts, and what was measured already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from workbench import render
from workbench._checks import Run, name_of
from workbench.data import Text, Tokens, calibration, check_disjoint, evaluation, load_text
from workbench.jobs import Progress
from workbench.measure import Quality, perplexity
from workbench.models import LM, as_lm, load


@dataclass(frozen=True, slots=True)
class ModelConditions:
    """Of a claim about pruning.

    Attributes
    ----------
    dense_perplexity : float
        Of the unpruned model in the same run.
    model : str
        What was pruned.
    protocol, calibration : mapping
        Of the evaluation text, and of the calibration of the first seed.
    """

    dense_perplexity: float
    model: str
    protocol: Mapping[str, Any]
    calibration: Mapping[str, Any]

    def rows(self) -> list[tuple[str, Any]]:
        """Names and values, all of them."""
        rows = [("model", self.model), ("dense perplexity", self.dense_perplexity)]
        rows += [(k, str(v)) for k, v in self.protocol.items()]
        return [*rows, *((f"calibration {k}", str(v)) for k, v in self.calibration.items())]

    def summary(self) -> str:
        """In one sentence."""
        p, drawn = self.protocol, self.calibration
        return (
            f"Model {self.model}, dense perplexity {render.number(self.dense_perplexity)}; {p['selection']} of "
            f"{p['seqlen']} tokens of {p['text']} (SHA-256 {p['sha256'][:12]}), {p['dtype']}, no BOS; calibration: "
            f"{drawn['samples']} x {drawn['seqlen']} tokens of another part."
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

    def conditions(self) -> ModelConditions:
        """The model and its texts; measures the unpruned model if it has not been."""
        dense = self.dense()
        return ModelConditions(dense.perplexity, self.lm.source, dense.protocol, self.calibration(0).provenance)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Nothing has to be set for the time of a check."""
        yield

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
