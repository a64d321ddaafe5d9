"""What a session keeps: the choice made, the variant that came of it, and the Python that makes it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench import render
from workbench.data import Tokens, calibration
from workbench.errors import ArgumentError, DataError, unknown
from workbench.jobs import Progress
from workbench.measure import Quality
from workbench.measure._statistics import mean_interval
from workbench.models import LM
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


@dataclass(frozen=True, eq=False, repr=False)
class Variant(Result):
    """One pruned model with everything that was measured of it, beside the dense model of the same run.

    Attributes
    ----------
    number
        1, 2, ... in the order of making.
    lineage
        The choices that lead from the session's model to this one, the last one being its own.
    pruned
        What `workbench.prune` returned.
    before, after
        Quality of the dense model and of this one, on the same tokens.
    dense_size, size
    speed
        Against the dense model; None when it was not measured.
    samples
        None when the model has no tokenizer.
    seconds
        Wall time of all of it.
    """

    number: int
    lineage: tuple[Choice, ...]
    pruned: Any
    before: Any
    after: Any
    dense_size: Any
    size: Any
    speed: Any
    samples: Samples | None
    seconds: float

    @property
    def name(self) -> str:
        """Number and choices, e.g. ``"1: wanda 50 %"``."""
        return f"{self.number}: " + " + ".join(map(str, self.lineage))

    def _headline(self) -> str:
        ratio = self.after.perplexity / self.before.perplexity
        return f"Variant({self.name!r}, perplexity {self.after.perplexity:.4g}, {ratio:.2f} x dense)"

    def _sections(self) -> tuple[Section, ...]:
        rows = [
            ("dense", self.before.perplexity, self.before.low, self.before.high, self.dense_size.parameters),
            ("pruned", self.after.perplexity, self.after.low, self.after.high, self.size.parameters),
        ]
        header = ("", "perplexity", "low", "high", "parameters")
        sections = [render.section("Dense and pruned", rows, header)]
        for part in (self.speed, self.samples):
            sections.extend(part._sections() if part is not None else ())
        return tuple(sections)


@torch.inference_mode()
def greedy(lm: LM, prompt: str, new_tokens: int, progress: Progress | None = None) -> str:
    """Continue a prompt with the likeliest token each time, ending at the model's end-of-text token.

    Raises
    ------
    DataError
        If the model has no tokenizer, or the prompt no tokens.
    """
    if new_tokens < 1:
        raise ArgumentError(f"new_tokens={new_tokens}: at least 1 is wanted")
    if lm.tokenizer is None:
        raise DataError("this model has no tokenizer, so it cannot continue a prompt: wrap(module, tokenizer)")
    ids = torch.tensor([lm.tokenizer(prompt)["input_ids"]], dtype=torch.long, device=lm.device)
    if not ids.numel():
        raise DataError(f"the prompt {prompt!r} has no tokens: write a word or two")
    ends, cache, said = lm.end_tokens, None, []
    for done in range(new_tokens):
        if progress is not None:
            progress.step("sample", done, new_tokens)
        output = lm.module(input_ids=ids, past_key_values=cache, use_cache=True)
        cache, token = output.past_key_values, int(output.logits[0, -1].argmax())
        if token in ends:
            break
        said.append(token)
        ids = torch.tensor([[token]], device=lm.device)
    return str(lm.tokenizer.decode(said))


def side_by_side(dense: LM, pruned: LM, prompt: str, new_tokens: int, progress: Progress | None = None) -> Samples:
    """One prompt continued by two models."""
    said = greedy(dense, prompt, new_tokens, progress)
    return Samples(prompt, said, greedy(pruned, prompt, new_tokens, progress))


def running(quality: Quality) -> np.ndarray:
    """How an estimate of perplexity converged.

    Returns
    -------
    float64 [windows, 4]
        After each window: tokens read, perplexity, and its 95 % interval (NaN after the first).
    """
    nll = quality.nll_per_window
    per_window = quality.tokens / len(nll)
    ends = [mean_interval(nll[:n]) for n in range(1, len(nll) + 1)]
    tokens = per_window * np.arange(1, len(nll) + 1)
    return np.column_stack([tokens, np.exp(np.minimum(ends, 700.0))])


def tokens_expression(lm: LM, source: Any, samples: int, seqlen: int, seed: int) -> str:
    """The Python that draws a session's calibration tokens again; empty if they came from elsewhere."""
    text = ""
    if isinstance(source, str | Path):
        text = f"{str(source)!r}, "
    elif isinstance(source, Tokens):
        samples, seqlen, seed = source.samples, source.seqlen, source.seed or 0
        if not _is_builtin(lm, source):
            return ""
    elif source is not None:
        return ""
    return f"workbench.calibration(model, {text}samples={samples}, seqlen={seqlen}, seed={seed})"


def _is_builtin(lm: LM, tokens: Tokens) -> bool:
    """Whether the default text gives the same tokens."""
    if lm.tokenizer is None or tokens.seed is None:
        return False
    try:
        again = calibration(lm, samples=tokens.samples, seqlen=tokens.seqlen, seed=tokens.seed)
    except DataError:
        return False
    return again.hash == tokens.hash


def python_of(lineage: tuple[Choice, ...], source: str, tokens: str, seed: int) -> str:
    """The program that makes the same variant with the public interface alone.

    Parameters
    ----------
    source
        What the model was loaded from; ``"memory"`` leaves the name ``model`` to the reader.
    tokens
        The Python expression of the calibration tokens; empty leaves the name ``tokens`` to the reader.
    """
    lines = ["import workbench", ""]
    if source == "memory":
        lines.append("# model: the model that was given to the session; it was not loaded from a name")
    else:
        lines.append(f"model = workbench.load({'' if source == 'default' else repr(source)})")
    if tokens:
        lines.append(f"tokens = {tokens}")
    else:
        lines.append("# tokens: the calibration tokens that were given to the session")
    model = "model"
    for choice in lineage:
        given = ", ".join(f"{k}={v!r}" for k, v in choice.arguments().items() if k != "method")
        lines.append(f"pruned = workbench.prune({model}, {choice.method!r}, {given}, calibration=tokens, seed={seed})")
        model = "pruned"
    return "\n".join(lines) + "\n"
