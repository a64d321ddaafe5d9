"""`generate`, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench import render
from workbench.decode._method import Decoder, resolve
from workbench.decode.run import Run
from workbench.decode.sampling import Sampler
from workbench.decode.target import Target
from workbench.decode.trace import Trace
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.results import Provenance, Result


@dataclass(frozen=True, eq=False, repr=False)
class Generation(Result):
    """What `generate` returns.

    Attributes
    ----------
    text : str
        The answer; empty if the model has no tokenizer.
    tokens : ndarray of int32
        Its tokens; a token that ended it is not among them.
    finished : str
        ``"stop token"``, ``"stop text"``, ``"limit"`` (asked for no more), ``"context"`` (no room), or what a search
        says.
    trace : Trace
    """

    text: str
    tokens: np.ndarray
    finished: str
    trace: Trace = field(repr=False)

    def _headline(self) -> str:
        shown = self.text if len(self.text) <= 60 else f"{self.text[:57]}..."
        return f"Generation({len(self.tokens)} tokens by {self.trace.method}, {self.finished}: {shown!r})"

    def _sections(self) -> tuple[render.Section, ...]:
        return (render.prose("Text", self.text), *self.trace._sections())


def generate(
    model: Any,
    prompt: str | Sequence[int],
    method: str | Decoder = "greedy",
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    seed: int = 0,
    stop: str | Sequence[str] = (),
    detail: bool = True,
    stream: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    **parameters: Any,
) -> Generation:
    """Decode an answer with one of the methods of `decoders`, and record every event.

    Parameters
    ----------
    model
        What `workbench.load`, `prune`, `sparsify` or `compile` returned, or a transformers causal LM.
    prompt
        Text, or token ids.
    method
        A registered name, with its hyper-parameters as further arguments; or a `Decoder`.
    max_new_tokens
        At most so many.
    temperature, top_k, top_p, min_p
        See `Sampler`; by default the most likely token.
    seed
        Of everything that is drawn: same seed, same tokens.
    stop
        Text, or texts, before which the answer ends.
    detail
        Whether distributions are recorded too (the clock of the trace stands still meanwhile).
    stream
        Called with each new piece of text.
    progress
        Hears after every token; cancels.

    Returns
    -------
    Generation

    Raises
    ------
    ArgumentError
        If an argument is unknown or out of range, or the prompt does not fit.
    Cancelled
        If the job was cancelled; the model is as it was.

    Examples
    --------
    >>> generate(lm, "The capital of France is", max_new_tokens=8).text               # doctest: +SKIP
    ' Paris.'
    """
    chosen = resolve(method, parameters)
    sampler = chosen.sampler(Sampler(temperature, top_k, top_p, min_p))
    target = chosen.target(model)
    ids = _ids(target, prompt)
    if max_new_tokens < 1:
        raise ArgumentError(f"max_new_tokens={max_new_tokens}: at least 1")
    if len(ids) >= target.context:
        raise ArgumentError(f"prompt has {len(ids)} tokens; the model has room for {target.context}: shorten it")
    texts = (stop,) if isinstance(stop, str) else tuple(stop)
    if any(not t for t in texts):
        raise ArgumentError("stop holds an empty text: leave it out")
    run = Run(
        target, ids, sampler=sampler, seed=seed, limit=max_new_tokens, stop=texts, detail=detail, stream=stream,
        progress=progress,
    )  # fmt: skip
    try:
        with run.progress.compiling():
            chosen.decode(run)
    finally:
        target.crop()
    text, tokens = run.answer()
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "seed": seed}
    used = settings | {"max_new_tokens": max_new_tokens, "model": target.source} | chosen.parameters
    where = Provenance.here(seed=seed, method=chosen.name)
    trace = run.trace.finish(chosen.name, used, run.prompt, run.piece, where)
    return Generation(text, np.asarray(tokens, np.int32), run.finished or "end", trace)


def _ids(target: Target, prompt: str | Sequence[int]) -> list[int]:
    if not isinstance(prompt, str):
        ids = [int(t) for t in prompt]
    elif target.tokenizer is None:
        raise ArgumentError("prompt is text, but the model has no tokenizer: give token ids")
    else:
        ids = list(target.tokenizer(prompt)["input_ids"])
    if not ids:
        raise ArgumentError("prompt is empty: give at least one token")
    return ids
