"""Perplexity by a pinned protocol, with a running interval, and paired comparison of two models.

    nll_w = mean over t = 1 .. T-1 of  -log softmax(logits_{t-1})[x_t]        for every window w of T tokens
    perplexity = exp(mean_w nll_w),   interval = exp(mean -+ t_{n-1} * s / sqrt(n))

Windows do not overlap, nothing is put before them (no BOS), and log-softmax is taken in float32 whatever the
model's type. The window is the unit of the interval: tokens within one depend on each other. It says
what another sample of such windows could have given; it says nothing about another kind of text.

The head is applied to `CHUNK` tokens at a time: for a vocabulary of 49,152 and windows of 512 tokens this
holds 25 MB of logits and not several times 100 MB.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from workbench import render
from workbench.data import Tokens, check_disjoint
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.measure._head import split_head
from workbench.measure._statistics import mean_interval
from workbench.models import as_lm
from workbench.results import Provenance, Result

CHUNK = 128
_PROBE = 8

Logits = Callable[[torch.Tensor], Iterator[torch.Tensor]]


@dataclass(frozen=True, eq=False, repr=False)
class Quality(Result):
    """Perplexity of one model on one set of windows.

    Attributes
    ----------
    perplexity, low, high : float
        With its 95 % interval; NaN ends where there is only one window.
    nll_per_window : float64 [windows]
        Mean negative log likelihood of each window, nats per token.
    tokens, windows : int
        Predicted tokens, and windows they lie in.
    protocol : mapping
        Everything that must be equal for two figures to be comparable.
    seconds : float
    provenance : Provenance
    """

    perplexity: float
    low: float
    high: float
    nll_per_window: np.ndarray = field(repr=False)
    tokens: int
    windows: int
    protocol: Mapping[str, Any] = field(repr=False)
    seconds: float
    provenance: Provenance = field(repr=False)

    def _headline(self) -> str:
        interval = f"{render.number(self.low)} to {render.number(self.high)}"
        return f"Quality(perplexity={render.number(self.perplexity)}, 95 % {interval}, {self.windows} windows)"

    def _sections(self) -> tuple[render.Section, ...]:
        rows = [
            ("perplexity", self.perplexity),
            ("95 % interval", f"{render.number(self.low)} to {render.number(self.high)}"),
            ("predicted tokens", self.tokens),
            ("seconds", self.seconds),
        ]
        shown = [(k.replace("_", " "), str(v)) for k, v in self.protocol.items()]
        return (
            render.section("Perplexity", rows),
            render.section("Protocol", shown),
            render.prose("Provenance", str(self.provenance)),
        )


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Result):
    """Two models on the same windows, paired.

    Attributes
    ----------
    ratio, low, high : float
        Perplexity of the first over the second, with its 95 % interval over paired windows.
    windows : int
    verdict : str
        ``"lower"``, ``"higher"`` or ``"no clear difference"``, of the first against the second.
    protocol : mapping
    """

    ratio: float
    low: float
    high: float
    windows: int
    verdict: str
    protocol: Mapping[str, Any] = field(repr=False)

    def _sections(self) -> tuple[render.Section, ...]:
        interval = f"{render.number(self.low)} to {render.number(self.high)}"
        rows = [("perplexity ratio", self.ratio), ("95 % interval", interval), ("verdict", self.verdict)]
        return (
            render.section("Comparison", rows),
            render.section("Protocol", [(k, str(v)) for k, v in self.protocol.items()]),
        )


def perplexity(model: Any, tokens: Tokens, *, progress: Progress | None = None) -> Quality:
    """Measure perplexity by the pinned protocol.

    Parameters
    ----------
    model
        A model handle, a pruned result, a transformers causal LM, or a compiled model.
    tokens
        From `workbench.data.evaluation`.
    progress
        Hears after every window, with the `Quality` so far as ``partial``.

    Raises
    ------
    ArgumentError
        If the tokens do not fit the model.
    DataError
        If the model was pruned with calibration text that overlaps the evaluation text.
    Cancelled
        If the job was cancelled.

    Examples
    --------
    >>> perplexity(lm, evaluation(lm, windows=20))                                   # doctest: +SKIP
    Quality(perplexity=25.4, 95 % 21.9 to 29.5, 20 windows)
    """
    _check_overlap(model, tokens)
    progress = progress or Progress()
    start, provenance = time.perf_counter(), Provenance.here(seed=tokens.seed)
    nll = np.empty(tokens.samples)
    with torch.no_grad(), _reader(model, tokens, progress) as (logits, dtype, device):
        protocol = _protocol(tokens, dtype)
        for i, row in enumerate(tokens.ids):
            nll[i] = _window_nll(logits, torch.from_numpy(row[None]).to(device))
            so_far = _quality(nll[: i + 1].copy(), tokens.seqlen, protocol, start, provenance)
            progress.step("perplexity", i + 1, tokens.samples, partial=so_far)
    return so_far


@contextmanager
def _reader(model: Any, tokens: Tokens, progress: Progress) -> Iterator[tuple[Logits, str, Any]]:
    """How to get a model's logits, the type that it computes in, and where it wants its tokens."""
    if hasattr(model, "chunks"):  # compiled
        _check_vocabulary(model.vocabulary, tokens)
        if tokens.seqlen > model.context:
            raise ArgumentError(f"windows of {tokens.seqlen} tokens: this model was compiled for {model.context}")
        yield (
            lambda ids: map(torch.from_numpy, model.chunks(ids[0].numpy(), CHUNK)),
            f"compiled {model.format}-{model.values}",
            "cpu",
        )
        return
    module: Any = as_lm(model).module
    _check_vocabulary(module.get_input_embeddings().weight.shape[0], tokens)
    with progress.interrupting(module):
        dtype = str(next(module.parameters()).dtype).removeprefix("torch.")
        yield _logits(module, torch.from_numpy(tokens.ids[:1, :_PROBE])), dtype, module.device


