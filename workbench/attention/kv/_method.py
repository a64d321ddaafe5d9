"""What a way of making a KV cache smaller is, and the one dict that holds them.

    read a prompt with full attention -> score every cached key of every head -> keep the best, drop the rest

Two hooks are for methods with a draft model: `KVMethod.ahead` says how the text may go on, so that keys are scored by
what will be asked of them, and `KVMethod.reads` drops tokens before the model reads them.

A method is a frozen dataclass in a file of its own with `KVMethod.score`; one that holds another (per-head budgets)
overrides `select`. Higher scores stay. The first ``sinks`` and the newest ``recent`` keys stay whatever they score.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch

from workbench._citation import Citation
from workbench._registry import Registry
from workbench.attention.kv._rows import Rows
from workbench.errors import ArgumentError
from workbench.models import LM


@dataclass(frozen=True, slots=True, eq=False)
class HeadView:
    """One KV head as a method sees it.

    Attributes
    ----------
    layer, head
    keys, values : Tensor [S, D]
        Float32; keys rotated.
    positions : Tensor [S]
        Int64, ascending.
    mass : Tensor [S]
        Attention that each key has had, summed over queries and the head's query heads.
    queries : Tensor [G, W, D]
        The newest queries that read this head, rotated and scaled; W is at most what the method `observes`.
    length
        Tokens of the text so far, dropped ones included.
    ahead : Tensor [A, D] or None
        Keys of the tokens that a draft expects next; the last A queries are theirs.
    """

    layer: int
    head: int
    keys: torch.Tensor
    values: torch.Tensor
    positions: torch.Tensor
    mass: torch.Tensor
    queries: torch.Tensor
    length: int
    ahead: torch.Tensor | None = None

    def attention(self) -> torch.Tensor:
        """Probabilities ``[G, W, S]`` of the newest queries over the keys that are left.

        Tokens that a draft expects take their share too, so that rows sum to less than 1 where there are some.
        """
        keys, positions, end = self.keys, self.positions, self.length
        if self.ahead is not None:
            keys, end = torch.cat([keys, self.ahead]), end + len(self.ahead)
            positions = torch.cat([positions, torch.arange(self.length, end)])
        own = torch.arange(end - self.queries.shape[1], end)
        scores = self.queries @ keys.T
        scores.masked_fill_(positions[None] > own[:, None], -1e30)
        return torch.softmax(scores, -1)[..., : len(self.keys)]


@dataclass(frozen=True)
class KVMethod(ABC):
    """Base of the methods that drop keys.

    Attributes
    ----------
    name, title, formula, citation, claim
        As with pruning methods.
    observes
        How many of the newest queries `score` wants to see, at most 128.
    always
        Whether keys are dropped at every step of decoding too, not only after the prompt.
    sinks, recent
        First and newest keys that always stay.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    formula: ClassVar[str]
    citation: ClassVar[Citation | None] = None
    claim: ClassVar[Any] = None
    observes: ClassVar[int] = 1
    always: ClassVar[bool] = False

    sinks: int = 4
    recent: int = 32

    def __post_init__(self) -> None:
        if self.sinks < 0 or self.recent < 1:
            raise ArgumentError(f"sinks={self.sinks}, recent={self.recent}: not negative, and at least 1 recent key")

    @abstractmethod
    def score(self, view: HeadView) -> torch.Tensor:
        """Score every key: float32 ``[S]``, higher = keep."""

    def select(self, views: Sequence[HeadView], budget: int) -> list[torch.Tensor]:
        """Rows to keep of each head of a layer, ``budget`` of each.

        Parameters
        ----------
        views
            The layer's KV heads.
        budget
            Keys per head.
        """
        return [best(self.guarded(v), budget) for v in views]

    def ahead(self, lm: LM, ids: Sequence[int]) -> Sequence[int]:
        """Tokens that a draft expects after ``ids``: the model reads them for a moment, so that `score` sees them."""
        del lm, ids
        return ()

    def reads(self, lm: LM, ids: Sequence[int], budget: int) -> np.ndarray | None:
        """Which tokens of a prompt the model reads at all: int64, ascending; None for all of them."""
        del lm, ids, budget
        return None

    def guarded(self, view: HeadView) -> torch.Tensor:
        """Scores with infinity for what always stays."""
        score = self.score(view).clone()
        score[view.positions < self.sinks] = torch.inf
        score[view.positions >= view.length - self.recent] = torch.inf
        return score

    def pack(self, rows: Rows, share: float) -> Rows:
        """What takes the place of a head's rows, for methods that store them shorter; ``share`` is the budget."""
        del share
        return rows

    @property
    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters, ready for JSON; models by what they were loaded from."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: getattr(value, "source", value) for name, value in found.items()}


def best(score: torch.Tensor, budget: int) -> torch.Tensor:
    """Indices of the largest scores, ascending; of equals the newest."""
    budget = min(budget, len(score))
    order = torch.argsort(score.flip(0), descending=True, stable=True)[:budget]
    return (len(score) - 1 - order).sort().values


METHODS: Registry[KVMethod] = Registry(KVMethod, "KV method")
kv_method, registry, resolve = METHODS.register, METHODS.classes, METHODS.resolve
