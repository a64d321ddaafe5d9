"""A model with a compressed KV cache that decodes like any other: `CompressedTarget`.

It keeps the cache itself, head by head, so that dropped keys are really gone and heads may keep different numbers of
them. Tokens stand at their true positions whatever was dropped before them; only what a method keeps from being read
at all leaves no gap: the tokens that are read stand close together then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from workbench.attention.kv._method import HeadView, KVMethod, resolve
from workbench.attention.kv._rows import Newest, Rows
from workbench.attention.watching import Passing, watched
from workbench.decode.target import Forward, Target
from workbench.errors import ArgumentError, ModelError
from workbench.models import as_lm

OBSERVED = 128  # newest queries that are remembered
NOWHERE = np.empty(0, np.int64)


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
        self._length = 0  # tokens that were read
        self._ids: list[int] = []
        self._places, self._prompt = (
            NOWHERE,
            0,
        )  # of the prompt's tokens that were read, and its length; if some were not
        self._layers: list[list[Rows]] = []
        self._queries: list[torch.Tensor] = []
        self._size: int | None = None
        self._share = 1.0

    @property
    def length(self) -> int:
        """Tokens so far, dropped ones included."""
        read, count = self._length, len(self._places)
        if read >= count:
            return read + max(0, self._prompt - count)
        return int(self._places[read - 1]) + 1 if read else 0

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
        return sum(2 * 4 * self.length * rows.keys.shape[1] for rows in self._all)

    @property
    def kept(self) -> list[list[np.ndarray]]:
        """Positions that are left, by layer and KV head."""
        behind = np.arange(self._prompt, max(self._prompt, self.length))
        where = np.concatenate([self._places, behind]) if self._prompt else np.arange(self.length)
        return [[where[rows.positions.numpy()] for rows in layer] for layer in self._layers]

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
        size = self._size_of(self.length)
        self._share = min(1.0, size / self.length)
        self._read_again(size)
        queries, ahead = self._look_ahead()
        for layer in range(len(self._layers)):
            self._shrink(layer, size, queries[layer], ahead[layer] if ahead else None)
        self._size = size

    def _size_of(self, length: int) -> int:
        return self.budget if isinstance(self.budget, int) else max(1, round(self.budget * length))

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
        other._ids = list(self._ids)
        other._layers = [[rows.copy() for rows in layer] for layer in self._layers]
        other._queries = [q.clone() for q in self._queries]
        return other

    def to_read(self, prompt: Sequence[int]) -> Sequence[int]:
        """The tokens of a prompt that the method lets through: most methods all of them."""
        if self.method is None or self._length or not len(prompt):
            return prompt
        kept = self.method.reads(self.lm, prompt, self._size_of(len(prompt)))
        if kept is None or len(kept) == len(prompt):
            return prompt
        self._places, self._prompt = kept, len(prompt)
        return [int(prompt[k]) for k in kept]

    def prompt_read(self) -> None:
        """Compress."""
        self.compress()

    def _read_again(self, size: int) -> None:
        """Only what the method lets through, if everything was read before it could be asked."""
        kept = None if self.method is None or self._prompt else self.method.reads(self.lm, self._ids, size)
        if kept is None or len(kept) == len(self._ids):
            return
        names = ("_layers", "_queries", "_length", "_ids", "_places", "_prompt")
        before, ids = {name: getattr(self, name) for name in names}, np.array(self._ids, np.int64)
        try:
            self._layers, self._queries, self._length = [], [], 0
            self._ids, self._places, self._prompt = ids[kept].tolist(), kept, len(ids)
            with watched(self.lm, self._attend):
                self._read(ids[kept], True)
        except BaseException:
            vars(self).update(before)
            raise

    def _look_ahead(self) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
        """By layer: queries of the newest tokens and of those that a draft expects; by layer and head: their keys."""
        found = () if self.method is None else self.method.ahead(self.lm, self._ids)
        expected = np.array(found[: self.context - self.length], np.int64)
        if not expected.size:
            return self._queries, []
        before, queries, mass = self._length, list(self._queries), [rows.mass.clone() for rows in self._all]
        try:
            with watched(self.lm, self._attend):
                self._read(expected, True)
            return self._queries, [[rows.keys[before:].clone() for rows in layer] for layer in self._layers]
        finally:  # those tokens were never read
            self._length, self._queries = before, queries
            for rows, one in zip(self._all, mass, strict=True):
                rows.crop(before)
                rows.mass.copy_(one)

    def _forward(self, ids: np.ndarray, parents: np.ndarray | None, last: bool, hidden: bool) -> Forward:
        if parents is not None or hidden:
            raise ModelError("a compressed cache takes one token after the other: no trees, no hidden states")
        before, queries = self._length, list(self._queries)
        try:
            with watched(self.lm, self._attend):
                logits = self._read(ids, last)
        except BaseException:
            self._length, self._queries = before, queries
            for rows in self._all:
                rows.crop(before)
            raise
        self._newest = ids.size
        self._ids += ids.tolist()
        if self._size is not None and self.method is not None and self.method.always:
            for layer in range(len(self._layers)):
                self._shrink(layer, self._size, self._queries[layer], None)
        return Forward(logits.float().numpy())

    @torch.no_grad()
    def _read(self, ids: np.ndarray, last: bool, chunk: int = 256) -> torch.Tensor:
        found = []
        for start in range(0, len(ids), chunk):
            part = torch.from_numpy(ids[start : start + chunk])[None]
            positions = torch.arange(self._length, self._length + part.shape[1])[None]
            more: dict[str, Any] = {"logits_to_keep": 1} if last else {}
            cache: Any = Newest()
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

    def _shrink(self, layer: int, budget: int, queries: torch.Tensor, ahead: list[torch.Tensor] | None) -> None:
        method = self.method
        if method is None:
            return
        heads = self._layers[layer]
        queries = queries.unflatten(0, (len(heads), -1))[:, :, -max(1, method.observes) :]
        views = [
            HeadView(
                layer, h, rows.keys, rows.values, rows.positions, rows.mass, queries[h], self._length,
                None if ahead is None else ahead[h],
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
            self._layers, self._queries, self._ids = [], [], []
            self._places, self._prompt = NOWHERE, 0
            return
        if not 0 < length <= self.length:
            raise ArgumentError(f"length={length}: there are {self.length} tokens")
        read = length
        if self._prompt:
            read = int(np.searchsorted(self._places, length)) + max(0, length - self._prompt)
            self._places, self._prompt = self._places[:read], min(length, self._prompt)
        for rows in self._all:
            rows.crop(read)
        gone, self._length, self._ids = self._length - read, read, self._ids[:read]
        self._queries = [q[:, : max(0, q.shape[1] - gone)] for q in self._queries]
