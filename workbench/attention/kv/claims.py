"""Checks of claims about smaller KV caches, made on a `KVContext`.

    Continuation   perplexity of how texts go on, relative to another method or the full cache
    Needles        share of needles found, less that of another method

Both methods start from the same cache, compressed to the same share of the prompt. Texts are different pieces of one
book; needles have other numbers, other depths and another piece with every seed.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch

from workbench import render
from workbench.attention.kv._method import KVMethod, resolve
from workbench.attention.kv.quality import FULL, answers, mean_loss
from workbench.attention.kv.target import CompressedTarget
from workbench.attention.tasks import needles
from workbench.claims import INCONCLUSIVE, NOT_HELD, Measurement
from workbench.data import Tokens, evaluation
from workbench.decode.claims import OverItems
from workbench.errors import ArgumentError
from workbench.execute._clock import torch_threads
from workbench.jobs import Progress
from workbench.models import LM, load

__all__ = ["Continuation", "KVConditions", "KVContext", "Needles"]

HELD_PROMPTS = 8
SAME = 0.02  # of the bytes: methods whose caches differ by more are not compared


@dataclass(frozen=True, slots=True)
class KVConditions:
    """Of a claim about smaller caches.

    Attributes
    ----------
    model : str
    threads : int
    text : str
        What the pieces are of.
    texts, prompt_tokens, continuation_tokens : int
        Pieces, tokens of each that are read, and tokens that are predicted after them.
    seeds : tuple of int
        Of needles.
    """

    model: str
    threads: int
    text: str
    texts: int
    prompt_tokens: int
    continuation_tokens: int
    seeds: tuple[int, ...]

    def rows(self) -> list[tuple[str, Any]]:
        """Names and values, all of them."""
        return [
            ("model", self.model),
            ("threads", self.threads),
            ("text", f"{self.texts} pieces of {self.text}"),
            ("tokens of a prompt", self.prompt_tokens),
            ("tokens predicted after it", self.continuation_tokens),
            ("seeds of needles", ", ".join(map(str, self.seeds))),
        ]

    def summary(self) -> str:
        """In one sentence."""
        return (
            f"Model {self.model}; {self.texts} pieces of {self.text}, {self.prompt_tokens} tokens in the cache and "
            f"{self.continuation_tokens} predicted after them; needles in as many pieces as needed, "
            f"seeds {', '.join(map(str, self.seeds))}."
        )


@dataclass(slots=True, eq=False)
class KVContext:
    """What claims about smaller caches are checked on: a model, pieces of a text, seeds.

    Attributes
    ----------
    lm
    tokens
        A piece each; the last ``continuation`` tokens of each are predicted.
    continuation
    seeds
        Of needles.
    threads
        Of torch; None leaves them as they are.
    progress
        Hears of every piece and needle.
    """

    lm: LM
    tokens: Tokens
    continuation: int = 96
    seeds: tuple[int, ...] = (0, 1, 2)
    threads: int | None = None
    progress: Progress = field(default_factory=Progress)
    _held: dict[Any, CompressedTarget] = field(default_factory=dict)
    _known: dict[Any, tuple[float, float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.seeds or not 2 <= self.continuation <= self.tokens.seqlen - 64:
            raise ArgumentError("a context needs at least one seed, and pieces of 64 tokens more than it predicts")

    @classmethod
    def of(
        cls, model: Any = None, text: Any = None, *, threads: int | None = None, progress: Progress | None = None
    ) -> KVContext:
        """The usual one: the embedded model or another, and 8 pieces of 480 tokens of the built-in text or another."""
        lm = load(model) if model is None or isinstance(model, str) else model
        return cls(lm, evaluation(lm, text, windows=8, seqlen=480), threads=threads, progress=progress or Progress())

    @property
    def prompt(self) -> int:
        """Tokens of a piece that are read."""
        return self.tokens.seqlen - self.continuation

    def conditions(self) -> KVConditions:
        """Model, text, sizes."""
        return KVConditions(
            self.lm.source, self.threads or torch.get_num_threads(), str(self.tokens.provenance["text"]),
            self.tokens.samples, self.prompt, self.continuation - 1, self.seeds,
        )  # fmt: skip

    @contextmanager
    def active(self) -> Iterator[None]:
        """Torch has as many threads as asked."""
        with torch_threads(self.threads or torch.get_num_threads()):
            yield

    def compressed(self, method: KVMethod | None, ids: Sequence[int], budget: float) -> CompressedTarget:
        """A compressed copy of the cache of a prompt; the full caches of the last prompts are remembered."""
        key = tuple(int(t) for t in ids)
        if key not in self._held:
            if len(self._held) == HELD_PROMPTS:
                self._held.pop(next(iter(self._held)))
            self._held[key] = CompressedTarget(self.lm, None)
            self._held[key].forward(ids, last=True)
        target = self._held[key].fork(method, budget)
        target.compress()
        return target


@dataclass(frozen=True, slots=True)
class Piece:
    """An item of a check."""

    name: str
    index: int


@dataclass(frozen=True, kw_only=True)
class _Cached(OverItems):
    """Two methods at one budget.

    Attributes
    ----------
    than
        Registered name, or a method, of the other; None for the full cache.
    parameters, than_parameters
        Hyper-parameters of both.
    budget
        Share of the prompt's keys that stays.
    bytes_at_most
        Of the full cache's bytes, at the end; None asks nothing.
    """

    needs: ClassVar[type[Any]] = KVContext
    than: Any = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    than_parameters: Mapping[str, Any] = field(default_factory=dict)
    budget: float = 0.25
    bytes_at_most: float | None = None

    @abstractmethod
    def figure(self, context: KVContext, item: Piece, seed: int, method: KVMethod | None) -> tuple[float, float, float]:
        """Of one method: the figure, and the shares of bytes after compression and at the end."""

    @property
    def other(self) -> str:
        """What is compared with, and the budget."""
        given = ", ".join(f"{k}={v}" for k, v in self.than_parameters.items())
        name = FULL if self.than is None else self.than if isinstance(self.than, str) else repr(self.than)
        return f"{name}{f' ({given})' if given else ''}, {render.share(self.budget)} kept"

    def __call__(self, context: Any, name: str) -> Measurement:
        """Take all figures; compare them where the caches are of one size."""
        seeds = context.seeds if self.seeds else context.seeds[:1]
        items, chosen = self.items(context), (resolve(name, self.parameters), self._than())
        found = np.empty((len(seeds), len(items), 2, 3))
        for s, seed in enumerate(seeds):
            for n, item in enumerate(items):
                context.progress.step(f"smaller caches with {name}", s * len(items) + n, len(seeds) * len(items))
                found[s, n] = [self._once(context, item, seed, method) for method in chosen]
        judged = self.judged(found[..., 0], [item.name for item in items])
        (start, end), (other, _) = found[..., 1:].mean((0, 1))
        note = f"{render.share(round(float(end), 3))} of the full cache's bytes"
        if self.than is not None and abs(start - other) > SAME:
            return replace(judged, status=INCONCLUSIVE, note=f"the caches differ: {note}")
        if self.bytes_at_most is not None and end > self.bytes_at_most:
            return replace(judged, status=NOT_HELD, note=f"too large: {note}")
        return replace(judged, note="; ".join(x for x in (judged.note, note) if x))

    def pair(self, context: Any, name: str, item: Any, seed: int) -> tuple[float, float]:
        """Both figures."""
        own, other = (self.figure(context, item, seed, m)[0] for m in (resolve(name, self.parameters), self._than()))
        return own, other

    def _once(self, context: Any, item: Piece, seed: int, method: KVMethod | None) -> tuple[float, float, float]:
        """The figure of another claim on this context, where it is the same one."""
        kind = type(self), len(self.items(context)), method, id(getattr(method, "draft", None))
        key = (*kind, None if method is None else self.budget, item, seed)
        if key not in context._known:
            context._known[key] = self.figure(context, item, seed, method)
        found: tuple[float, float, float] = context._known[key]
        return found

    def _than(self) -> KVMethod | None:
        return None if self.than is None else resolve(self.than, self.than_parameters)

    @property
    def asked(self) -> str:
        """What counts as held."""
        most = f", in at most {render.share(self.bytes_at_most)} of its bytes" if self.bytes_at_most else ""
        return f"{super().asked}{most}"


@dataclass(frozen=True, kw_only=True)
class Continuation(_Cached):
    """Held if the perplexity of continuations, relative to the other's, lies where it is claimed to."""

    at_most: float = 1.0
    seeds: bool = False

    @property
    def measured(self) -> str:
        """What is compared."""
        return f"perplexity of continuations relative to {self.other}"

    def items(self, context: Any) -> Sequence[Piece]:
        """The pieces."""
        return [Piece(f"piece {n + 1}", n) for n in range(context.tokens.samples)]

    def figure(self, context: KVContext, item: Piece, seed: int, method: KVMethod | None) -> tuple[float, float, float]:
        """Perplexity."""
        del seed
        ids = context.tokens.ids[item.index]
        target = context.compressed(method, ids[: context.prompt], self.budget)
        start = target.nbytes / target.dense_nbytes
        loss = mean_loss(target, ids[context.prompt :])
        return math.exp(loss), start, target.nbytes / target.dense_nbytes


