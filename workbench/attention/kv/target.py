"""A model with a compressed KV cache that decodes like any other: `CompressedTarget`.

It keeps the cache itself, head by head, so that dropped keys are really gone and heads may keep different numbers of
them. Tokens stand at their true positions whatever was dropped before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache

from workbench.attention.kv._method import HeadView, KVMethod, resolve
from workbench.attention.kv._rows import Rows
from workbench.attention.watching import Passing, watched
from workbench.decode.target import Forward, Target
from workbench.errors import ArgumentError, ModelError
from workbench.models import as_lm

OBSERVED = 128  # newest queries that are remembered


class CompressedTarget(Target):
    """A transformers model whose cache a method makes smaller after the prompt (and while decoding, if it does so).

    Parameters
    ----------
    model
        A model handle, pruned result or transformers causal LM; it is not changed.
    method
        A registered name, or a `KVMethod`; None keeps everything.
    budget
        Keys per head: a share of the prompt (a float up to 1), or a number of tokens (an int). For methods that drop
        while they decode it is the most that ever stays.
    parameters
        Hyper-parameters of a method that is given by name.

    Raises
    ------
    ArgumentError
        If the budget is out of range, or a name is unknown.
    """

    def __init__(self, model: Any, method: str | KVMethod | None, budget: float = 0.25, **parameters: Any) -> None:
        whole = isinstance(budget, int) and not isinstance(budget, bool)
        if not (budget >= 1 if whole else 0 < budget <= 1):
            raise ArgumentError(f"budget={budget}: a share above 0 and up to 1, or a number of tokens")
        self.lm = as_lm(model)
        self.method = None if method is None else resolve(method, parameters)
        self.budget, self.tokenizer, self.source = budget, self.lm.tokenizer, self.lm.source
        config = self.lm.module.config
        self.module = self.lm.module
        self.vocabulary = int(self.module.get_output_embeddings().weight.shape[0])
        self.hidden_size, self.context = int(config.hidden_size), int(config.max_position_embeddings)
        self._length = 0
        self._layers: list[list[Rows]] = []
        self._queries: list[torch.Tensor] = []
        self._size: int | None = None
        self._share = 1.0

    @property
    def length(self) -> int:
        """Tokens so far, dropped ones included."""
        return self._length

    @property
    def nbytes(self) -> int:
        """Of all keys and values that are kept."""
        return sum(rows.nbytes for rows in self._all)

    @property
    def _all(self) -> list[Rows]:
        return [rows for layer in self._layers for rows in layer]

    @property
    def dense_nbytes(self) -> int:
        """What they would take if none were dropped."""
        return sum(2 * 4 * self._length * rows.keys.shape[1] for rows in self._all)

    @property
    def kept(self) -> list[list[np.ndarray]]:
        """Positions that are left, by layer and KV head."""
        return [[rows.positions.numpy().copy() for rows in layer] for layer in self._layers]

    def compress(self) -> None:
        """Drop down to the budget now: the prompt is over. `generate` does so by itself.

        Raises
        ------
        ArgumentError
            If nothing was read yet.
        """
        if self.method is None:
            return
        if not self._length:
            raise ArgumentError("nothing to compress: read a prompt first")
        size = self.budget if isinstance(self.budget, int) else max(1, round(self.budget * self._length))
        self._share = min(1.0, size / self._length)
        for layer in range(len(self._layers)):
            self._shrink(layer, int(size))
        self._size = int(size)

    def fork(self, method: str | KVMethod | None, budget: float = 0.25, **parameters: Any) -> CompressedTarget:
        """Another target over the same model that has read the same, with a copy of the cache; not compressed yet.

        Raises
        ------
        ArgumentError
            If this one has dropped keys already.
        """
        if self._size is not None:
            raise ArgumentError("the cache is compressed already: fork it before")
        other = CompressedTarget(self.lm, method, budget, **parameters)
        other._length, other._newest = self._length, self._newest
        other._layers = [[rows.copy() for rows in layer] for layer in self._layers]
        other._queries = [q.clone() for q in self._queries]
        return other

    def prompt_read(self) -> None:
        """Compress."""
        self.compress()

    @torch.no_grad()
    def _forward(self, ids: np.ndarray, parents: np.ndarray | None, last: bool, hidden: bool) -> Forward:
        if parents is not None or hidden:
            raise ModelError("a compressed cache takes one token after the other: no trees, no hidden states")
        before = self._length
        try:
            with watched(self.lm, self._attend):
                logits = self._read(ids, last)
        except BaseException:
            self._length = before
            for rows in self._all:
                rows.crop(before)
            raise
        self._newest = ids.size
        if self._size is not None and self.method is not None and self.method.always:
            for layer in range(len(self._layers)):
                self._shrink(layer, self._size)
        return Forward(logits.float().numpy())

    def _read(self, ids: np.ndarray, last: bool, chunk: int = 256) -> torch.Tensor:
        found = []
        for start in range(0, len(ids), chunk):
            part = torch.from_numpy(ids[start : start + chunk])[None]
            positions = torch.arange(self._length, self._length + part.shape[1])[None]
            more: dict[str, Any] = {"logits_to_keep": 1} if last else {}
            cache: Any = _Newest()
            out = self.module(part, position_ids=positions, past_key_values=cache, use_cache=True, **more)
            found.append(out.logits[0])
            self._length += part.shape[1]
        return found[-1] if last else torch.cat(found)

    def _attend(self, passing: Passing) -> torch.Tensor:
        """Attention over what is kept; ``passing`` has only the newest keys."""
        while len(self._layers) <= passing.layer:
            self._layers.append([Rows(passing.key.shape[2]) for _ in passing.key])
            self._queries.append(torch.empty(0))
        count, group = passing.query.shape[1], passing.group
        own = torch.arange(self._length, self._length + count)
        outputs = []
        for head, rows in enumerate(self._layers[passing.layer]):
            rows.append(passing.key[head].float(), passing.value[head].float(), self._length)
            scores = passing.query[head * group : (head + 1) * group].float() @ rows.keys.T * passing.scaling
            if passing.softcap:
                scores = passing.softcap * torch.tanh(scores / passing.softcap)
            hidden = rows.positions[None] > own[:, None]
            if passing.window:
                hidden |= rows.positions[None] <= own[:, None] - passing.window
            p = torch.softmax(scores.masked_fill_(hidden, -1e30), -1)
            rows.attended(p.sum((0, 1)))
            outputs.append(p @ rows.values)
        newest = passing.query.float() * passing.scaling
        held = self._queries[passing.layer]
        both = torch.cat([held, newest], 1) if held.numel() else newest
        self._queries[passing.layer] = both[:, -OBSERVED:].clone()
        return torch.cat(outputs).to(passing.query.dtype)

    def _shrink(self, layer: int, budget: int) -> None:
        method = self.method
        if method is None:
            return
        heads = self._layers[layer]
        group = len(self._queries[layer]) // len(heads)
        views = [
            HeadView(
                layer, h, rows.keys, rows.values, rows.positions, rows.mass,
                self._queries[layer][h * group : (h + 1) * group, -max(1, method.observes) :], self._length,
            )
            for h, rows in enumerate(heads)
        ]  # fmt: skip
        for h, (rows, index) in enumerate(zip(heads, method.select(views, budget), strict=True)):
            if len(index) < rows.length:
                rows.keep(index)
            heads[h] = method.pack(rows, self._share)

    def _gather(self, rows: Sequence[int]) -> None:
        raise ModelError(f"rows={list(rows)}: a compressed cache takes chains only")

    def crop(self, length: int = 0) -> None:
        """Forget all but the first ``length`` tokens; what was dropped of those stays dropped.

        Raises
        ------
        ArgumentError
            If there are not so many.
        """
        if length == 0:
            self._length, self._newest, self._size = 0, 0, None
            self._layers, self._queries = [], []
            return
        if not 0 < length <= self._length:
            raise ArgumentError(f"length={length}: there are {self._length} tokens")
        for rows in self._all:
            rows.crop(length)
        self._length = length


class _Newest(Cache):
    """A cache that holds nothing: every layer gets its newest keys only, the target has the rest."""

    def __init__(self) -> None:
        super().__init__(layers=[])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Nothing is kept."""
        return key_states, value_states

    def get_seq_length(self, *_: Any, **__: Any) -> int:
        """None that transformers should know of; positions are given to it."""
        return 0

    def get_mask_sizes(self, query_length: Any, *_: Any, **__: Any) -> tuple[int, int]:
        """As without a cache."""
        return int(query_length), 0
