"""Read a structured prompt, and decode behind it as behind any other: `read`, `SegmentedTarget`.

Every block goes through the model once, over a cache that holds just the blocks that it sees. No mask is needed for
that: what is not to be seen is not there. Their rows are then put together, and all that follows sees all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from workbench import render
from workbench.attention.rotating import Rotation
from workbench.attention.segments._method import SegmentMethod, resolve
from workbench.attention.segments.layout import Block, Layout, Segments, Text
from workbench.attention.segments.shelf import Layers, Shelf, States
from workbench.decode._cache import cached_layers, cut
from workbench.decode.target import Forward, TransformersTarget
from workbench.decode.tree import visible
from workbench.errors import ArgumentError, ModelError
from workbench.jobs import Progress
from workbench.models import LM, as_lm


class SegmentedTarget(TransformersTarget):
    """A model that has read a structured prompt; what it is told next comes behind that.

    `read` makes it. `crop` goes back to the parts, without what came after them, so that
    ``generate(target, target.after)`` continues the whole prompt, and ``generate(target, "...")`` asks something else.

    Attributes
    ----------
    layout
        The prompt in its place, `SegmentedTarget.after` included.
    logits
        Float32 ``[A, V]`` after every token of `SegmentedTarget.after`.
    after
        Its token ids.
    """

    layout: Layout
    logits: np.ndarray
    after: tuple[int, ...]

    def __init__(self, lm: LM, layout: Layout, base: Layers, after: tuple[int, ...]) -> None:
        super().__init__(lm)
        self.layout, self.after = layout, after
        for n, (keys, values) in enumerate(base):
            self.cache.update(keys, values, n)
        self._rows = self._held
        end = Layout(layout.method, _base(layout)).end
        self._shift = end - self._rows
        bounded = self.window - self._rows if self.window < self.context else self.context
        self.context = min(self.context - end, bounded)
        self.logits = np.zeros((0, self.vocabulary), np.float32)
        if after:
            self.logits = self.forward(after).logits

    @property
    def length(self) -> int:
        """Tokens behind the parts."""
        return self._held - self._rows

    @property
    def mask(self) -> np.ndarray:
        """Bool [S, S]: whether a token of the prompt (row) sees another; see `Layout.mask`."""
        return self.layout.mask

    @property
    def positions(self) -> np.ndarray:
        """Int64 [S]: of the prompt's tokens."""
        return self.layout.positions

    def _forward(self, ids: np.ndarray, parents: np.ndarray | None, last: bool, hidden: bool) -> Forward:
        held, device = self._held, self.module.device
        depth = np.arange(ids.size)
        more: dict[str, Any] = {"logits_to_keep": 1} if last else {}
        if parents is not None:
            seen, depth = visible(parents)
            more["attention_mask"] = self._mask(seen, held)
        more["position_ids"] = torch.from_numpy(held + self._shift + depth)[None].to(device)
        return self._call(ids, hidden, more)

    def crop(self, length: int = 0) -> None:
        """Forget all but the first ``length`` tokens behind the parts.

        Raises
        ------
        ArgumentError
            If there are not so many.
        """
        if not 0 <= length <= self.length:
            raise ArgumentError(f"length={length}: there are {self.length} tokens behind the parts")
        cut(self.cache, self._rows + length)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return render.bundle(self.layout.to_text(), self.layout.to_html())


def read(
    model: Any,
    method: str | SegmentMethod,
    segments: Segments,
    *,
    shelf: Shelf | None = None,
    progress: Progress | None = None,
    **parameters: Any,
) -> SegmentedTarget:
    """Read a structured prompt.

    Parameters
    ----------
    model
        A model handle, pruned result or transformers causal LM; it is not changed.
    method
        A registered name, with its hyper-parameters as further arguments; or a `SegmentMethod`.
    segments
        The prompt. Only what comes first gets special tokens, as the tokenizer adds them.
    shelf
        Where blocks that were read before are found, and these are kept.
    progress
        Hears after every block; cancels.

    Returns
    -------
    SegmentedTarget
        Everything is read, ``segments.after`` included.

    Raises
    ------
    ArgumentError
        If an argument is unknown or out of range, a part is empty, or the prompt does not fit.
    ModelError
        If keys have to move, and the model's cannot.

    Examples
    --------
    >>> question = Segments("Which is a fruit?", (" a stone", " a pear"), " Answer: a")
    >>> target = read(lm, "set-prompt", question)                                     # doctest: +SKIP
    >>> workbench.generate(target, target.after).text                                 # doctest: +SKIP
    ' pear'
    """
    lm, chosen, progress = as_lm(model), resolve(method, parameters), progress or Progress()
    before = _ids(lm, "before", segments.before, special=True)
    parts = [_ids(lm, f"parts[{n}]", part) for n, part in enumerate(segments.parts)]
    after = _ids(lm, "after", segments.after)
    if not all(parts):
        raise ArgumentError(f"parts[{[bool(p) for p in parts].index(False)}] is empty: at least one token")
    layout = chosen.layout(before, parts, after, segments.edges)
    _fits(lm, layout)
    if shelf is not None:
        shelf.serve(lm.module)
    base = _read(lm, _base(layout), shelf, progress)
    return SegmentedTarget(lm, layout, base, after)


