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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from workbench_kernels.attention_sums import RowSums, add_all

from workbench.attention._reading import CHUNK, check_length, read
from workbench.attention.maps import Maps
from workbench.attention.states import States
from workbench.attention.watching import Passing, watched
from workbench.errors import ArgumentError, ModelError
from workbench.jobs import Progress
from workbench.models import LM, as_lm

MASSES = (0.9, 0.95, 0.99)
SCORES = 1 << 21  # of a head that are held at once


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
    beyond
        Whether a text may be longer than what the model was trained on: positions that it has never seen, where heads
        may do what they do on no shorter text.
    """

    sinks: int = 4
    local: int = 64
    first: int = 64
    near: int = 4
    far: int = 50
    sample: int = 32
    cells: int = 256
    beyond: bool = False

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
    maps : Maps or None
        Any part of any map, where states were kept.
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
    maps: Maps | None = field(default=None, repr=False)

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
    states: bool = False,
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
    states
        Whether to keep queries and keys, in a file of 4 D (heads + key heads) bytes a token and layer, so that any
        part of any map can be had from `Captured.maps`. Close it when done.
    progress
        Hears after every layer of every chunk; cancels.

    Raises
    ------
    ArgumentError
        If the text is too short, or longer than the model takes (see `Settings`).
    ModelError
        If the model cannot read beyond what it was trained on.
    ResourceError
        If there is no room for the states.
    Cancelled
        If the job was cancelled; the model is as it was.
    """
    lm, settings, progress = as_lm(model), settings or Settings(), progress or Progress()
    tokens = np.asarray(ids, np.int64).reshape(-1)
    check_length(lm, tokens.size, settings.beyond)
    if chunk < 1:
        raise ArgumentError(f"chunk={chunk}: at least 1")
    kept = States(tokens.size, int(lm.module.config.num_hidden_layers)) if states else None
    counted = _Counts(lm, tokens.size, settings, progress, -(-tokens.size // chunk), kept)
    try:
        with torch.no_grad(), watched(lm, counted):
            read(lm, tokens, chunk)
        return counted.captured(tokens)
    except BaseException:
        if kept is not None:
            kept.close()
        raise


class _Counts:
    """An observer that adds up."""

    def __init__(
        self, lm: LM, length: int, settings: Settings, progress: Progress, chunks: int, states: States | None = None
    ) -> None:
        config = lm.module.config
        layers, heads = int(config.num_hidden_layers), int(config.num_attention_heads)
        self.length, self.settings, self.progress, self.chunks, self.done = length, settings, progress, chunks, 0
        self.states = states
        block = -(-length // settings.cells)
        options = {"sinks": settings.sinks, "local": settings.local, "near": settings.near, "far": settings.far}
        self.sums = [[RowSums(length, **options, block=block) for _ in range(heads)] for _ in range(layers)]
        self.needed, self.sampled, self.block = np.zeros((layers, heads, len(MASSES))), np.zeros((layers, heads)), block

    def __call__(self, passing: Passing) -> torch.Tensor:
        self.progress.check()
        keys, values = (padded(x) for x in (passing.key, passing.value))
        if self.states is not None:
            self.states.add(passing)
        sums, heads = self.sums[passing.layer], list[torch.Tensor]()
        if len(sums) != len(passing.query):
            raise ModelError(f"layer {passing.layer} has {len(passing.query)} heads, not {len(sums)} as others have")
        for start in range(0, len(sums), torch.get_num_threads()):  # as many scores at once as threads, no more
            some = range(start, min(start + torch.get_num_threads(), len(sums)))
            heads += self._heads(passing, some, keys, values)
        self.done += 1
        self.progress.step("reading", self.done, self.chunks * len(self.sums))
        return torch.stack(heads).to(passing.query.dtype)

    def _heads(self, passing: Passing, some: range, keys: torch.Tensor, values: torch.Tensor) -> Iterator[torch.Tensor]:
        """Outputs ``[T, D]`` of some heads; scores are made in strips that do not leave the caches."""
        sums, found = self.sums[passing.layer][some.start : some.stop], list[list[torch.Tensor]]()
        strip = max(16, SCORES // keys.shape[1])
        for start in range(0, passing.query.shape[1], strip):
            part = replace(passing, query=passing.query[:, start : start + strip])
            offset = passing.offset + start
            seen = offset + part.query.shape[1]
            seen += -seen % 16
            owners = [head // passing.group for head in some]
            scores = [part.products(head, keys[own, :seen]) for head, own in zip(some, owners, strict=True)]
            add_all(sums, [s.numpy() for s in scores], offset, passing.window)
            for head, shares in zip(some, scores, strict=True):
                self._needed(passing.layer, head, shares.numpy(), offset)
            found.append([shares @ values[own, :seen] for shares, own in zip(scores, owners, strict=True)])
        return (torch.cat(strips) for strips in zip(*found, strict=True))

    def _needed(self, layer: int, head: int, p: np.ndarray, offset: int) -> None:
        rows = range(-offset % self.settings.sample, len(p), self.settings.sample)
        chosen = [i for i in rows if i + offset >= min(self.settings.first, self.length - 1)]
        if chosen:  # numpy sorts 30 times as fast as torch
            mass = np.sort(p[chosen, : offset + len(p)], axis=1)[:, ::-1].cumsum(1, dtype=np.float64)
            for k, wanted in enumerate(MASSES):
                self.needed[layer, head, k] += float(((mass < wanted - 1e-6).sum(1) + 1).sum())
            self.sampled[layer, head] += len(chosen)

    def captured(self, ids: np.ndarray) -> Captured:
        """Sums to means."""
        n, settings, left = self.length, self.settings, np.arange(self.length, 0, -1, dtype=np.float32)
        reach = np.maximum(np.minimum(left - 1, settings.far) - settings.near + 1, 0)
        sides = np.minimum(np.arange(self.block, n + self.block, self.block), n)
        sides = np.diff(sides, prepend=0).astype(np.float32)

        def all_of(name: str, by: Any = None) -> np.ndarray:
            first = getattr(self.sums[0][0], name)
            found = np.empty((len(self.sums), len(self.sums[0]), *first.shape), np.float32)
            for at in np.ndindex(found.shape[:2]):
                sums = getattr(self.sums[at[0]][at[1]], name)
                found[at] = sums if by is None else np.divide(sums, by, out=np.zeros_like(sums), where=by > 0)
            return found

        picture = all_of("cells", sides[:, None] * sides)
        maps = None
        if self.states is not None:
            maps = Maps(self.states, all_of("logsumexp"), picture, self.block, settings.cells)
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
            picture=picture,
            block=self.block,
            maps=maps,
        )


def padded(states: torch.Tensor) -> torch.Tensor:
    """Float32 keys or values ``[Hkv, S, D]`` with zeros behind them up to a multiple of 16."""
    return torch.nn.functional.pad(states.float(), (0, 0, 0, -states.shape[1] % 16))
