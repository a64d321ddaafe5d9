"""Sampled texts against their exact probabilities: a tiny vocabulary, every text enumerated, a G-test.

    P(x_1 ... x_n) = prod p(x_i | x_<i)        G = 2 sum O ln(O / E) ~ chi-square with (cells - 1) degrees of freedom

A text ends before n tokens where the model ends it. Answers are drawn longer than n, so that drafts reach over the
compared tokens. Cells that expect fewer than 5 texts are merged into one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.decode._method import Decoder
from workbench.decode.run import Run
from workbench.decode.sampling import Sampler
from workbench.decode.target import Target
from workbench.errors import WorkbenchError
from workbench.execute.compiled import compile  # noqa: A004
from workbench.jobs import Progress
from workbench.models import LM

VOCABULARY = 7
PROMPT = (3, 4, 5, 3, 4, 6, 3, 4, 5, 3, 4)  # repeats itself, so that drafts from the text occur
LENGTH, LIMIT = 3, 7
LEAST_EXPECTED = 5.0
LEAST_P = 1e-4
Text = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """A G-test.

    Attributes
    ----------
    statistic, freedom
        G, and its degrees of freedom.
    p_value
        How often at least as much would be seen if the distribution were right.
    samples
        Texts that were drawn.
    runtime
        What drew them.
    """

    statistic: float
    freedom: int
    p_value: float
    samples: int
    runtime: str = ""

    def rows(self) -> list[tuple[str, Any]]:
        """Names and values."""
        return [
            ("texts drawn", self.samples),
            ("by", self.runtime),
            ("G", self.statistic),
            ("degrees of freedom", self.freedom),
            ("p value", self.p_value),
        ]


def g_test(counts: Mapping[Any, int], chances: Mapping[Any, float]) -> Fit:
    """How well counts fit probabilities.

    Parameters
    ----------
    counts
        How often each outcome occurred; one that has probability 0 makes the p value 0.
    chances
        Of all outcomes; they add up to 1.

    Examples
    --------
    >>> round(g_test({"a": 48, "b": 52}, {"a": 0.5, "b": 0.5}).p_value, 2)
    0.69
    """
    total = sum(counts.values())
    if any(chances.get(k, 0.0) <= 0 for k, n in counts.items() if n):
        return Fit(float("inf"), max(1, len(chances) - 1), 0.0, total)
    merged: list[tuple[float, float]] = []
    rest_seen = rest_expected = 0.0
    for outcome, chance in chances.items():
        seen, expected = float(counts.get(outcome, 0)), chance * total
        if expected >= LEAST_EXPECTED:
            merged.append((seen, expected))
        else:
            rest_seen, rest_expected = rest_seen + seen, rest_expected + expected
    if rest_expected > 0:
        merged.append((rest_seen, rest_expected))
    freedom = len(merged) - 1
    if freedom < 1:
        return Fit(0.0, 0, 1.0, total)
    statistic = 2 * sum(o * np.log(o / e) for o, e in merged if o > 0)
    half = torch.tensor([freedom / 2, max(statistic, 0.0) / 2], dtype=torch.float64)
    return Fit(float(statistic), freedom, float(torch.special.gammaincc(half[0], half[1])), total)


def g_test_passes(fit: Fit) -> bool:
    """Whether a right method would be seen to fit so badly once in ten thousand times, or more often."""
    return fit.p_value > LEAST_P


def enumerated(
    target: Target, prompt: Sequence[int], length: int, sampler: Sampler, ends: frozenset[int]
) -> dict[Text, float]:
    """The probability of every text of ``length`` tokens, and of shorter ones that the model ends."""
    found: dict[Text, float] = {}
    open_texts: list[tuple[Text, float]] = [((), 1.0)]
    while open_texts:
        text, chance = open_texts.pop()
        if len(text) == length:
            found[text] = found.get(text, 0.0) + chance
            continue
        target.crop()
        p = sampler.probabilities(target.forward([*prompt, *text]).logits[-1])
        for token in np.flatnonzero(p).tolist():
            if token in ends:
                found[text] = found.get(text, 0.0) + chance * float(p[token])
            else:
                open_texts.append(((*text, token), chance * float(p[token])))
    target.crop()
    return found


def sampled_fit(
    method: Decoder,
    *,
    samples: int = 4000,
    seed: int = 0,
    sampler: Sampler | None = None,
    parameters: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Draw texts with a method on a tiny model and test their distribution.

    Parameters
    ----------
    method
        Its hyper-parameters are kept where they do not depend on the model: those of ``example_parameters`` win.
    sampler
        By default temperature 1.
    parameters
        Instead of ``example_parameters``.
    """
    from workbench.testing import tiny_lm

    lm = tiny_lm(vocab_size=VOCABULARY, head_dim=32, seed=seed)
    tiny = on_model(method, lm, parameters)
    target, samples = fitting_target(tiny, lm, samples)
    used = tiny.sampler(sampler or Sampler(1.0))
    ends = Run(target, PROMPT).ends
    exact = enumerated(target, PROMPT, LENGTH, used, ends)
    counts: Counter[Text] = Counter()
    progress = progress or Progress()
    for n in range(samples):
        if n % 100 == 0:
            progress.step(f"draw texts with {tiny.name}", n, samples)
        run = Run(target, PROMPT, sampler=used, seed=seed * 10**6 + n, limit=LIMIT, detail=False)
        tiny.decode(run)
        target.crop()
        counts[tuple(run.tokens[len(PROMPT) : len(PROMPT) + LENGTH])] += 1
    fit = g_test(counts, exact)
    return Fit(fit.statistic, fit.freedom, fit.p_value, samples, type(target).__name__)


def on_model(method: Decoder, lm: LM, parameters: Mapping[str, Any] | None = None) -> Decoder:
    """The same method for another model: what its class says that it needs there, the rest as it is."""
    given = dict(type(method).example_parameters(lm) if parameters is None else parameters)
    given = {k: _quick(v) for k, v in given.items()}
    kept = {k: v for k, v in vars(method).items() if k in type(method).__dataclass_fields__ and k not in given}
    return type(method)(**kept, **given)


def _quick(value: Any) -> Any:
    """A draft model on the compiled runtime, if it runs there."""
    if not isinstance(value, LM):
        return value
    try:
        return compile(value, "dense", threads=1)
    except WorkbenchError:
        return value


def fitting_target(method: Decoder, lm: LM, samples: int) -> tuple[Target, int]:
    """The compiled runtime, which is quick, if the method runs on it; else transformers, and fewer samples."""
    try:
        target = method.target(compile(lm, "dense", threads=1))
        method.decode(Run(target, PROMPT, sampler=method.sampler(Sampler(1.0)), limit=2, detail=False))
    except WorkbenchError:
        return method.target(lm), max(1, samples // 4)
    target.crop()
    return target, samples