def _fits(lm: LM, layout: Layout) -> None:
    """Refuse what leaves no room for a token."""
    context = int(lm.module.config.max_position_embeddings)
    window = getattr(lm.module.config, "sliding_window", None)
    if layout.end >= context:
        raise ArgumentError(f"the prompt takes {layout.end} positions; the model has {context}: shorten it")
    if window and len(layout.ids) >= window:  # windows count rows of the cache, which share positions here
        raise ArgumentError(f"the prompt has {len(layout.ids)} tokens; the model's window is {window}: shorten it")


def _base(layout: Layout) -> tuple[Block, ...]:
    """All blocks but what comes after."""
    return tuple(b for b in layout.blocks if b.name != "after")


@torch.no_grad()
def _read(lm: LM, blocks: Sequence[Block], shelf: Shelf | None, progress: Progress) -> Layers:
    """Keys and values of all blocks, one behind the other, by layer."""
    rotation: Rotation | None = None
    found: list[States] = []
    keys: list[bytes] = []
    for n, block in enumerate(blocks):
        seen = [(blocks[s], keys[s], found[s]) for s in block.sees]
        keys.append(_key(block, [(k, b.start - block.start) for b, k, _ in seen]))
        states = shelf.find(keys[-1]) if shelf is not None else None
        if states is None:
            start = block.start if seen else 0
            states = States(start, _block(lm, block, start, [s.layers for _, _, s in seen]))
            if shelf is not None:
                shelf.keep(keys[-1], states)
        if states.start != block.start:
            rotation = rotation or Rotation.of(lm)
            states = states.moved(block.start, rotation)
        found.append(states)
        progress.step("reading blocks", n + 1, len(blocks))
    return _joined([s.layers for s in found])


def _block(lm: LM, block: Block, start: int, seen: Sequence[Layers]) -> Layers:
    """Keys and values of a block that is read at ``start`` over the blocks that it sees."""
    cache = DynamicCache()
    for n, (k, v) in enumerate(_joined(seen)):
        cache.update(k, v, n)
    rows = int(cache.get_seq_length()) if seen else 0
    ids = torch.tensor([block.ids], device=lm.module.device)
    places = torch.arange(start, start + len(block.ids), device=lm.module.device)[None]
    lm.module(ids, position_ids=places, past_key_values=cache, use_cache=True, logits_to_keep=1)
    layers = cached_layers(cache)
    if not layers or any(layer.keys.shape[2] != rows + len(block.ids) for layer in layers):
        raise ModelError(f"{type(lm.module).__name__} does not cache keys and values of all tokens: blocks need them")
    return [(layer.keys[:, :, rows:].clone(), layer.values[:, :, rows:].clone()) for layer in layers]


def _joined(blocks: Sequence[Layers]) -> Layers:
    """One behind the other, by layer."""
    return [tuple(torch.cat(x, 2) for x in zip(*layer, strict=True)) for layer in zip(*blocks, strict=True)]  # type: ignore[misc]


def _key(block: Block, seen: Sequence[tuple[bytes, int]]) -> bytes:
    """What a block's keys and values depend on, but for where the whole of it stands: rotary positions are relative."""
    digest = hashlib.sha256(np.asarray(block.ids, np.int64).tobytes())
    for key, distance in seen:
        digest.update(key + distance.to_bytes(8, "little", signed=True))
    return digest.digest()


def _ids(lm: LM, name: str, text: Text, *, special: bool = False) -> tuple[int, ...]:
    vocabulary = int(lm.module.get_output_embeddings().weight.shape[0])
    if not isinstance(text, str):
        ids = tuple(int(t) for t in text)
        if any(not 0 <= t < vocabulary for t in ids):
            raise ArgumentError(f"{name} holds an id that is no token: each from 0 to {vocabulary - 1}")
        return ids
    if not text:
        return ()
    if lm.tokenizer is None:
        raise ArgumentError(f"{name} is text, but the model has no tokenizer: give token ids")
    return tuple(int(t) for t in lm.tokenizer(text, add_special_tokens=special)["input_ids"])
