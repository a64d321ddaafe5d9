"""Checks of claims about sparse patterns, made on a `PatternContext`.

    Recall       share of attention kept, less that of another pattern with as many blocks
    FoundAnew    share of attention kept, less that of the blocks that were found for another text
    Divergence   KL from the dense model's answers, relative to another pattern's with as many blocks
    Needle       loss on a number that stands far back in the text, less another pattern's with as many blocks
    Beyond       perplexity of a text longer than the model was trained on, relative to plain positions

Patterns meet on the same pieces of a text. Where blocks are not as many by construction, the other's recall is read
off its curve at the cost that the first came to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from workbench.attention.patterns._ground import PatternConditions, PatternContext
from workbench.attention.patterns._pattern import Pattern, resolve
from workbench.attention.tasks import needles
from workbench.attention.watching import Passing
from workbench.claims import Measurement
from workbench.data import token_stream
from workbench.decode.claims import OverItems
from workbench.errors import ArgumentError
from workbench.render import share

__all__ = ["Beyond", "Divergence", "FoundAnew", "Needle", "PatternConditions", "PatternContext", "Recall"]

LADDER = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
SAME = 0.02  # of the blocks: patterns that differ by more are not compared
TRAINED, SEGMENT = 1.5, 512


@dataclass(frozen=True)
class _Other(Pattern):
    """The blocks that were found for another text."""

    name: ClassVar[str] = "other"
    found: Mapping[tuple[int, int], np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    def keep(self, passing: Passing, head: int) -> np.ndarray:
        return self.found[passing.layer, head]

    def within(self, budget: float, tokens: int) -> _Other:
        del budget, tokens
        return self


@dataclass(frozen=True, kw_only=True)
class _OnPieces(OverItems):
    """A pattern and others, on pieces of a text.

    Attributes
    ----------
    parameters
        Hyper-parameters of the pattern.
    budget
        Share of the blocks that it aims at.
    """

    needs: ClassVar[type[Any]] = PatternContext
    parameters: Mapping[str, Any] = field(default_factory=dict)
    budget: float = 0.25

    def items(self, context: Any) -> Sequence[Any]:
        """The pieces."""
        found: Sequence[Any] = context.pieces
        return found

    def own(self, name: str, tokens: int) -> Pattern:
        """The pattern at its budget."""
        return resolve(name, self.parameters).within(self.budget, tokens)


@dataclass(frozen=True, kw_only=True)
class Recall(_OnPieces):
    """Held if more attention is kept than by each of others at equal cost.

    Attributes
    ----------
    than
        Registered names.
    than_parameters
        Hyper-parameters of all of them.
    elsewhere
        Whether what the pattern makes offline is made on the next piece, not on the one that it is judged on.
    """

    than: tuple[str, ...]
    than_parameters: Mapping[str, Any] = field(default_factory=dict)
    elsewhere: bool = False
    difference: bool = True
    at_least: float = 0.0

    @property
    def measured(self) -> str:
        """What is compared."""
        given = ", ".join(f"{k}={v}" for k, v in self.than_parameters.items())
        named = self.than[0] if len(self.than) == 1 else f"the best of {', '.join(self.than)}"
        return f"recall less that of {named}{f' ({given})' if given else ''} at equal cost, about {share(self.budget)}"

    def pair(self, context: Any, name: str, item: Any, seed: int) -> tuple[float, float]:
        """Recall of both."""
        del seed
        own = resolve(name, self.parameters).within(self.budget, context.tokens.seqlen)
        if self.elsewhere:
            context.curves((item.index + 1) % len(context.pieces), [own], (self.budget,))
        (point,) = context.curves(item.index, [own], (self.budget,)).rows
        others = [resolve(other, self.than_parameters) for other in self.than]
        found = context.curves(item.index, others, LADDER)
        return point.recall, max(found.recall_at(other, point.cost) for other in self.than)


@dataclass(frozen=True, kw_only=True)
class FoundAnew(_OnPieces):
    """Held if blocks found for a text keep more of its attention than as many found for another text."""

    difference: bool = True
    at_least: float = 0.0

    @property
    def measured(self) -> str:
        """What is compared."""
        return f"recall less that of the blocks found for another text, {share(self.budget)} of all"

    def pair(self, context: Any, name: str, item: Any, seed: int) -> tuple[float, float]:
        """Recall of both."""
        del seed
        own = [resolve(name, self.parameters)]
        before = context.curves((item.index + 1) % len(context.pieces), own, (self.budget,))
        (point,) = before.rows
        layers, heads = point.recalls.shape
        other = _Other({(i, h): before.kept(point, i, h) for i in range(layers) for h in range(heads)})
        (mine,) = context.curves(item.index, own, (self.budget,)).rows
        return mine.recall, context.curves(item.index, [other], (self.budget,)).rows[0].recall


@dataclass(frozen=True, kw_only=True)
class Divergence(_OnPieces):
    """Held if answers stay nearer to the dense model's than with another pattern of as many blocks.

    Attributes
    ----------
    than, than_parameters
        Registered name and hyper-parameters of the other.
    """

    than: str
    than_parameters: Mapping[str, Any] = field(default_factory=dict)
    at_most: float = 1.0

    @property
    def measured(self) -> str:
        """What is compared."""
        given = ", ".join(f"{k}={v}" for k, v in self.than_parameters.items())
        return f"KL from the dense model relative to {self.than} ({given}) at equal cost, about {share(self.budget)}"

    def pair(self, context: Any, name: str, item: Any, seed: int) -> tuple[float, float]:
        """Mean divergence of both; they must be of one cost."""
        del seed
        both = [resolve(name, self.parameters), resolve(self.than, self.than_parameters)]
        own, other = context.curves(item.index, both, (self.budget,), divergence=True).rows
        if abs(own.cost - other.cost) > SAME:
            raise ArgumentError(f"{name} computes {share(own.cost)} of the blocks, {self.than} {share(other.cost)}")
        return own.divergence, other.divergence


@dataclass(frozen=True, kw_only=True)
class Needle(_OnPieces):
    """Held if a number that stands far back is lost less than with another pattern of as many blocks.

    Attributes
    ----------
    than
        Registered name.
    """

    than: str
    difference: bool = True
    at_most: float = 0.0

    @property
    def measured(self) -> str:
        """What is compared."""
        return f"nats a token lost on a needle's number, less {self.than}'s at equal cost, about {share(self.budget)}"

    def pair(self, context: Any, name: str, item: Any, seed: int) -> tuple[float, float]:
        """Mean loss of both."""
        tokenizer = context.lm.tokenizer
        hidden = needles(tokenizer, context.tokens.ids[item.index], len(context.pieces), seed=seed)[item.index]
        answer = tokenizer(f" {hidden.answer}", add_special_tokens=False)["input_ids"]
        ids, first = np.asarray((*hidden.ids, *answer)), len(hidden.ids)
        own, cost = context.losses(ids, self.own(name, len(ids)), first)
        other, spent = context.losses(ids, resolve(self.than).within(min(1.0, cost + SAME), len(ids)), first)
        if spent < cost - SAME:
            raise ArgumentError(f"{self.than} computes {share(spent)} of the blocks, {name} {share(cost)}")
        return float(own.mean()), float(other.mean())


@dataclass(frozen=True, kw_only=True)
class Beyond(_OnPieces):
    """Held if a text longer than the model was trained on has lower perplexity than at plain positions.

    Attributes
    ----------
    longer
        Times the trained length that the text has.
    """

    longer: float = TRAINED
    at_most: float = 1.0

    @property
    def measured(self) -> str:
        """What is compared."""
        return f"perplexity beyond the trained length, in a text {self.longer:g} times as long, relative to dense"

    def __call__(self, context: Any, name: str) -> Measurement:
        """Read one long text twice; its parts beyond the trained length are the items."""
        trained = int(self.parameters.get("trained") or context.lm.module.config.max_position_embeddings)
        length = int(self.longer * trained)
        ids = token_stream(context.lm, context.text, length)[:length]
        own, cost = context.losses(ids, resolve(name, self.parameters), trained)
        dense, _ = context.losses(ids, resolve("block-top", {"budget": 1.0}), trained)
        parts = [np.exp([part.mean() for part in np.split(lost, range(SEGMENT, len(lost), SEGMENT))])
                 for lost in (own, dense)]  # fmt: skip
        names = [f"tokens {trained + n * SEGMENT} on" for n in range(len(parts[0]))]
        judged = self.judged(np.stack(parts, -1)[None], names)
        return replace(judged, note="; ".join(x for x in (judged.note, f"{share(round(cost, 3))} of the blocks") if x))

    def pair(self, context: Any, name: str, item: Any, seed: int) -> tuple[float, float]:
        """Not taken piece by piece."""
        raise NotImplementedError
