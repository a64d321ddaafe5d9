"""How fast ways of decoding are beside plain decoding: same runtime, same process, same prompts, in turn.

    of each prompt, in every round:  plain, method 1, ..., method m, plain        (methods rotate from prompt to prompt)
    speed of an answer = seconds of plain decoding (mean of both) / seconds of the method, the prompt's pass not counted
    speed of a method  = median over prompts of the medians over rounds, with a bootstrap interval over prompts

Answers of a method are compared with plain decoding's token by token; nothing is reported without that.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from workbench import render
from workbench.decode._bench_rows import HEADER, Row, Sample, rows_of
from workbench.decode._method import Decoder, decoders, resolve
from workbench.decode.costs import VerifyCosts, costs_of
from workbench.decode.generation import generate
from workbench.decode.prompts import Prompt
from workbench.decode.target import as_target
from workbench.decode.trace import Trace
from workbench.errors import ArgumentError, WorkbenchError
from workbench.execute._clock import Clock, clock
from workbench.execute.compiled import Compiled
from workbench.jobs import Progress, Step
from workbench.results import Provenance, Result

PLAIN = "greedy"


@dataclass(frozen=True, eq=False, repr=False)
class DecodeBench(Result):
    """What `bench_decode` returns.

    Attributes
    ----------
    rows : tuple of Row
        Per runtime, method and group of prompts.
    samples : tuple of Sample
    costs : mapping of str to VerifyCosts
        Per runtime.
    left_out : mapping of str to str
        Methods that could not run, and why.
    protocol : mapping of str to str
    provenance : Provenance
    """

    rows: tuple[Row, ...]
    samples: tuple[Sample, ...]
    costs: Mapping[str, VerifyCosts]
    left_out: Mapping[str, str]
    protocol: Mapping[str, str]
    provenance: Provenance = field(repr=False)

    @property
    def identical(self) -> bool:
        """Whether every answer was plain decoding's."""
        return all(s.identical for s in self.samples)

    def table(self) -> list[tuple[str, ...]]:
        """Header and rows, as text."""
        return [HEADER, *(row.cells() for row in self.rows)]

    def cost_table(self) -> list[tuple[str, ...]]:
        """v(n) of every runtime, as text."""
        sizes = sorted({n for c in self.costs.values() for n in c.sizes})
        head = ("runtime", "ms a token", *(f"v({n})" for n in sizes), "trees")
        return [head] + [
            (name, f"{1000 * c.seconds[0]:.1f}", *(f"{c.ratio(n):.2f}" for n in sizes), f"{c.tree_factor:.2f}")
            for name, c in self.costs.items()
        ]

    def _headline(self) -> str:
        alike = sum(s.identical for s in self.samples)
        return f"DecodeBench({len(self.rows)} rows, {alike} of {len(self.samples)} answers identical to plain decoding)"

    def _sections(self) -> tuple[render.Section, ...]:
        return (
            render.section("Speed relative to plain decoding", [row.cells() for row in self.rows], HEADER),
            render.section("Passes over n tokens", self.cost_table()[1:], self.cost_table()[0]),
            render.section("Left out", list(self.left_out.items())) if self.left_out else render.prose("Left out", "-"),
            render.section("Protocol", list(self.protocol.items())),
            render.prose("Provenance", str(self.provenance)),
        )


