"""A Llama-shaped decoder whose forward pass is one compiled program.

    h = E[ids]
    per layer   h += W_o attention(rotate(W_qkv norm(h)))
                h += W_down (silu(W_gate norm(h)) * W_up norm(h))
    logits = W_head norm(h)

Weights come in any format that `_multiply.runs`. Keys and values are kept in float32; attention is grouped. The
logits of a token have the same bits whether it comes alone or among up to 64, and whatever the number of threads:
every sum is one chain in a fixed order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from workbench_kernels._decoder import move_rows
from workbench_kernels._errors import KernelError
from workbench_kernels._pass import MOST, NOTHING, Pass
from workbench_kernels._pool import check_threads
from workbench_kernels.formats import WeightFormat


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One decoder layer; vectors are float32, those that are missing are empty.

    Attributes
    ----------
    attention_norm, mlp_norm
        RMSNorm weights ``[H]``.
    qkv
        Query, key and value rows, one after the other: ``[(G + 2) heads D, H]``, G query heads per KV head.
    o
        ``[H, G heads D]``.
    gate_up
        Gate rows, then up rows: ``[2 I, H]``.
    down
        ``[H, I]``.
    heads
        KV heads.
    qkv_bias, o_bias, down_bias, q_norm, k_norm
        Of their outputs; the last two are RMSNorm weights ``[D]`` of each head (Qwen3).
    rotary
        Whether queries and keys are rotated.
    """

    attention_norm: np.ndarray
    qkv: WeightFormat
    o: WeightFormat
    mlp_norm: np.ndarray
    gate_up: WeightFormat
    down: WeightFormat
    heads: int
    qkv_bias: np.ndarray = field(default_factory=lambda: NOTHING)
    o_bias: np.ndarray = field(default_factory=lambda: NOTHING)
    down_bias: np.ndarray = field(default_factory=lambda: NOTHING)
    q_norm: np.ndarray = field(default_factory=lambda: NOTHING)
    k_norm: np.ndarray = field(default_factory=lambda: NOTHING)
    rotary: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """All that a decoder computes with.

    Attributes
    ----------
    embedding
        Float32 ``[V, H]``.
    layers
    norm
        Of the last hidden states ``[H]``.
    head
        ``[V, H]``.
    cosine, sine
        Float32 ``[positions, D]`` of the rotary embedding.
    head_dim, group
        D (a multiple of 32) and query heads per KV head.
    epsilon, scale
        Of RMSNorm, and of scores (usually 1 / sqrt(D)).
    window
        Keys that a token sees, itself included; 0 for all.
    """

    embedding: np.ndarray
    layers: tuple[Layer, ...]
    norm: np.ndarray
    head: WeightFormat
    cosine: np.ndarray
    sine: np.ndarray
    head_dim: int
    group: int
    epsilon: float
    scale: float
    window: int = 0

    @property
    def formats(self) -> list[WeightFormat]:
        """Every stored matrix, in order."""
        return [w for x in self.layers for w in (x.qkv, x.o, x.gate_up, x.down)] + [self.head]


