"""Standing in for a model's attention: see queries, keys and values of every layer as they pass, or answer instead.

    with watched(lm, observer):  lm.module(ids, past_key_values=cache)

transformers looks attention functions up by name. Within the block a name of our own stands for `observer`, with a
mask function of our own beside it (without one the model would silently see the future); on exit, also by an error,
both are gone and the model has its own again. One sequence at a time, without padding.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from workbench.errors import ArgumentError, ModelError
from workbench.models import LM

_count = itertools.count()


@dataclass(frozen=True, slots=True, eq=False)
class Passing:
    """What a layer's attention is about to compute.

    Attributes
    ----------
    layer
        Its index.
    query : Tensor [H, T, D]
        Rotated, not scaled.
    key, value : Tensor [Hkv, S, D]
        All tokens so far, the newest T included; H is a multiple of Hkv.
    scaling
        Of the scores.
    window
        Keys that a query sees, itself included; 0 for all.
    softcap
        Scores become ``softcap tanh(score / softcap)``; 0 for none.
    """

    layer: int
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scaling: float
    window: int = 0
    softcap: float = 0.0

    @property
    def offset(self) -> int:
        """Position of the first query."""
        return self.key.shape[1] - self.query.shape[1]

    @property
    def group(self) -> int:
        """Query heads per key head."""
        return self.query.shape[0] // self.key.shape[0]

    def products(self, head: int, keys: torch.Tensor) -> torch.Tensor:
        """Scaled scores of a query head with ``keys`` ``[N, D]``, float32 ``[T, N]``, whatever it may see."""
        found = (self.query[head].float() * self.scaling) @ keys.float().T
        return self.softcap * torch.tanh(found / self.softcap) if self.softcap else found

    def scores(self, head: int) -> torch.Tensor:
        """Scaled scores of a query head, float32 ``[T, S]``; what it must not see is -1e30."""
        found = self.products(head, self.key[head // self.group])
        rows = torch.arange(found.shape[0])[:, None] + self.offset
        hidden = torch.arange(self.offset, found.shape[1])[None] > rows
        found[:, self.offset :].masked_fill_(hidden, -1e30)
        if self.window:
            found.masked_fill_(torch.arange(found.shape[1])[None] <= rows - self.window, -1e30)
        return found

    def dense(self) -> torch.Tensor:
        """The model's own answer ``[H, T, D]``."""
        found = [
            torch.softmax(self.scores(h), -1) @ self.value[h // self.group].float() for h in range(len(self.query))
        ]
        return torch.stack(found).to(self.query.dtype)


Observer = Callable[[Passing], torch.Tensor]


@contextmanager
def watched(lm: LM, observer: Observer) -> Iterator[None]:
    """Within the block ``observer`` computes every layer's attention.

    Parameters
    ----------
    lm
        Its weights are not touched.
    observer
        Takes a `Passing`, returns the output ``[H, T, D]``.

    Raises
    ------
    ModelError
        If the model does not look attention functions up by name.
    """
    module = lm.module
    before = module.config._attn_implementation
    name = f"workbench-{next(_count)}"
    AttentionInterface.register(name, _standing_in(observer))
    AttentionMaskInterface.register(name, _no_mask)
    try:
        module.set_attn_implementation(name)
        if module.config._attn_implementation != name:
            raise ModelError(f"{type(module).__name__} computes attention in its own way: it cannot be watched")
        yield
    finally:
        module.set_attn_implementation(before)
        AttentionInterface._global_mapping.pop(name, None)
        AttentionMaskInterface._global_mapping.pop(name, None)


def _no_mask(*_: Any, **__: Any) -> None:
    """Causality is `Passing`'s own business."""


def _standing_in(observer: Observer) -> Callable[..., tuple[torch.Tensor, None]]:
    def attention(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        _mask: torch.Tensor | None,
        scaling: float | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        if query.shape[0] != 1:
            raise ArgumentError(f"{query.shape[0]} sequences at once: attention is watched one at a time")
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        index: Any = module.layer_idx
        passing = Passing(int(index), query[0], key[0], value[0], scale, sliding_window or 0, softcap or 0.0)
        return observer(passing).transpose(0, 1)[None], None

    return attention