def bench_decode(
    models: Mapping[str, Any],
    prompts: Sequence[Prompt],
    *,
    methods: Iterable[str | Decoder] | None = None,
    new_tokens: int = 96,
    rounds: int = 3,
    progress: Progress | None = None,
) -> DecodeBench:
    """Time ways of decoding beside plain decoding.

    Parameters
    ----------
    models
        By the name of their runtime.
    prompts
    methods
        Names or decoders; by default all that draft, promise plain decoding's text, and need no arguments.
    new_tokens, rounds
        Of every answer, at most; times that every answer is made.
    progress
        Hears after every answer.

    Raises
    ------
    ArgumentError
        If there is nothing to time.
    """
    chosen = [resolve(m) for m in (lossless() if methods is None else methods)]
    if not models or not prompts or not chosen or new_tokens < 2 or rounds < 1:
        raise ArgumentError("models, prompts and methods: at least one each; new_tokens at least 2, rounds at least 1")
    progress, found = progress or Progress(), []
    costs: dict[str, VerifyCosts] = {}
    left_out: dict[str, str] = {}
    for name, model in models.items():
        costs[name] = costs_of(as_target(model))
        fitting, refused = _able(model, chosen, prompts[0])
        left_out |= {f"{m} ({name})": why for m, why in refused.items()}
        for n, prompt in enumerate(prompts):
            progress.step(f"decode ({name})", n, len(prompts))
            turned = fitting[n % len(fitting) :] + fitting[: n % len(fitting)] if fitting else []
            found += _times(name, model, turned, prompt, new_tokens, rounds, progress)
    protocol = {
        "threads": ", ".join(f"{name} {c.threads}" for name, c in costs.items()),
        "clock": ", ".join(sorted({c.clock for c in costs.values()})),
        "tokens of an answer, at most": str(new_tokens),
        "rounds": str(rounds),
        "prompts": ", ".join(p.name for p in prompts),
    }
    return DecodeBench(rows_of(found), tuple(found), costs, left_out, protocol, Provenance.here(seed=0))


def lossless() -> list[str]:
    """Names of the methods that draft and promise plain decoding's text."""
    return [d.name for d in decoders("speculative") if d.promises != "lossy"]


def _able(model: Any, methods: Sequence[Decoder], prompt: Prompt) -> tuple[list[Decoder], dict[str, str]]:
    """Those that run as they are, each warmed up, and why the others do not."""
    fitting, refused = [], {}
    for method in methods:
        try:
            generate(model, prompt.ids(as_target(model).tokenizer), method, max_new_tokens=8, detail=False)
            fitting.append(method)
        except WorkbenchError as error:
            refused[method.name] = str(error)
    return fitting, refused


def _times(
    runtime: str,
    model: Any,
    methods: Sequence[Decoder],
    prompt: Prompt,
    new_tokens: int,
    rounds: int,
    progress: Progress,
) -> list[Sample]:
    """Every method's answer to a prompt, timed ``rounds`` times in turn."""
    read = clock(model.threads if isinstance(model, Compiled) else torch.get_num_threads())
    ids, plain = prompt.ids(as_target(model).tokenizer), resolve(PLAIN)
    speeds: dict[str, list[float]] = {m.name: [] for m in methods}
    traces: dict[str, Trace] = {}
    for _ in range(rounds):
        first, traces[PLAIN] = _answer(model, ids, plain, new_tokens, read)
        seconds = {}
        for method in methods:
            progress.check()
            seconds[method.name], traces[method.name] = _answer(model, ids, method, new_tokens, read)
        last, _ = _answer(model, ids, plain, new_tokens, read)
        for name, took in seconds.items():
            speeds[name].append((first + last) / 2 / took)
    if len(traces[PLAIN].tokens) < 2:
        return []
    return [_sample(runtime, m.name, prompt, speeds[m.name], traces[m.name], traces[PLAIN]) for m in methods]


def _answer(model: Any, ids: Sequence[int], method: Decoder, new_tokens: int, read: Clock) -> tuple[float, Trace]:
    """Seconds from the first token on, and the trace."""
    begun: list[int] = []

    def heard(_: Step) -> None:
        if not begun:
            begun.append(read.read())

    found = generate(model, ids, method, max_new_tokens=new_tokens, detail=False, progress=Progress(heard))
    return 1e-9 * max(1, read.read() - begun[0]) if begun else 1e-9, found.trace


def _sample(runtime: str, method: str, prompt: Prompt, speeds: Sequence[float], trace: Trace, plain: Trace) -> Sample:
    acceptance, cost = trace.acceptance, trace.cost
    accepted = tuple(round(a * acceptance.drafts) for a in acceptance.by_position)
    return Sample(
        runtime,
        method,
        prompt.name,
        prompt.group,
        statistics.median(speeds),
        cost.tokens - 1,
        cost.target_forwards,
        acceptance.drafts,
        accepted,
        len(trace.rows("decline")),
        np.array_equal(trace.tokens, plain.tokens),
    )