class Decoder:
    """The runtime: weights, a cache of keys and values, and one program per number of tokens.

    Parameters
    ----------
    weights
    context
        Tokens that the cache has room for; at most the positions of the rotary tables.
    threads
        None for all cores.

    Raises
    ------
    KernelError
        If a size does not fit.
    """

    def __init__(self, weights: Weights, context: int, threads: int | None = None) -> None:
        if weights.head_dim % 32:
            raise KernelError(f"head_dim={weights.head_dim}: a multiple of 32")
        if not 1 <= context <= len(weights.cosine):
            raise KernelError(f"context={context}: 1 to {len(weights.cosine)} positions")
        check_layers(weights)
        self.weights, self.context, self.threads = weights, context, check_threads(threads)
        self.keys = -(-context // 16) * 16
        self._cache = [self._empty_cache(layer) for layer in weights.layers]
        self._state = np.zeros(8, np.int64)
        self._passes: dict[tuple[int, bool, bool], Pass] = {}
        self._hidden = np.empty((0, weights.embedding.shape[1]), np.float32)

    def _empty_cache(self, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
        size = layer.heads * self.keys * self.weights.head_dim
        return _lazy_zeros(size), _lazy_zeros(size)

    @property
    def position(self) -> int:
        """Tokens in the cache."""
        return int(self._state[0])

    def crop(self, length: int) -> None:
        """Forget all tokens but the first ``length``.

        Raises
        ------
        KernelError
            If there are not so many.
        """
        if not 0 <= length <= self.position:
            raise KernelError(f"length={length}: the cache holds {self.position} tokens")
        self._state[0] = length

    def forward(self, ids: np.ndarray, parents: np.ndarray | None = None, *, last: bool = False) -> np.ndarray:
        """Append tokens and return logits.

        Parameters
        ----------
        ids
            Int64 ``[T]``, T >= 1.
        parents
            Int64 ``[T]`` for a tree of at most `MOST` tokens: for each the index of the one before it, -1 for the last
            one in the cache. A token sees the cache, its ancestors and itself, and stands at their number. None for
            a chain.
        last
            Of the last token only.

        Returns
        -------
        ndarray
            Float32 ``[T, V]``, or ``[1, V]``; the caller's own.

        Raises
        ------
        KernelError
            If an id is none, parents are no tree, or the cache has no room; nothing is appended then.
        """
        ids = np.ascontiguousarray(ids, np.int64)
        if ids.ndim != 1 or not ids.size:
            raise KernelError(f"ids has shape {ids.shape}: a vector of at least one token")
        if ids.min() < 0 or ids.max() >= len(self.weights.embedding):
            most = len(self.weights.embedding) - 1
            raise KernelError(f"ids reach from {ids.min()} to {ids.max()}: tokens are 0 to {most}")
        if self.position + ids.size > self.context:
            raise KernelError(f"{ids.size} more tokens than {self.position}: there is room for {self.context}")
        if parents is not None:
            self._check_tree(ids, parents)
        logits, hidden = [], []
        for start in range(0, ids.size, MOST):
            part = ids[start : start + MOST]
            silent = last and start + MOST < ids.size
            made = self.prepared(part.size, last=last, tree=parents is not None)
            logits.append(made.run(part, parents, silent=silent))
            hidden.append(made.hidden())
        self._hidden = hidden[-1] if last else np.concatenate(hidden)
        return logits[-1] if last else np.concatenate(logits)

    def hidden(self) -> np.ndarray:
        """What the head multiplied for the logits that `forward` returned last: float32 ``[T, H]`` or ``[1, H]``."""
        return self._hidden

    def gather(self, start: int, rows: Sequence[int]) -> None:
        """Move the keys and values of tokens ``start + rows`` to ``start``, ``start + 1`` and so on.

        Parameters
        ----------
        start
            Position in the cache.
        rows
            Ascending.

        Raises
        ------
        KernelError
            If they do not ascend or are not in the cache.
        """
        index = np.asarray(list(rows), np.int64)
        if index.size and (np.any(np.diff(index) < 1) or index[0] < 0 or start + index[-1] >= self.position):
            raise KernelError(f"rows={index.tolist()}: ascending, below {self.position - start}")
        for layer, (k, v) in zip(self.weights.layers, self._cache, strict=True):
            move_rows(k, v, layer.heads, self.keys, self.weights.head_dim, start, index)

    def copied(self, start: int, stop: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Keys and values of the cached tokens from ``start`` to ``stop``: of every layer two ``[n, heads, D]``."""
        if not 0 <= start <= stop <= self.position:
            raise KernelError(f"tokens {start} to {stop}: the cache holds {self.position}")
        places = np.arange(start, stop)
        found = []
        for keys, values in map(self._views, self.weights.layers, self._cache):
            found.append((keys[:, places // 16, :, places % 16], values[:, start:stop].swapaxes(0, 1).copy()))
        return found

    def append(self, rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Put into the cache, behind what it holds, keys and values that `copied` returned of the same positions.

        Raises
        ------
        KernelError
            If there is no room; nothing is appended then.
        """
        start, count = self.position, len(rows[0][0])
        if start + count > self.context:
            raise KernelError(f"{count} more tokens than {start}: there is room for {self.context}")
        places = np.arange(start, start + count)
        for layer, cache, (k, v) in zip(self.weights.layers, self._cache, rows, strict=True):
            keys, values = self._views(layer, cache)
            keys[:, places // 16, :, places % 16] = k
            values[:, start : start + count] = v.swapaxes(0, 1)
        self._state[0] = start + count

    def _views(self, layer: Layer, cache: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Keys ``[heads, blocks, D, 16]`` and values ``[heads, positions, D]``."""
        dim = self.weights.head_dim
        return cache[0].reshape(layer.heads, -1, dim, 16), cache[1].reshape(layer.heads, self.keys, dim)

    def _check_tree(self, ids: np.ndarray, parents: np.ndarray) -> None:
        if ids.size > MOST:
            raise KernelError(f"a tree of {ids.size} tokens: at most {MOST}")
        if len(parents) != ids.size or any(not -1 <= p < n for n, p in enumerate(parents)):
            raise KernelError(f"parents={list(parents)}: one per token, -1 or an index before it")
        if self.weights.window and self.position + ids.size > self.weights.window:
            raise KernelError(f"trees on a model that sees {self.weights.window} tokens: only within those")

    def prepared(self, tokens: int, *, last: bool, tree: bool = False) -> Pass:
        """The program for a number of tokens, made when it is first asked for."""
        key = (tokens, last and tokens > 1, tree)
        if key not in self._passes:
            self._passes[key] = Pass(self.weights, self._cache, self._state, self.threads, tokens, last, tree)
        return self._passes[key]


def _lazy_zeros(size: int) -> np.ndarray:
    """Float32 zeros at a 64-byte boundary that take memory only once they are written."""
    raw = np.zeros(4 * size + 128, np.uint8)
    start = -raw.__array_interface__["data"][0] % 64
    return raw[start : start + 4 * size].view(np.float32)


def check_layers(weights: Weights) -> None:
    """Raise `KernelError` unless every matrix of every layer fits the others."""
    hidden = weights.embedding.shape[1]
    for n, layer in enumerate(weights.layers):
        attention = layer.heads * weights.group * weights.head_dim
        wanted = {
            "qkv": (attention + 2 * layer.heads * weights.head_dim, hidden),
            "o": (hidden, attention),
            "gate_up": (2 * layer.down.shape[1], hidden),
            "down": (hidden, layer.down.shape[1]),
        }
        for name, shape in wanted.items():
            if getattr(layer, name).shape != shape:
                raise KernelError(f"layer {n}: {name} is {getattr(layer, name).shape}, not {shape}")
