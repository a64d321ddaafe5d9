"""A target that runs layer by layer: exit early, resume later for several tokens at once, or take another path.

    shallow(ids, layer)  ->  logits there; the hidden states wait            layers 1 ... layer, token by token
    forward(ids)         ->  those that wait and those that are new          all layers that are missing, at once

Keys and values are kept per *place* of the path, so that a layer that is run twice has two caches. The model is called
as it is, with the forward of its layers replaced meanwhile: masks, tables of positions and output head are its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from workbench.decode._cache import listening
from workbench.decode.depth.lens import TunedLens
from workbench.decode.target import CompiledTarget, Forward, TransformersTarget, visible
from workbench.errors import ArgumentError, ModelError
from workbench.execute.compiled import Compiled
from workbench.models import LM, as_lm
from workbench.prune._runner import stubbed


class DepthTarget(TransformersTarget):
    """A transformers model whose layers are run one by one.

    Parameters
    ----------
    lm
        Its handle. The model is not changed.
    path
        Layers in the order in which they are run, counted from 0, each any number of times; None: all, in order.

    Attributes
    ----------
    path : tuple of int
    watched : frozenset of int
        Depths (1: after the first place of the path) whose hidden states are kept in `states`.
    states : dict of int to Tensor [T, H]
        At every watched depth those of the tokens of the last `forward`.
    layers_run : int
        Layers run so far, each counted once however many tokens went through it together.
    heads_run : int
        Output heads, likewise.
    waiting : list of int
        Tokens that have been through the first `layer` layers only.
    layer : int
        0 if none waits.
    """

    def __init__(self, lm: LM, path: Sequence[int] | None = None) -> None:
        super().__init__(lm)
        self.layers = lm.architecture.layers
        self.path = tuple(range(len(self.layers))) if path is None else tuple(int(p) for p in path)
        if not self.path or not all(0 <= p < len(self.layers) for p in self.path):
            raise ArgumentError(f"path={path!r}: at least one layer, each from 0 to {len(self.layers) - 1}")
        self.watched: frozenset[int] = frozenset()
        self.states: dict[int, torch.Tensor] = {}
        self.layers_run = self.heads_run = self._length = self.layer = 0
        self.waiting: list[int] = []
        self._hidden: list[torch.Tensor] = []
        self._seen: dict[int, list[torch.Tensor]] = {}
        self.cache = self._places = _Places()

    @classmethod
    def of(cls, model: Any, path: Sequence[int] | None = None) -> DepthTarget:
        """A target from anything that holds a transformers model; one of this kind stays, emptied.

        Raises
        ------
        ArgumentError
            If it is a compiled model, whose layers cannot be run one by one.
        """
        if isinstance(model, Compiled | CompiledTarget):
            raise ArgumentError("model is compiled and runs all its layers at once: pass what it was compiled from")
        if isinstance(model, cls) and path in (None, model.path):
            model.crop()
            return model
        return cls(model.lm if isinstance(model, TransformersTarget) else as_lm(model), path)

    @property
    def depth(self) -> int:
        """Places of the path."""
        return len(self.path)

    @property
    def length(self) -> int:
        """Tokens that have been through all layers."""
        return self._length

    @torch.no_grad()
    def shallow(self, ids: Sequence[int], layer: int, lens: TunedLens | None = None) -> Forward:
        """Run more tokens through the first layers only; they stand behind those that wait, and wait too.

        Parameters
        ----------
        layer
            How many layers; the same for all that wait.
        lens
            Translates hidden states before the output head reads them.

        Returns
        -------
        Forward
            Logits after each token.

        Raises
        ------
        ArgumentError
            If the layer is out of range or another than where tokens wait, or there is no room.
        """
        if not 1 <= layer < self.depth or (self.waiting and layer != self.layer):
            wanted = f"{self.layer}, where others wait" if self.waiting else f"from 1 to {self.depth - 1}"
            raise ArgumentError(f"layer={layer}: {wanted}")
        count = len(self.waiting)
        if self.length + count + len(ids) > self.context:
            raise ArgumentError(f"{len(ids)} more tokens than {self.length + count}: there is room for {self.context}")
        everything = np.array([*self.waiting, *ids], np.int64)
        try:
            logits = self._pass(everything, None, slice(count, None), (0, layer), lens=lens)
        except BaseException:
            self.crop(self.length)
            raise
        self.waiting, self.layer = everything.tolist(), layer
        return Forward(logits)

    @torch.no_grad()
    def _forward(self, ids: np.ndarray, parents: np.ndarray | None, last: bool, hidden: bool) -> Forward:
        before, count, layer = self.length, len(self.waiting), self.layer
        if self.waiting:
            chain = parents is None or np.array_equal(parents[:count], np.arange(-1, count - 1))
            if not chain or ids[:count].tolist() != self.waiting:
                raise ArgumentError(f"ids={ids.tolist()}: must begin with those that wait, {self.waiting}")
        try:
            if layer and count < ids.size:
                self._pass(ids, parents, slice(count, None), (0, layer), head=False)
            with listening(self.module.get_output_embeddings(), hidden) as heard:
                logits = self._pass(ids, parents, slice(0, None), (layer, self.depth), last=last)
        except BaseException:
            self.crop(before)
            raise
        self.states = {depth: torch.cat(parts) for depth, parts in self._seen.items()}
        self._newest, self._length = ids.size, before + ids.size
        self._release()
        return Forward(logits, heard[0][0].float().cpu().numpy() if hidden else None)

    def _pass(
        self,
        ids: np.ndarray,
        parents: np.ndarray | None,
        rows: slice,
        places: tuple[int, int],
        *,
        lens: TunedLens | None = None,
        head: bool = True,
        last: bool = False,
    ) -> np.ndarray:
        """Run these rows of the tokens behind `length` through some places; logits, empty without the head."""
        seen, depth = visible(parents) if parents is not None else _chain(ids.size)
        if self.length + ids.size > self.window:
            raise ModelError(f"layer by layer on a model with a window of {self.window} tokens: only within the window")
        mask, device = self._mask(seen, self.length)[:, :, rows], self.module.device
        calls: list[tuple[Any, dict[str, Any]]] = []
        given: list[torch.Tensor] = []

        def stub(index: int, state: torch.Tensor, args: Any, kwargs: dict[str, Any]) -> torch.Tensor:
            plain = "attention_mask" in kwargs and mask.shape[2] == 1 and parents is None
            calls.append((args, kwargs | {"attention_mask": None} if plain else kwargs))
            given.append(state)
            if index < len(self.layers) - 1:
                return state
            start = torch.cat(self._hidden, 1) if places[0] else given[0]
            found = self._run(start, places, calls)
            if places[1] < self.depth:
                self._hidden.append(found)
            return lens.apply(places[1], found) if lens is not None else found

        options: dict[str, Any] = {"logits_to_keep": 1} if last and head else {}
        self.heads_run += head
        with stubbed(self.layers, stub):
            out = (self.module if head else self.module.base_model)(
                torch.from_numpy(ids[rows])[None].to(device),
                position_ids=torch.from_numpy(self.length + depth[rows])[None].to(device),
                attention_mask=mask,
                past_key_values=self._places,
                use_cache=True,
                **options,
            )
        return out.logits[0].float().cpu().numpy() if head else np.empty((0, self.vocabulary), np.float32)

    def _run(self, state: torch.Tensor, places: tuple[int, int], calls: list[Any]) -> torch.Tensor:
        for place in range(*places):
            layer, (args, kwargs) = self.layers[self.path[place]], calls[self.path[place]]
            self._places.place = place
            out = type(layer).forward(layer, state, *args, **kwargs)  # its own, not the stub
            state = out[0] if isinstance(out, tuple) else out
            self.layers_run += 1
            if place + 1 in self.watched:
                self._seen.setdefault(place + 1, []).append(state[0])
        return state

    def crop(self, length: int = 0) -> None:
        """Forget all but the first ``length`` tokens, and those that wait."""
        if not 0 <= length <= self.length:
            raise ArgumentError(f"length={length}: the cache holds {self.length} tokens")
        super().crop(length)
        self._length = length
        self._release()

    def _release(self) -> None:
        self.waiting, self.layer, self._hidden, self._seen = [], 0, [], {}

    @torch.no_grad()
    def read(self, state: torch.Tensor, lens: TunedLens | None = None, layer: int = 0) -> np.ndarray:
        """Logits ``[T, V]`` that norm and output head make of hidden states ``[T, H]`` after a layer."""
        state = state[None] if lens is None else lens.apply(layer, state)[None]
        self.heads_run += 1
        ids = torch.zeros(state.shape[:2], dtype=torch.long, device=state.device)
        with stubbed(self.layers, lambda _index, _state, _args, _kwargs: state):
            return np.asarray(self.module(ids, use_cache=False).logits[0].float().cpu().numpy())


class _Places(DynamicCache):
    """A cache whose entries belong to places of a path; layers name themselves, and are not listened to."""

    place: int = 0

    def update(self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        del layer_idx
        return super().update(key_states, value_states, self.place, *args, **kwargs)


def _chain(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.tril(np.ones((count, count), bool)), np.arange(count)


def head_layers(target: DepthTarget) -> float:
    """The output head's weights, in layers of average size."""
    sizes = [sum(p.numel() for p in layer.parameters()) for layer in target.layers]
    return float(target.module.get_output_embeddings().weight.numel() / (sum(sizes) / len(sizes)))
