"""How fast a whole model decodes when it is compiled, beside transformers and llama.cpp: all in one process.

    round r:   every engine in turn: prompt, then single tokens, then several tokens at once    (the order rotates)
    ratio_r  = milliseconds of transformers in float32 / milliseconds of the engine            (above 1: faster)

The compiled model's logits are checked against a float64 twin first; what does not match is not timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from workbench import data, render
from workbench.errors import ArgumentError
from workbench.execute._engines import BASELINE, CONTEXT, VERIFY, Engine, Own, engines_of
from workbench.execute._twin import LogitCheck, check_logits
from workbench.execute.compiled import Compiled
from workbench.execute.compiled import compile as compile_model
from workbench.jobs import Progress
from workbench.measure._statistics import median_interval
from workbench.models import LM, as_lm
from workbench.results import Provenance, Result

CHECKED = 64


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One engine.

    Attributes
    ----------
    engine : str
    decode_ms : float
        Of one token.
    decode_ratio, low, high : float
        Of transformers float32 to this, with a 95 % interval.
    prefill_ms, prefill_ratio : float
        Of the whole prompt.
    verify_ms : mapping of int to float
        Of several tokens at once; only where the engine was asked.
    """

    engine: str
    decode_ms: float
    decode_ratio: float
    low: float
    high: float
    prefill_ms: float
    prefill_ratio: float
    verify_ms: dict[int, float]


@dataclass(frozen=True, eq=False, repr=False)
class ModelTimes(Result):
    """Whole-model times of a compiled model and of what a user would otherwise run.

    Attributes
    ----------
    compiled : str
        One line on what was compiled.
    name : str
        Its row among ``rows``.
    rows : tuple of EngineRow
        The compiled model first.
    check : LogitCheck
    prompt_tokens, rounds, threads : int
    nbytes : int
        Of all matrices of the compiled model: what one token reads.
    seconds : float
    provenance : Provenance
    """

    compiled: str
    name: str
    rows: tuple[EngineRow, ...]
    check: LogitCheck
    prompt_tokens: int
    rounds: int
    threads: int
    nbytes: int
    seconds: float
    provenance: Provenance = field(repr=False)

    def _headline(self) -> str:
        row = self.rows[0]
        verdict = "logits agree" if self.check.passed else "LOGITS DIFFER"
        return (
            f"ModelTimes({self.name}: {row.decode_ms:.2f} ms a token, {row.decode_ratio:.1f} x {BASELINE}, {verdict})"
        )

    def table(self) -> tuple[tuple[str, ...], ...]:
        """The engines' figures in words, the header first."""
        prompt = f"prompt of {self.prompt_tokens}, ms"
        header = ("engine", "ms/token", "x fp32", "95 %", prompt, "x fp32", *_verify())
        return (header, *(_cells(row) for row in self.rows))

    def facts(self) -> tuple[list[tuple[str, str]], list[tuple[str, Any]]]:
        """The check of the logits, and the protocol."""
        c, own = self.check, self.rows[0]
        check = [
            ("difference to a float64 twin, rms", f"{c.error:.3g} (tolerance {c.tolerance:.3g})"),
            ("what rounding changes, rms", f"{c.rounding:.3g}"),
            ("same most likely token", render.share(c.top1)),
            ("Kullback-Leibler divergence, nats", f"{c.divergence:.3g}"),
        ]
        return check, [
            ("MB read a token", f"{self.nbytes / 1e6:.0f}"),
            ("GB/s", f"{self.nbytes / own.decode_ms / 1e6:.1f}"),
            ("threads", self.threads),
            ("rounds, interleaved", self.rounds),
        ]

    def _sections(self) -> tuple[render.Section, ...]:
        header, *rows = self.table()
        check, facts = self.facts()
        return (
            render.section("Whole model", rows, header),
            render.section(f"Logits of {self.check.tokens} tokens", check),
            render.section("Protocol", facts),
            render.prose("Provenance", str(self.provenance)),
        )


def _verify() -> tuple[str, ...]:
    return tuple(f"{n} tokens / 1" for n in VERIFY)


def _cells(row: EngineRow) -> tuple[str, ...]:
    verify = (f"{row.verify_ms[n] / row.decode_ms:.2f}" if n in row.verify_ms else "-" for n in VERIFY)
    prompt = f"{row.prefill_ms:.1f}", f"{row.prefill_ratio:.2f}"
    return (
        row.engine,
        f"{row.decode_ms:.2f}",
        f"{row.decode_ratio:.2f}",
        f"{row.low:.2f} to {row.high:.2f}",
        *prompt,
        *verify,
    )


