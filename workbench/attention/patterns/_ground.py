"""What claims about sparse patterns are checked on: a model and pieces of a text; public in `claims`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from workbench.attention.patterns._pattern import Pattern
from workbench.attention.patterns.curves import PatternCurves, curves
from workbench.attention.watching import watched
from workbench.data import Text, Tokens, evaluation, load_text
from workbench.errors import ArgumentError
from workbench.execute._clock import torch_threads
from workbench.jobs import Progress
from workbench.models import LM, load


@dataclass(frozen=True, slots=True)
class PatternConditions:
    """Of a claim about sparse patterns.

    Attributes
    ----------
    model : str
    threads : int
    text : str
        What the pieces are of.
    texts, tokens : int
        Pieces, and tokens of each.
    """

    model: str
    threads: int
    text: str
    texts: int
    tokens: int

    def rows(self) -> list[tuple[str, Any]]:
        """Names and values, all of them."""
        return [
            ("model", self.model),
            ("threads", self.threads),
            ("text", f"{self.texts} pieces of {self.text}"),
            ("tokens of a piece", self.tokens),
        ]

    def summary(self) -> str:
        """In one sentence."""
        return (
            f"Model {self.model}; {self.texts} pieces of {self.text}, {self.tokens} tokens each (claims about longer "
            "texts take one of their own); costs are blocks of 64 x 64."
        )


@dataclass(frozen=True, slots=True)
class Piece:
    """An item of a check."""

    name: str
    index: int


@dataclass(slots=True, eq=False)
class PatternContext:
    """What claims about sparse patterns are checked on.

    Attributes
    ----------
    lm
    tokens
        A piece each.
    text
        What the pieces are of, for claims about longer ones.
    threads
        Of torch and kernels; None leaves them as they are.
    seeds
        Of needles' numbers; nothing else is drawn.
    progress
        Hears of every pass.
    """

    lm: LM
    tokens: Tokens
    text: Text
    threads: int | None = None
    seeds: tuple[int, ...] = (0,)
    progress: Progress = field(default_factory=Progress)
    _known: dict[Any, PatternCurves] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tokens.samples < 2 or self.tokens.seqlen < 256 or not self.seeds:
            raise ArgumentError("a context needs at least 2 pieces of at least 256 tokens, and a seed")

    @classmethod
    def of(
        cls,
        model: Any = None,
        text: Any = None,
        *,
        windows: int = 6,
        seqlen: int = 2048,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> PatternContext:
        """The usual one: the embedded model or another, and 6 pieces of 2048 tokens of the built-in text or another."""
        lm = load(model) if model is None or isinstance(model, str) else model
        _, second = load_text(text).split()
        tokens = evaluation(lm, second, windows=windows, seqlen=seqlen)
        return cls(lm, tokens, second, threads, progress=progress or Progress())

    def conditions(self) -> PatternConditions:
        """Model, text, sizes."""
        threads = self.threads or torch.get_num_threads()
        return PatternConditions(self.lm.source, threads, self.text.name, self.tokens.samples, self.tokens.seqlen)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Torch has as many threads as asked."""
        with torch_threads(self.threads or torch.get_num_threads()):
            yield

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Names and numbers."""
        return tuple(Piece(f"piece {n + 1}", n) for n in range(self.tokens.samples))

    def curves(
        self, piece: int, patterns: Sequence[Pattern], points: Sequence[float], *, divergence: bool = False
    ) -> PatternCurves:
        """Curves on a piece; those of the same patterns are worked out once, unless these bring something learnt."""
        key = piece, tuple(patterns), tuple(points), divergence
        if key in self._known:
            return self._known[key]
        given = {"divergence": divergence, "threads": self.threads or torch.get_num_threads()}
        found = curves(self.lm, self.tokens.ids[piece], patterns, points, progress=self.progress, **given)
        if not any(getattr(p, "choice", None) or getattr(p, "found", None) for p in patterns):
            self._known[key] = found
        return found

    def losses(self, ids: np.ndarray, pattern: Pattern, first: int) -> tuple[np.ndarray, float]:
        """Negative log-likelihood of the tokens from ``first`` on, read with a pattern, and the share of blocks."""
        bound, costs, threads = pattern.bound(self.lm), [], self.threads or torch.get_num_threads()
        lower = np.tri(-(-len(ids) // 64)).sum()

        def attention(passing: Any) -> torch.Tensor:
            self.progress.check()
            masks = bound.masks(passing)
            costs.append(masks.sum() / len(masks) / lower)
            return bound.attend(passing, masks, threads)

        with torch.no_grad(), watched(self.lm, attention):
            row = torch.from_numpy(np.asarray(ids, np.int64))
            logits = self.lm.module(row[None], use_cache=False, logits_to_keep=len(row) - first + 1).logits[0, :-1]
            lost = torch.nn.functional.cross_entropy(logits.float(), row[first:], reduction="none")
        return lost.double().numpy(), float(np.mean(costs))
