"""How fast a model runs beside its dense original: prefill and decode apart, interleaved in one process.

    repeat r:   dense prefill, dense decode, model prefill, model decode      (the order alternates)
    ratio_r   = milliseconds of the dense model / milliseconds of the model   (above 1: the model is faster)
    ratio     = median over r, with a bootstrap interval

Prefill is one forward over the prompt, the head for its last token only. Decode is one token at a time on the
cache, the median step of each repeat. Both models see the same random prompt. Neighbouring runs share what
else the machine was doing, so ratios are far steadier than milliseconds; where they still are not steady the
result says so instead of naming a winner.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from workbench import render
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.measure._statistics import median_interval
from workbench.models import as_lm
from workbench.results import Provenance, Result

SAME = 0.03
NOISY = 0.5
_WARM_STEPS = 2


@dataclass(frozen=True, eq=False, repr=False)
class Timing(Result):
    """One phase of the two models.

    Attributes
    ----------
    ratio, low, high : float
        Speed relative to dense, above 1 is faster, with its 95 % interval.
    ms, dense_ms : float
        Median milliseconds: of the whole prompt for prefill, of one token for decode.
    verdict : str
        ``"faster"``, ``"slower"``, ``"the same"`` (within 3 %) or ``"too noisy to tell"``
        (fewer than three repeats are always that).
    samples_ms : float64 [repeats, 2]
        Of the model and the dense model, as measured.
    """

    ratio: float
    low: float
    high: float
    ms: float
    dense_ms: float
    verdict: str
    samples_ms: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, samples_ms: np.ndarray) -> Timing:
        """From milliseconds ``[repeats, 2]`` of the model and the dense model."""
        ratio, low, high = median_interval(samples_ms[:, 1] / samples_ms[:, 0])
        ms, dense_ms = (float(x) for x in np.median(samples_ms, axis=0))
        return cls(ratio, low, high, ms, dense_ms, _verdict(ratio, low, high, len(samples_ms)), samples_ms)


@dataclass(frozen=True, eq=False, repr=False)
class Speed(Result):
    """Prefill and decode speed of a model relative to its dense original.

    Attributes
    ----------
    prefill, decode : Timing
    prompt_tokens, new_tokens, repeats, threads : int
    seconds : float
        That measuring took.
    provenance : Provenance
    """

    prefill: Timing
    decode: Timing
    prompt_tokens: int
    new_tokens: int
    repeats: int
    threads: int
    seconds: float
    provenance: Provenance = field(repr=False)

    @property
    def prefill_ratio(self) -> float:
        """Prefill speed relative to dense; above 1 is faster."""
        return self.prefill.ratio

    @property
    def decode_ratio(self) -> float:
        """Decode speed relative to dense; above 1 is faster."""
        return self.decode.ratio

    def _headline(self) -> str:
        parts = [
            f"{name} {render.number(t.ratio, 3)}x ({t.verdict})"
            for name, t in (("prefill", self.prefill), ("decode", self.decode))
        ]
        return f"Speed({', '.join(parts)}, {self.threads} threads)"

    def _sections(self) -> tuple[render.Section, ...]:
        rows = [
            (name, f"{render.number(t.ratio, 3)}x", f"{t.low:.2f} to {t.high:.2f}", ms, dense, t.verdict)
            for name, t, ms, dense in (
                ("prefill", self.prefill, self._rate(self.prefill.ms), self._rate(self.prefill.dense_ms)),
                ("decode", self.decode, _step(self.decode.ms), _step(self.decode.dense_ms)),
            )
        ]
        header = ("phase", "of dense", "95 % interval", "this model", "dense", "verdict")
        protocol = [
            ("prompt tokens", self.prompt_tokens),
            ("new tokens", self.new_tokens),
            ("repeats, interleaved", self.repeats),
            ("threads", self.threads),
        ]
        return (
            render.section("Speed", rows, header),
            render.section("Protocol", protocol),
            render.prose("Provenance", str(self.provenance)),
        )

    def _rate(self, ms: float) -> str:
        return f"{render.number(1000 * self.prompt_tokens / ms, 3)} tokens/s"


def speed(
    model: Any,
    dense: Any,
    *,
    prompt_tokens: int = 512,
    new_tokens: int = 32,
    repeats: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> Speed:
    """Time a model beside its dense original.

    Parameters
    ----------
    model, dense
        Model handles, pruned results, transformers causal LMs or compiled models with one vocabulary.
    prompt_tokens, new_tokens
        Length of the prompt; tokens decoded after it.
    repeats
        Interleaved pairs after one warm-up pair.
    seed
        Of the random prompt.
    progress
        Hears after every pair.

    Raises
    ------
    ArgumentError
        If a number is below 1 or the tokens exceed the model's positions.
    Cancelled
        If the job was cancelled.

    Examples
    --------
    >>> speed(pruned, lm)                                                            # doctest: +SKIP
    Speed(prefill 1.31x (faster), decode 1.24x (faster), 2 threads)
    """
    for name, value in (("prompt_tokens", prompt_tokens), ("new_tokens", new_tokens), ("repeats", repeats)):
        if not isinstance(value, int) or value < 1:
            raise ArgumentError(f"{name}={value!r}: a whole number of at least 1")
    modules = [m if hasattr(m, "chunks") else as_lm(m).module for m in (model, dense)]
    ids = _prompt(modules, prompt_tokens, new_tokens, seed)
    progress, start = progress or Progress(), time.perf_counter()
    samples = np.empty((2, repeats, 2))
    with torch.no_grad():
        for which in (0, 1):
            _run(modules[which], ids[:, : prompt_tokens + _WARM_STEPS], prompt_tokens, progress)
        for r in range(repeats):
            for which in (1, 0) if r % 2 == 0 else (0, 1):
                samples[:, r, which] = _run(modules[which], ids, prompt_tokens, progress)
            progress.step("speed", r + 1, repeats)
    took, threads = time.perf_counter() - start, torch.get_num_threads()
    phases = Timing.of(samples[0]), Timing.of(samples[1])
    return Speed(*phases, prompt_tokens, new_tokens, repeats, threads, took, Provenance.here(seed=seed))


def _run(module: Any, ids: torch.Tensor, prompt: int, progress: Progress) -> tuple[float, float]:
    """Milliseconds of the prefill and of the median decode step."""
    if hasattr(module, "chunks"):
        return _run_compiled(module, ids[0].numpy(), prompt, progress)
    cache, ids = DynamicCache(config=module.config), ids.to(module.device)
    sync: Callable[[], object] = torch.cuda.synchronize if module.device.type == "cuda" else lambda: None

    def forward(part: torch.Tensor) -> float:
        progress.check()
        sync()
        start = time.perf_counter()
        module(input_ids=part, past_key_values=cache, use_cache=True, logits_to_keep=1)
        sync()
        return 1000 * (time.perf_counter() - start)

    with progress.interrupting(module):  # its checks cost nothing beside a whole prompt, but would in a step
        prefill = forward(ids[:, :prompt])
    steps = [forward(ids[:, i : i + 1]) for i in range(prompt, ids.shape[1])]
    return prefill, float(np.median(steps))


def _run_compiled(model: Any, ids: np.ndarray, prompt: int, progress: Progress) -> tuple[float, float]:
    """The same of a compiled model."""
    model.crop()
    times = []
    for part in (ids[:prompt], *(ids[i : i + 1] for i in range(prompt, len(ids)))):
        progress.check()
        start = time.perf_counter()
        model.forward(part, last=True)
        times.append(1000 * (time.perf_counter() - start))
    model.crop()
    return times[0], float(np.median(times[1:]))


def _prompt(modules: list[Any], prompt: int, new: int, seed: int) -> torch.Tensor:
    rows = min(m.vocabulary if hasattr(m, "chunks") else m.get_input_embeddings().weight.shape[0] for m in modules)
    count = prompt + max(new, _WARM_STEPS)
    limit = min(
        m.context if hasattr(m, "chunks") else getattr(m.config, "max_position_embeddings", count) for m in modules
    )
    if count > limit:
        raise ArgumentError(f"{prompt} prompt and {new} new tokens: this model takes at most {limit} positions")
    ids = np.random.default_rng(seed).integers(0, rows, (1, prompt + new))
    return torch.from_numpy(ids)


def _verdict(ratio: float, low: float, high: float, repeats: int) -> str:
    if repeats < 3:
        return "too noisy to tell"
    if low > 1 - SAME and high < 1 + SAME:
        return "the same"
    if low <= 1 <= high or (high - low) / ratio > NOISY:
        return "too noisy to tell"
    return "faster" if low > 1 else "slower"


def _step(ms: float) -> str:
    return f"{render.number(ms, 3)} ms/token, {render.number(1000 / ms, 3)} tokens/s"