def time_model(
    model: Any,
    format: str = "auto",  # noqa: A002 - as in `compile`
    values: str = "fp32",
    *,
    head: str | None = None,
    dense: Any = None,
    prompt_tokens: int = 256,
    rounds: int = 7,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ModelTimes:
    """Compile a model, check its logits and time it beside transformers and llama.cpp.

    Parameters
    ----------
    model
        Model handle, pruned result or transformers causal LM.
    format, values, head
        As of `workbench.compile`.
    dense
        The model that transformers runs; the same if None.
    prompt_tokens
        Of the prompt.
    rounds
        Interleaved; each times one prompt and eight single tokens per engine.
    threads
        Of all engines; None for as many as torch uses.
    progress
        Hears after every engine's turn.

    Raises
    ------
    ArgumentError
        If a number is out of range or a name unknown.
    ModelError
        If the family has no compiled runtime.
    """
    if not (1 <= prompt_tokens <= CONTEXT // 2 and rounds >= 1):
        raise ArgumentError(f"prompt_tokens={prompt_tokens}, rounds={rounds}: 1 to {CONTEXT // 2}, and at least 1")
    lm, progress, begun = as_lm(model), progress or Progress(), time.perf_counter()
    threads = threads or torch.get_num_threads()
    compiled = compile_model(lm, format, values, head=head, context=CONTEXT, threads=threads, progress=progress)
    ids = _ids(lm, CONTEXT // 2)
    check = _check(lm, compiled, ids[:CHECKED])
    name = "compiled " + compiled.stored["qkv"][0] + ("" if "-" in compiled.stored["qkv"][0] else f"-{values}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        engines = engines_of(name, compiled, as_lm(dense if dense is not None else lm), threads)
        samples = _rounds(engines, ids, prompt_tokens, rounds, progress)
    finally:
        torch.set_num_threads(before)
    rows = tuple(_row(engine, samples[engine], samples[BASELINE]) for engine in engines)
    took, counts = time.perf_counter() - begun, (prompt_tokens, rounds, threads, compiled.nbytes)
    return ModelTimes(repr(compiled), name, rows, check, *counts, took, Provenance.here())


def _ids(lm: LM, count: int) -> np.ndarray:
    if lm.tokenizer is None:
        vocabulary = int(lm.module.config.vocab_size)
        return np.random.default_rng(0).integers(0, vocabulary, count)
    return np.asarray(data.evaluation(lm, windows=1, seqlen=count).ids[0], np.int64)


def _check(lm: LM, compiled: Compiled, ids: np.ndarray) -> LogitCheck:
    compiled.crop()
    weights = compiled.decoder.weights
    formats = {k: [getattr(x, k) for x in weights.layers] for k in ("qkv", "o", "gate_up", "down")}
    return check_logits(lm, formats | {"head": [weights.head]}, compiled.forward(ids), ids)


Samples = dict[str, list[float]]


def _rounds(
    engines: dict[str, Engine], ids: np.ndarray, prompt: int, rounds: int, progress: Progress
) -> dict[str, Samples]:
    found: dict[str, Samples] = {name: {} for name in engines}
    order = list(engines)
    for r in range(-1, rounds):  # the first is a warm-up
        turn = order[r % len(order) :] + order[: r % len(order)]
        for n, name in enumerate(turn):
            samples = _turn(engines[name], ids, prompt)
            if r >= 0:
                for key, value in samples.items():
                    found[name].setdefault(key, []).append(value)
            progress.step("whole model", (r + 1) * len(order) + n + 1, (rounds + 1) * len(order))
    return found


def _turn(engine: Engine, ids: np.ndarray, prompt: int) -> dict[str, float]:
    """Milliseconds of a prompt, of the median of eight single tokens, and of several at once."""
    engine.reset()
    samples = {"prefill": _timed(lambda: engine.forward(ids[:prompt]))}
    singles = [_timed(lambda n=n: engine.forward(ids[n : n + 1])) for n in range(8)]  # type: ignore[misc]
    samples["decode"] = float(np.median(singles))
    if isinstance(engine, Own):
        for count in VERIFY:
            part = ids[:count]
            samples[f"verify {count}"] = float(np.median([_timed(lambda x=part: engine.forward(x)) for _ in range(3)]))  # type: ignore[misc]
    return samples


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def _row(engine: str, samples: Samples, base: Samples) -> EngineRow:
    decode, prefill = np.array(samples["decode"]), np.array(samples["prefill"])
    ratio, low, high = median_interval(np.array(base["decode"]) / decode)
    prompt = float(np.median(np.array(base["prefill"]) / prefill))
    verify = {n: float(np.median(samples[f"verify {n}"])) for n in VERIFY if f"verify {n}" in samples}
    return EngineRow(engine, float(np.median(decode)), ratio, low, high, float(np.median(prefill)), prompt, verify)