@dataclass(frozen=True, kw_only=True)
class Needles(_Cached):
    """Held if the share of needles found, less the other's, lies where it is claimed to.

    Attributes
    ----------
    count
        Depths.
    length
        Tokens of the text around a needle, taken of as many pieces as that needs.
    """

    at_least: float = 0.02
    difference: bool = True
    count: int = 12
    length: int = 640

    @property
    def measured(self) -> str:
        """What is compared."""
        return f"share of needles found in {self.length} tokens, less that of {self.other}"

    def items(self, context: Any) -> Sequence[Piece]:
        """The depths."""
        del context
        return [Piece(f"needle at {(n + 0.5) / self.count:.0%}", n) for n in range(self.count)]

    def figure(self, context: KVContext, item: Piece, seed: int, method: KVMethod | None) -> tuple[float, float, float]:
        """1 if found, else 0."""
        hay = np.roll(context.tokens.ids, -(item.index + seed), axis=0).reshape(-1)[: self.length]
        text = needles(context.lm.tokenizer, hay.tolist(), self.count, seed=seed)[item.index]
        target = context.compressed(method, text.ids[:-1], self.budget)
        start = target.nbytes / target.dense_nbytes
        found = answers(target, text)
        return float(found), start, target.nbytes / target.dense_nbytes