def compare(first: Quality, second: Quality) -> Comparison:
    """Ratio of two perplexities over the same windows: far sharper than two separate intervals.

    Raises
    ------
    ArgumentError
        If the two were not measured on the same windows.
    """
    if first.protocol["windows_hash"] != second.protocol["windows_hash"] or first.windows != second.windows:
        raise ArgumentError(
            "the two figures come from different windows "
            f"({first.windows} of {first.protocol['text']!r} and "
            f"{second.windows} of {second.protocol['text']!r}): "
            "measure both with the same tokens"
        )
    mean, low, high = mean_interval(first.nll_per_window - second.nll_per_window)
    verdict = "lower" if high < 0 else "higher" if low > 0 else "no clear difference"
    return Comparison(_exp(mean), _exp(low), _exp(high), first.windows, verdict, first.protocol)


def _quality(
    nll: np.ndarray, seqlen: int, protocol: Mapping[str, Any], start: float, provenance: Provenance
) -> Quality:
    mean, low, high = mean_interval(nll)
    seconds, count = time.perf_counter() - start, len(nll)
    ends = _exp(mean), _exp(low), _exp(high)
    return Quality(*ends, nll, count * (seqlen - 1), count, protocol, seconds, provenance)


def _protocol(tokens: Tokens, dtype: str) -> dict[str, Any]:
    return {
        "text": tokens.name,
        "sha256": tokens.sha256,
        "span": list(tokens.span),
        "selection": tokens.selection,
        "seqlen": tokens.seqlen,
        "stride": tokens.seqlen,
        "bos": "none",
        "dtype": dtype,
        "log_softmax": "float32",
        "windows_hash": tokens.hash,
    }


def _window_nll(logits: Logits, ids: torch.Tensor) -> float:
    total, at = 0.0, 1
    for chunk in logits(ids):  # [tokens, vocabulary], for the positions before `at`, `at + 1`, ...
        target = ids[0, at : at + len(chunk)]
        scored = chunk[: len(target)].float()
        picked = scored.gather(1, target[:, None])[:, 0]
        total += float((scored.logsumexp(dim=1) - picked).double().sum())
        at += len(chunk)
    return total / (ids.shape[1] - 1)


def _logits(module: Any, probe: torch.Tensor) -> Logits:
    """How to get logits ``[tokens, vocabulary]`` in chunks: through the bare head where that is the same."""
    states, logits = split_head(module, probe)
    return lambda ids: map(logits, states(ids).split(CHUNK))


def _check_vocabulary(rows: int, tokens: Tokens) -> None:
    low, high = tokens.ids.min(), tokens.ids.max()
    if low < 0 or high >= rows:
        raise ArgumentError(f"tokens from {low} to {high}, but the model knows 0 to {rows - 1}: wrong tokenizer?")


def _check_overlap(model: Any, tokens: Tokens) -> None:
    calibration = getattr(getattr(model, "recipe", None), "calibration", None)
    if calibration:
        check_disjoint(calibration, tokens)


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
