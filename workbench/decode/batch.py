"""Several continuations of one prompt that grow by one token each per pass: what beams, samples and particles share.

    begin(run, n) -> Batch         the prompt is read once, its cache serves all
    batch.forward(ids [B])         one token each, or none where the id is -1
    batch.logits [B, V]            what the model says after each
    batch.select(rows)             duplicates, reorders, drops

On transformers a pass is a batch over copies of the cache. The compiled runtime has one cache: continuations go through
it as a tree while that is small, else one after the other, each with its own keys and values put back first.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from transformers import DynamicCache

from workbench.decode.run import Run
from workbench.decode.target import CompiledTarget, Target, TransformersTarget
from workbench.errors import ArgumentError, ModelError

WAIT = -1
TREE = 64  # nodes of one pass of the compiled runtime
PAYS = 8  # a tree of so many nodes costs about as much as one more pass of a single token


class Batch(ABC):
    """Continuations of a prompt.

    Attributes
    ----------
    logits : ndarray of float32 [B, V]
        What the model says after each.
    lengths : ndarray of int64 [B]
        Tokens of each behind the prompt.
    """

    def __init__(self, run: Run, logits: np.ndarray) -> None:
        self.run, self.target = run, run.target
        self.start = run.target.length
        self.logits = logits.reshape(1, -1)
        self.lengths = np.zeros(1, np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def forward(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Append a token to each continuation; the logits of all.

        Parameters
        ----------
        ids
            One per continuation; `WAIT` (-1) leaves one as it is.

        Raises
        ------
        ArgumentError
            If there are not as many ids, one is no token, or there is no room.
        """
        given = np.asarray(ids, np.int64).reshape(-1)
        if given.size != len(self) or given.min(initial=0) < WAIT or given.max(initial=0) >= self.target.vocabulary:
            raise ArgumentError(f"ids={given[:8].tolist()}: {len(self)} tokens below {self.target.vocabulary}, or -1")
        grow = given != WAIT
        if self.start + int((self.lengths + grow).max(initial=0)) > self.target.context:
            raise ArgumentError(f"a token more than {self.target.context}: the model has no room")
        if grow.any():
            self.run.progress.check()
            self.logits = self.logits.copy()
            self.logits[grow] = self._forward(given, grow)
            self.lengths = self.lengths + grow
        return self.logits

    @abstractmethod
    def _forward(self, ids: np.ndarray, grow: np.ndarray) -> np.ndarray:
        """Logits of those that grow."""

    def select(self, rows: Sequence[int]) -> None:
        """Keep these continuations, in this order; one may occur several times.

        Raises
        ------
        ArgumentError
            If one does not exist, or none is left.
        """
        index = np.asarray(list(rows), np.int64)
        if not index.size or index.min() < 0 or index.max() >= len(self):
            raise ArgumentError(f"rows={index[:8].tolist()}: at least one, each from 0 to {len(self) - 1}")
        if np.array_equal(index, np.arange(len(self))):
            return
        self.logits, self.lengths = self.logits[index], self.lengths[index]
        self._select(index)

    @abstractmethod
    def _select(self, index: np.ndarray) -> None: ...


class _Transformers(Batch):
    """A batch over copies of the cache; the target's own stays that of the prompt."""

    def __init__(self, run: Run, target: TransformersTarget, logits: np.ndarray) -> None:
        super().__init__(run, logits)
        self.module, self.window = target.module, target.window
        self.cache = copy.copy(target.cache)
        self.cache.layers = [copy.copy(layer) for layer in target.cache.layers]
        self.mask = np.ones((1, self.start), bool)

    @torch.no_grad()
    def _forward(self, ids: np.ndarray, grow: np.ndarray) -> np.ndarray:
        device = self.module.device
        self.mask = np.concatenate([self.mask, grow[:, None]], axis=1)
        whole = bool(self.mask.all())
        if not whole and self.mask.shape[1] > self.window:
            raise ModelError(f"waiting on a model with a window of {self.window} tokens: only within the window")
        out = self.module(
            torch.from_numpy(np.maximum(ids, 0))[:, None].to(device),
            attention_mask=None if whole else torch.from_numpy(self.mask.astype(np.int64)).to(device),
            position_ids=torch.from_numpy(self.start + self.lengths)[:, None].to(device),
            past_key_values=self.cache,
            use_cache=True,
        )
        self.run.trace.target_forwards += 1
        self.target.forwards += 1
        return out.logits[:, -1].float().cpu().numpy()[grow]

    def _select(self, index: np.ndarray) -> None:
        self.mask = self.mask[index]
        self.cache.batch_select_indices(torch.from_numpy(index).to(self.module.device))


