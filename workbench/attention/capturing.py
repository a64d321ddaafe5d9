"""Where attention goes, in numbers that stay small: statistics of every head, streamed while a text is read.

    chunk of queries -> one head's probabilities P [T, S] -> added to rows, columns, distances, a small picture -> gone

P is never kept, so that memory grows with the length of the text and not with its square. With P[i, j] the share of
attention that query i pays key j, d = i - j, and rows i from ``first`` on where means are taken:

    entropy_i = -sum_j P log P           effective keys_i = exp(entropy_i)
    sink_i    = sum_{j < sinks} P        local_i = sum_{d < local} P
    waad_i    = sum_j P min(d, local)                                     windowed average attention distance
    column_j  = mean_{i >= j} P[i, j]                                     verticals
    slash_d   = mean_{i >= d} P[i, i - d]                                 slashes; slash_1 is the previous token
    fai_j     = mean of P[i, j] over lo <= i - j <= hi                    future attention influence
    keys_i(m) = least number of keys that together have mass m            every ``sample``-th row

WAAD and FAI: Yang Li et al., Attention Illuminates LLM Reasoning (2025, arXiv:2510.13554), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache
from workbench_kernels.attention_sums import RowSums

from workbench.attention.watching import Passing, watched
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.models import LM, as_lm

MASSES = (0.9, 0.95, 0.99)
CHUNK = 256


@dataclass(frozen=True, slots=True)
class Settings:
    """What is counted how.

    Attributes
    ----------
    sinks, local
        First keys, and newest keys (the query itself included), whose mass is counted.
    first
        Rows before it are left out of means: they see too few keys to choose among.
    near, far
        Distances between which a key's influence on later tokens is taken (FAI).
    sample
        Every so many rows the keys needed for a mass are counted.
    cells
        The picture of a head has at most so many rows and columns.
    """

    sinks: int = 4
    local: int = 64
    first: int = 64
    near: int = 4
    far: int = 50
    sample: int = 32
    cells: int = 256

    def __post_init__(self) -> None:
        for name in ("sinks", "local", "near", "sample", "cells"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name}={getattr(self, name)}: at least 1")
        if self.first < 0 or self.far < self.near:
            raise ArgumentError(f"first={self.first}, near={self.near}, far={self.far}: not negative, far >= near")


@dataclass(frozen=True, eq=False)
class Captured:
    """Statistics of all heads over one text of S tokens; arrays are float32 ``[layers, heads, ...]``.

    Attributes
    ----------
    ids : ndarray of int64 [S]
    settings : Settings
    entropy, sink, local, waad
        Per query ``[L, H, S]``; nats, shares, shares, tokens.
    column, fai
        Per key ``[L, H, S]``: mean share that later queries pay it.
    slash
        Per distance ``[L, H, S]``: mean share at that distance.
    needed
        Keys that together have each of `MASSES`: mean over the sampled rows, ``[L, H, 3]``.
    picture
        Mean share per cell of ``block`` x ``block`` tokens, ``[L, H, cells, cells]``; 0 above the diagonal.
    block : int
    """

    ids: np.ndarray
    settings: Settings
    entropy: np.ndarray
    sink: np.ndarray
    local: np.ndarray
    waad: np.ndarray
    column: np.ndarray
    fai: np.ndarray
    slash: np.ndarray
    needed: np.ndarray
    picture: np.ndarray
    block: int

    @property
    def length(self) -> int:
        """Tokens of the text."""
        return len(self.ids)

    @property
    def layers(self) -> int:
        """Layers of the model."""
        return len(self.entropy)

    @property
    def heads(self) -> int:
        """Query heads of a layer."""
        return int(self.entropy.shape[1])

    @property
    def rows(self) -> slice:
        """The queries that means are taken over."""
        return slice(min(self.settings.first, self.length - 1), None)


def capture(
    model: Any,
    ids: Sequence[int] | np.ndarray,
    settings: Settings | None = None,
    *,
    chunk: int = CHUNK,
    progress: Progress | None = None,
) -> Captured:
    """Read a text and keep statistics of every head.

    Parameters
    ----------
    model
        A model handle, pruned result or transformers causal LM.
    ids
        Token ids of one text, at least 2.
    settings
    chunk
        Queries that are read at once; more take more memory.
    progress
        Hears after every layer of every chunk; cancels.

    Raises
    ------
    ArgumentError
        If the text is too short, or longer than the model takes.
    Cancelled
        If the job was cancelled; the model is as it was.
    """
    lm, settings, progress = as_lm(model), settings or Settings(), progress or Progress()
    tokens = np.asarray(ids, np.int64).reshape(-1)
    most = int(lm.module.config.max_position_embeddings)
    if not 2 <= tokens.size <= most:
        raise ArgumentError(f"ids has {tokens.size} tokens: 2 to {most}")
    if chunk < 1:
        raise ArgumentError(f"chunk={chunk}: at least 1")
    counted = _Counts(lm, tokens.size, settings, progress, -(-tokens.size // chunk))
    with torch.no_grad(), watched(lm, counted):
        read(lm, tokens, chunk)
    return counted.captured(tokens)


def read(lm: LM, tokens: np.ndarray, chunk: int = CHUNK) -> DynamicCache:
    """Put a text through the model in chunks, without logits; the cache."""
    cache = DynamicCache()
    for start in range(0, len(tokens), chunk):
        part = torch.from_numpy(tokens[start : start + chunk])[None].to(lm.device)
        lm.module(part, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


class _Counts:
    """An observer that adds up."""

    def __init__(self, lm: LM, length: int, settings: Settings, progress: Progress, chunks: int) -> None:
        config = lm.module.config
        layers, heads = int(config.num_hidden_layers), int(config.num_attention_heads)
        self.length, self.settings, self.progress, self.chunks, self.done = length, settings, progress, chunks, 0
        block = -(-length // settings.cells)
        options = {"sinks": settings.sinks, "local": settings.local, "near": settings.near, "far": settings.far}
        self.sums = [[RowSums(length, **options, block=block) for _ in range(heads)] for _ in range(layers)]
        self.needed, self.sampled, self.block = np.zeros((layers, heads, len(MASSES))), np.zeros((layers, heads)), block

    def __call__(self, passing: Passing) -> torch.Tensor:
        self.progress.check()
        keys, values = (padded(x) for x in (passing.key, passing.value))
        heads = []
        for head, sums in enumerate(self.sums[passing.layer]):
            own = head // passing.group
            scores = passing.products(head, keys[own])
            sums.add(scores.numpy(), passing.offset, passing.window)
            self._needed(passing.layer, head, scores, passing.offset)
            heads.append(scores @ values[own])
        self.done += 1
        self.progress.step("reading", self.done, self.chunks * len(self.sums))
        return torch.stack(heads).to(passing.query.dtype)

    def _needed(self, layer: int, head: int, p: torch.Tensor, offset: int) -> None:
        rows = range(-offset % self.settings.sample, len(p), self.settings.sample)
        chosen = [i for i in rows if i + offset >= min(self.settings.first, self.length - 1)]
        if chosen:
            mass = p[chosen].sort(1, descending=True).values.cumsum(1)
            for k, wanted in enumerate(MASSES):
                self.needed[layer, head, k] += float(((mass < wanted - 1e-6).sum(1) + 1).sum())
            self.sampled[layer, head] += len(chosen)

    def captured(self, ids: np.ndarray) -> Captured:
        """Sums to means."""
        n, settings, left = self.length, self.settings, np.arange(self.length, 0, -1, dtype=np.float32)
        reach = np.maximum(np.minimum(left - 1, settings.far) - settings.near + 1, 0)
        sides = np.minimum(np.arange(self.block, n + self.block, self.block), n)
        sides = np.diff(sides, prepend=0).astype(np.float32)

        def all_of(name: str, by: Any = 1.0) -> np.ndarray:
            found: np.ndarray = np.array([[getattr(h, name) for h in layer] for layer in self.sums], np.float32)
            return np.divide(found, by, out=np.zeros_like(found), where=np.broadcast_to(np.greater(by, 0), found.shape))

        return Captured(
            ids,
            settings,
            entropy=all_of("entropy"),
            sink=all_of("sink"),
            local=all_of("local_mass"),
            waad=all_of("distance"),
            column=all_of("column", left),
            fai=all_of("later", reach),
            slash=all_of("slash", left),
            needed=(self.needed / np.maximum(self.sampled, 1)[..., None]).astype(np.float32),
            picture=all_of("cells", sides[:, None] * sides),
            block=self.block,
        )


def padded(states: torch.Tensor) -> torch.Tensor:
    """Float32 keys or values ``[Hkv, S, D]`` with zeros behind them up to a multiple of 16."""
    return torch.nn.functional.pad(states.float(), (0, 0, 0, -states.shape[1] % 16))
