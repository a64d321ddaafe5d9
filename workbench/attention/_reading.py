"""Putting a long text through a model in chunks: a cache that is written in place, and how long a text may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache

from workbench.attention.rotating import STATIC
from workbench.errors import ArgumentError, ModelError
from workbench.models import LM

CHUNK = 256


class WholeCache(Cache):
    """Keys and values of one text whose length is known: room for all, filled as they come.

    transformers' own cache joins old and new anew in every chunk, which takes the room of a layer twice and leaves
    holes in the heap, each a little too small for the next.
    """

    def __init__(self, length: int) -> None:
        super().__init__(layers=[])
        self._length, self._held = length, dict[int, list[torch.Tensor]]()
        self._seen: dict[int, int] = {}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the newest; all so far ``[1, Hkv, S, D]``, views."""
        new = key_states, value_states
        if layer_idx not in self._held:
            self._held[layer_idx] = [x.new_empty((*x.shape[:2], self._length, x.shape[3])) for x in new]
        start = self._seen.get(layer_idx, 0)
        end = self._seen[layer_idx] = start + key_states.shape[2]
        for room, x in zip(self._held[layer_idx], new, strict=True):
            room[:, :, start:end] = x
        keys, values = (room[:, :, :end] for room in self._held[layer_idx])
        return keys, values

    def get_seq_length(self, layer_idx: int = 0, *_: Any, **__: Any) -> int:
        """Tokens so far."""
        return self._seen.get(layer_idx, 0)

    def get_mask_sizes(self, query_length: Any, layer_idx: int = 0, *_: Any, **__: Any) -> tuple[int, int]:
        """All of them, and the newest."""
        return self.get_seq_length(layer_idx) + int(query_length), 0


def read(lm: LM, tokens: np.ndarray, chunk: int = CHUNK) -> Cache:
    """Put a text through the model in chunks, without logits; the cache."""
    cache = WholeCache(len(tokens))
    for start in range(0, len(tokens), chunk):
        part = torch.from_numpy(tokens[start : start + chunk])[None].to(lm.device)
        lm.module(part, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def check_length(lm: LM, length: int, beyond: bool) -> None:
    """Refuse a text that is too short, or longer than the model takes.

    Raises
    ------
    ArgumentError
        If it has fewer than 2 tokens, or more than the model was trained on and ``beyond`` is false.
    ModelError
        If the model has no positions beyond those, or only ones that depend on the length of the whole text.
    """
    most = int(lm.module.config.max_position_embeddings)
    if length < 2 or (length > most and not beyond):
        hint = "" if length < 2 else "; Settings(beyond=True) reads further than the model was trained on"
        raise ArgumentError(f"ids has {length} tokens: 2 to {most}{hint}")
    if length <= most:
        return
    tables = [m for m in lm.module.modules() if isinstance(m, torch.nn.Embedding)]
    if any(table is not lm.module.get_input_embeddings() for table in tables):
        raise ModelError(
            f"{type(lm.module).__name__} has learned {most} positions and no more: it cannot read {length}"
        )
    for module in lm.module.modules():
        kind = getattr(module, "rope_type", "default")
        kinds = kind.values() if isinstance(kind, dict) else [kind]
        if any(k not in STATIC for k in kinds):
            raise ModelError(f"{type(lm.module).__name__}'s positions depend on the length of the text ({kind})")