class _Compiled(Batch):
    """A shared path in the one cache; what each continuation has of its own is passed again, or put back."""

    def __init__(self, run: Run, target: CompiledTarget, logits: np.ndarray) -> None:
        super().__init__(run, logits)
        self.decoder = target.compiled.decoder
        self.own: list[list[int]] = [[]]  # tokens behind the shared path
        self.kept: list[list[tuple[np.ndarray, np.ndarray]]] = [[]]  # keys and values of the first ones of them

    def _forward(self, ids: np.ndarray, grow: np.ndarray) -> np.ndarray:
        self.own = [own + [new] * (new != WAIT) for own, new in zip(self.own, ids.tolist(), strict=True)]
        rows = np.flatnonzero(grow).tolist()
        tokens, parents, leaves = _tree([self.own[r] for r in rows])
        room = self.target.context - self.target.length
        if len(tokens) <= min(TREE, PAYS * len(rows), room):
            logits = self.run.forward(tokens, parents).logits[leaves]
            shared = self._shared()
            self.target.keep(range(shared))  # nodes of the first continuation come first, so its path is 0, 1, ...
            self._forget(shared)
            return logits
        shared = min(self._shared(), *(_count(k) for k in self.kept))
        if shared:
            self.decoder.append([(k[:shared], v[:shared]) for k, v in self.kept[0]])
            self._forget(shared)
        return np.concatenate([self._alone(r) for r in rows])

    def _alone(self, row: int) -> np.ndarray:
        """Pass what is new of one continuation behind what it has."""
        root, before = self.target.length, self.kept[row]
        if before:
            self.decoder.append(before)
        logits = self.run.forward(self.own[row][_count(before) :], last=True).logits
        fresh = self.decoder.copied(root + _count(before), self.target.length)
        pairs = zip(before, fresh, strict=True) if before else ()
        self.kept[row] = [(np.concatenate([a, c]), np.concatenate([b, d])) for (a, b), (c, d) in pairs] or fresh
        self.target.crop(root)
        return logits

    def _shared(self) -> int:
        """Tokens at which all continuations agree from the shared path on."""
        first = min(self.own, key=len)
        agree = [n for n in range(len(first)) if any(o[n] != first[n] for o in self.own)]
        return agree[0] if agree else len(first)

    def _forget(self, count: int) -> None:
        """The first tokens of each are on the shared path now."""
        if count:
            self.own = [o[count:] for o in self.own]
            self.kept = [[(k[count:], v[count:]) for k, v in kept] for kept in self.kept]

    def _select(self, index: np.ndarray) -> None:
        self.own = [list(self.own[n]) for n in index]
        self.kept = [self.kept[n] for n in index]  # never changed in place


def _count(kept: Sequence[tuple[np.ndarray, np.ndarray]]) -> int:
    return len(kept[0][0]) if kept else 0


def _tree(paths: Sequence[Sequence[int]]) -> tuple[list[int], list[int], list[int]]:
    """Tokens and parents of the tree of all paths, and the node at which each path ends."""
    tokens: list[int] = []
    parents: list[int] = []
    place: dict[tuple[int, int], int] = {}
    leaves = []
    for path in paths:
        node = -1
        for token in path:
            if (node, token) not in place:
                place[node, token] = len(tokens)
                tokens.append(token)
                parents.append(node)
            node = place[node, token]
        leaves.append(node)
    return tokens, parents, leaves


def begin(run: Run, copies: int = 1) -> Batch:
    """Read the prompt of a run and start so many continuations of it.

    Raises
    ------
    ArgumentError
        If ``copies`` is below 1, or the target is neither a transformers model nor the compiled runtime.
    """
    if copies < 1:
        raise ArgumentError(f"copies={copies}: at least 1")
    target = run.target
    batch: Batch
    if isinstance(target, TransformersTarget):
        batch = _Transformers(run, target, run.prefill().logits[-1])
    elif isinstance(target, CompiledTarget):
        batch = _Compiled(run, target, run.prefill().logits[-1])
    else:
        what = type(target).__name__
        raise ArgumentError(f"several continuations on a {what}: a transformers model, or what workbench.compile made")
    batch.select([0] * copies)
    return batch


def room(run: Run) -> int:
    """How many tokens an answer may have: as asked, or what still fits behind the prompt."""
    return min(run.limit, run.target.context - len(run.prompt))


def say(run: Run, tokens: Sequence[int], events: Sequence[int], why: str = "") -> None:
    """Emit the chosen continuation, each token from the event that brought it; a token that ends answers comes last."""
    for token, event in zip(tokens, events, strict=True):
        if not run.emit(token, event):
            return
    run.finished = run.finished or why


@contextmanager
def elsewhere(target: Target) -> Iterator[None]:
    """Within it the target's cache is empty; afterwards it holds again what it held."""
    if isinstance(target, TransformersTarget):
        cache, target.cache = target.cache, DynamicCache()
        try:
            yield
        finally:
            target.cache = cache
    elif isinstance(target, CompiledTarget):
        decoder = target.compiled.decoder
        rows = decoder.copied(0, target.length)
        target.crop()
        try:
            yield
        finally:
            target.crop()
            decoder.append(rows)
    else:
        raise ArgumentError(f"target={target!r}: wanted a transformers model or the compiled runtime")
