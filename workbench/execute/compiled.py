"""A model whose forward pass is one compiled call: `workbench.compile`.

    model -> matrices that share their inputs, stacked -> a format each -> one program per number of tokens

transformers spends most of a small model's step on overhead; here a step takes what its bytes take. Weights are
packed anew, so that the model handed in is not touched and may be dropped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from workbench_kernels import KernelError
from workbench_kernels.decoder import Decoder
from workbench_kernels.formats import VALUES

from workbench import render
from workbench.errors import ArgumentError, unknown
from workbench.execute._encode import Encoder
from workbench.execute._extract import weights_of
from workbench.jobs import Progress
from workbench.measure.memory import give_back
from workbench.models import as_lm
from workbench.results import Provenance, Result

FORMATS = ("auto", "dense", "bitmap", "2:4", "16x1", "bsr16", "bsr32")


@dataclass(frozen=True, eq=False, repr=False)
class Compiled(Result):
    """A compiled model: append tokens, get logits.

    Attributes
    ----------
    source : str
        What was compiled.
    format, values : str
        As asked.
    stored : mapping of str to (str, int)
        For each kind of matrix the formats that hold it, and their bytes.
    nbytes : int
        Of all matrices: what one token reads.
    dense_nbytes : int
        Of the same as float32.
    threads, context : int
    seconds : float
        That packing took.
    provenance : Provenance
    tokenizer
        The model's, or None.
    end_tokens : frozenset of int
        Those that end an answer.
    """

    source: str
    format: str
    values: str
    stored: dict[str, tuple[str, int]] = field(repr=False)
    nbytes: int
    dense_nbytes: int
    threads: int
    context: int
    seconds: float
    provenance: Provenance = field(repr=False)
    decoder: Decoder = field(repr=False, metadata={"json": False})
    tokenizer: Any = field(default=None, repr=False, metadata={"json": False})
    end_tokens: frozenset[int] = field(default=frozenset(), repr=False, metadata={"json": False})

    def to_dict(self) -> dict[str, Any]:
        """Every figure, ready for JSON; not the weights."""
        names = ("source", "format", "values", "nbytes", "dense_nbytes", "threads", "context", "seconds")
        own: dict[str, Any] = {name: getattr(self, name) for name in names}
        return own | {"stored": {k: list(v) for k, v in self.stored.items()}, "provenance": self.provenance.to_dict()}

    @property
    def vocabulary(self) -> int:
        """Tokens that it knows."""
        return len(self.decoder.weights.embedding)

    @property
    def position(self) -> int:
        """Tokens in the cache."""
        return self.decoder.position

    def forward(
        self, ids: Sequence[int] | np.ndarray, parents: np.ndarray | None = None, *, last: bool = False
    ) -> np.ndarray:
        """Append tokens and return float32 logits ``[T, V]``, or of the last token only, ``[1, V]``.

        Parameters
        ----------
        ids
            Token ids, at least one; any number (they are taken 64 at a time).
        parents
            For a tree of at most 64 tokens: for each the index of the one before it, -1 for the last one in the
            cache. A token sees the cache, its ancestors and itself.
        last
            Whether only the last token's logits are wanted: quicker for a prompt.

        Raises
        ------
        ArgumentError
            If an id is no token, or the cache has no room; nothing is appended then.
        """
        try:
            return self.decoder.forward(np.asarray(ids, np.int64).reshape(-1), parents, last=last)
        except KernelError as error:
            raise ArgumentError(str(error)) from error

    def crop(self, length: int = 0) -> None:
        """Forget all but the first ``length`` tokens."""
        try:
            self.decoder.crop(length)
        except KernelError as error:
            raise ArgumentError(str(error)) from error

    def chunks(self, ids: Sequence[int] | np.ndarray, size: int = 128) -> Iterator[np.ndarray]:
        """Logits of a text from an empty cache, float32 ``[n, V]`` of up to ``size`` tokens at a time."""
        self.crop()
        for start in range(0, len(ids), size):
            yield self.forward(ids[start : start + size])

    def generate(
        self,
        ids: Sequence[int] | np.ndarray,
        new_tokens: int,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        stop: Sequence[int] = (),
    ) -> Iterator[int]:
        """Decode token by token, from an empty cache.

        Parameters
        ----------
        ids
            The prompt.
        new_tokens
            At most so many.
        temperature
            0 takes the most likely token, above it samples.
        seed
            Of the samples.
        stop
            Token ids that end it; they are not yielded.

        Yields
        ------
        int
            One token after the other.
        """
        if new_tokens < 1 or temperature < 0:
            raise ArgumentError(f"new_tokens={new_tokens}, temperature={temperature}: at least 1, and not negative")
        self.crop()
        random, logits = np.random.default_rng(seed), self.forward(ids, last=True)[0]
        for n in range(new_tokens):
            token = _choose(logits, temperature, random)
            if token in stop:
                return
            yield token
            if n + 1 < new_tokens:
                logits = self.forward([token])[0]

    def profile(self, tokens: int = 1, repeats: int = 20) -> dict[str, float]:
        """Milliseconds that each kind of step takes in a pass of ``tokens`` tokens (medians, summed over layers)."""
        position = self.position
        made = self.decoder.prepared(tokens, last=False)
        times = np.empty((repeats, len(made.program.names)))
        for r in range(repeats):
            for n in range(times.shape[1]):
                start = time.perf_counter()
                made.program.run_step(n)
                times[r, n] = time.perf_counter() - start
        self.crop(position)
        found: dict[str, float] = {}
        for name, seconds in zip(made.program.names, np.median(times, axis=0), strict=True):
            found[name] = found.get(name, 0.0) + 1000 * float(seconds)
        return found

    def _headline(self) -> str:
        share = self.nbytes / self.dense_nbytes
        what = f"{self.format}, {self.values}"
        return f"Compiled({self.source}, {what}: {self.nbytes / 1e6:.0f} MB a token, {share:.0%} of dense fp32)"

    def _sections(self) -> tuple[render.Section, ...]:
        rows = [(name, kind, size) for name, (kind, size) in self.stored.items()]
        facts: list[tuple[str, Any]] = [
            ("bytes read for one token", self.nbytes),
            ("as dense float32", self.dense_nbytes),
        ]
        facts += [("threads", self.threads), ("context", self.context), ("seconds to pack", self.seconds)]
        return (
            render.section("Compiled", facts),
            render.section("Matrices", rows, ("matrix", "formats", "bytes")),
            render.prose("Provenance", str(self.provenance)),
        )


def compile(  # noqa: A001 - the verb that users know, as torch.compile and re.compile
    model: Any,
    format: str = "auto",  # noqa: A002 - as in `sparsify`
    values: str = "fp32",
    *,
    head: str | None = None,
    context: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Compiled:
    """Pack a Llama-shaped model for decoding in compiled code.

    Parameters
    ----------
    model
        A model handle, pruned result or transformers causal LM of the families Llama, Mistral, Qwen2, Qwen3, SmolLM3.
    format
        Of every matrix but the head: ``"dense"``, ``"bitmap"``, ``"2:4"``, ``"16x1"``, ``"bsr16"``, ``"bsr32"``, or
        ``"auto"``: whichever takes the fewest bytes, matrix by matrix, because bytes are what one token costs.
    values
        ``"fp32"``, ``"bf16"`` or ``"int8"`` (one scale per row; activations are rounded per 64 inputs where the
        format is dense, bitmap or N:M).
    head
        Values of the output head, which is dense; by default ``values``, but bf16 instead of fp32 beside sparse
        matrices, where it would be most of the bytes.
    context
        Tokens that the cache has room for; by default what the model knows, at most 2048.
    threads
        None for as many as torch uses.
    progress
        Hears after every layer.

    Raises
    ------
    ArgumentError
        If a name is unknown, or the weights do not fit the format.
    ModelError
        If the family has no compiled runtime.
    Cancelled
        If the job was cancelled.

    Examples
    --------
    >>> compiled = compile(pruned, "16x1")                                           # doctest: +SKIP
    >>> list(compiled.generate(ids, 20))                                             # doctest: +SKIP
    """
    import torch

    for name, value, known in (("format", format, FORMATS), ("values", values, VALUES)):
        if value not in known:
            raise unknown(name, value, known)
    lm, progress, begun = as_lm(model), progress or Progress(), time.perf_counter()
    most = int(lm.module.config.max_position_embeddings)
    context = min(most, 2048) if context is None else context
    if not 1 <= context <= most:
        raise ArgumentError(f"context={context}: 1 to {most} tokens")
    head = head or ("bf16" if values == "fp32" and format != "dense" else values)
    if head not in VALUES:
        raise unknown("head", head, VALUES)
    encoder, total = Encoder(format, values, head), lm.architecture.num_layers
    try:
        weights = weights_of(lm, context, encoder, lambda n: progress.step("packing", n, total))
        decoder = Decoder(weights, context, threads or torch.get_num_threads())
    except KernelError as error:
        raise ArgumentError(str(error)) from error
    give_back()  # what packing took
    dense = sum(4 * w.shape[0] * w.shape[1] for w in weights.formats)
    size, took = sum(w.nbytes for w in weights.formats), time.perf_counter() - begun
    counts = size, dense, decoder.threads, context, took
    given = Provenance.here(), decoder, lm.tokenizer, lm.end_tokens
    return Compiled(lm.source, format, values, encoder.stored, *counts, *given)


def _choose(logits: np.ndarray, temperature: float, random: np.random.Generator) -> int:
    if not temperature:
        return int(logits.argmax())
    scaled = (logits - logits.max()).astype(np.float64) / temperature
    chances = np.exp(scaled)
    return int(random.choice(len(chances), p=chances / chances.sum()))
