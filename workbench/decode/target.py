"""The model that decides, behind one interface: append a chain or a tree of tokens, keep a path of it, forget.

    target.forward(ids, parents=...)  ->  logits (and hidden states) of every new token
    target.keep(rows)                 ->  of those tokens only these stay in the cache
    target.crop(length)               ->  forget everything behind

Two of them: a transformers model with its cache, and our compiled runtime. Methods use nothing else, so that a method
runs on both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from workbench.decode._cache import cached_layers, cut, listening
from workbench.decode.tree import visible
from workbench.errors import ArgumentError, ModelError
from workbench.execute.compiled import Compiled
from workbench.models import LM, as_lm


@dataclass(frozen=True, slots=True, eq=False)
class Forward:
    """What a pass returns.

    Attributes
    ----------
    logits : ndarray of float32 [T, V]
        After every token of the pass; only after the last one, ``[1, V]``, if that was asked for.
    hidden : ndarray of float32 [T, H] or None
        What the output head multiplies, if it was asked for.
    """

    logits: np.ndarray
    hidden: np.ndarray | None = None


class Target(ABC):
    """A causal language model with a cache.

    Attributes
    ----------
    tokenizer
        Or None.
    source
        What it is, for records.
    vocabulary, hidden_size, context
        Tokens it knows, size of its hidden states, positions it has room for.
    end_tokens
        Those that end an answer.
    forwards
        Passes so far.
    """

    tokenizer: Any
    source: str
    vocabulary: int
    hidden_size: int
    context: int
    end_tokens: frozenset[int] = frozenset()
    forwards: int = 0

    @property
    @abstractmethod
    def length(self) -> int:
        """Tokens in the cache."""

    def forward(
        self,
        ids: Sequence[int] | np.ndarray,
        parents: Sequence[int] | np.ndarray | None = None,
        *,
        last: bool = False,
        hidden: bool = False,
    ) -> Forward:
        """Append tokens and return what the model says after each.

        Parameters
        ----------
        ids
            Token ids, at least one.
        parents
            For a tree: for each token the index in ``ids`` of the token before it, -1 for the last one in the cache.
            A token sees the cache, its ancestors and itself; it stands at their number. None for a chain.
        last
            Only the last token's logits (of a chain), which is quicker for a prompt.
        hidden
            Whether hidden states are wanted too, of the same tokens.

        Raises
        ------
        ArgumentError
            If an id is no token, a parent does not stand before its child, or there is no room; nothing is appended.
        """
        ids = np.asarray(ids, np.int64).reshape(-1)
        if not ids.size or ids.min() < 0 or ids.max() >= self.vocabulary:
            raise ArgumentError(f"ids={ids[:8].tolist()}: at least one token, each from 0 to {self.vocabulary - 1}")
        if self.length + ids.size > self.context:
            raise ArgumentError(f"{ids.size} more tokens than {self.length}: there is room for {self.context}")
        if parents is not None:
            parents = np.asarray(parents, np.int64).reshape(-1)
            if parents.size != ids.size or any(not -1 <= p < n for n, p in enumerate(parents)):
                raise ArgumentError(f"parents={parents.tolist()}: one per token, -1 or a token before it")
            if np.array_equal(parents, np.arange(-1, ids.size - 1)):
                parents = None
        if parents is not None and last:
            raise ArgumentError("last=True is for chains: a tree has no last token")
        found = self._forward(ids, parents, last, hidden)
        self.forwards += 1
        return found

    @abstractmethod
    def _forward(self, ids: np.ndarray, parents: np.ndarray | None, last: bool, hidden: bool) -> Forward: ...

    def to_read(self, prompt: Sequence[int]) -> Sequence[int]:
        """What of a prompt goes through the model, asked before the first of it does: all of it."""
        return prompt

    def prompt_read(self) -> None:  # noqa: B027 - to be overridden at will
        """Hear that the prompt is in the cache, and that what follows is the answer."""

    def keep(self, rows: Sequence[int]) -> None:
        """Of the tokens of the last pass keep those with these indices, a path in ascending order; drop the rest.

        Raises
        ------
        ArgumentError
            If the indices do not ascend or are not in that pass.
        """
        rows = list(rows)
        if rows != sorted(set(rows)) or (rows and not 0 <= rows[0] <= rows[-1] < self._newest):
            raise ArgumentError(f"rows={rows}: ascending, each below {self._newest}, the tokens of the last pass")
        if rows != list(range(len(rows))):
            self._gather(rows)
        self.crop(self.length - self._newest + len(rows))

    _newest: int = 0

    @abstractmethod
    def _gather(self, rows: Sequence[int]) -> None:
        """Move the cached entries of these tokens of the last pass to where it began."""

    @abstractmethod
    def crop(self, length: int = 0) -> None:
        """Forget all but the first ``length`` tokens.

        Raises
        ------
        ArgumentError
            If there are not so many.
        """


class TransformersTarget(Target):
    """A transformers model (also one with sparse layers) in its own dtype; logits are float32.

    Parameters
    ----------
    lm
        Its handle. The model is not changed.
    """

    def __init__(self, lm: LM) -> None:
        self.lm, self.module, self.tokenizer, self.source = lm, lm.module, lm.tokenizer, lm.source
        self.end_tokens = lm.end_tokens
        config = self.module.config
        self.vocabulary = int(self.module.get_output_embeddings().weight.shape[0])
        self.hidden_size, self.context = int(config.hidden_size), int(config.max_position_embeddings)
        self.window = int(getattr(config, "sliding_window", None) or self.context)
        self.cache = DynamicCache()  # without the configuration: layers with a window could not be cropped

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return self._held

    @property
    def _held(self) -> int:
        """Rows of the cache."""
        return int(self.cache.get_seq_length())

    def _forward(self, ids: np.ndarray, parents: np.ndarray | None, last: bool, hidden: bool) -> Forward:
        before, device = self.length, self.module.device
        more: dict[str, Any] = {"logits_to_keep": 1} if last else {}
        if parents is not None:
            if before + ids.size > self.window:
                raise ModelError(f"trees on a model with a window of {self.window} tokens: only within the window")
            seen, depth = visible(parents)
            more["position_ids"] = torch.from_numpy(before + depth)[None].to(device)
            more["attention_mask"] = self._mask(seen, before)
        return self._call(ids, hidden, more)

    @torch.no_grad()
    def _call(self, ids: np.ndarray, hidden: bool, more: dict[str, Any]) -> Forward:
        """One call of the model; the cache is as it was if that fails."""
        held = self._held
        try:
            with listening(self.module.get_output_embeddings(), hidden) as heard:
                inputs = torch.from_numpy(ids)[None].to(self.module.device)
                out = self.module(inputs, past_key_values=self.cache, use_cache=True, **more)
        except BaseException:  # an interrupted pass leaves layers of different lengths
            cut(self.cache, held)
            raise
        self._newest = ids.size
        state = heard[0][0].float().cpu().numpy() if hidden else None
        return Forward(out.logits[0].float().cpu().numpy(), state)

    def _mask(self, seen: np.ndarray, before: int) -> torch.Tensor:
        """Additive ``[1, 1, T, before + T]``; boolean masks are silently misread by eager attention."""
        dtype = self.module.dtype
        mask = torch.full((len(seen), before + len(seen)), torch.finfo(dtype).min, dtype=dtype)
        mask[:, :before] = 0
        mask[:, before:][torch.from_numpy(seen)] = 0
        return mask[None, None].to(self.module.device)

    def _gather(self, rows: Sequence[int]) -> None:
        start = self._held - self._newest
        index = torch.tensor([start + r for r in rows], device=self.module.device)
        for layer in cached_layers(self.cache):
            for states in (layer.keys, layer.values):
                states[:, :, start : start + len(rows)] = states.index_select(2, index.to(states.device))

    def crop(self, length: int = 0) -> None:
        """Forget all but the first ``length`` tokens."""
        if not 0 <= length <= self.length:
            raise ArgumentError(f"length={length}: the cache holds {self.length} tokens")
        cut(self.cache, length)


class CompiledTarget(Target):
    """Our compiled runtime; it owns the one cache of the `Compiled`, which it empties.

    Parameters
    ----------
    compiled
        What `workbench.compile` returned.
    """

    def __init__(self, compiled: Compiled) -> None:
        self.compiled, self.tokenizer, self.source = compiled, compiled.tokenizer, compiled.source
        self.end_tokens = compiled.end_tokens
        weights = compiled.decoder.weights
        self.vocabulary, self.hidden_size = weights.embedding.shape
        self.context = compiled.context
        compiled.crop()

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return self.compiled.position

    def _forward(self, ids: np.ndarray, parents: np.ndarray | None, last: bool, hidden: bool) -> Forward:
        logits = self.compiled.forward(ids, parents, last=last)
        state = self.compiled.decoder.hidden() if hidden else None
        self._newest = ids.size
        return Forward(logits, state)

    def _gather(self, rows: Sequence[int]) -> None:
        self.compiled.decoder.gather(self.length - self._newest, rows)

    def crop(self, length: int = 0) -> None:
        """Forget all but the first ``length`` tokens."""
        self.compiled.crop(length)


def as_target(model: Any) -> Target:
    """A target from a target, a `Compiled`, or anything that holds a transformers model; its cache is empty.

    Raises
    ------
    ArgumentError
        If it is none of them.
    """
    if isinstance(model, Target):
        model.crop()
        return model
    return CompiledTarget(model) if isinstance(model, Compiled) else TransformersTarget(as_lm(model))
