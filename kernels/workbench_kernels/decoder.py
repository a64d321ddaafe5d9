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

from dataclasses import dataclass, field

import numpy as np

from workbench_kernels import _attention_rows, _memory, _steps
from workbench_kernels._errors import KernelError
from workbench_kernels._multiply import Panel, add_multiply, add_pack, panel_for
from workbench_kernels._pool import check_threads
from workbench_kernels.formats import WeightFormat
from workbench_kernels.program import Program

MOST = 64  # tokens of one pass
NOTHING = np.empty(0, np.float32)


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
        self._passes: dict[tuple[int, bool], _Pass] = {}

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

    def forward(self, ids: np.ndarray, *, last: bool = False) -> np.ndarray:
        """Append tokens and return logits.

        Parameters
        ----------
        ids
            Int64 ``[T]``, T >= 1.
        last
            Of the last token only.

        Returns
        -------
        ndarray
            Float32 ``[T, V]``, or ``[1, V]``; the caller's own.

        Raises
        ------
        KernelError
            If an id is none, or the cache has no room; nothing is appended then.
        """
        ids = np.ascontiguousarray(ids, np.int64)
        if ids.ndim != 1 or not ids.size:
            raise KernelError(f"ids has shape {ids.shape}: a vector of at least one token")
        if ids.min() < 0 or ids.max() >= len(self.weights.embedding):
            most = len(self.weights.embedding) - 1
            raise KernelError(f"ids reach from {ids.min()} to {ids.max()}: tokens are 0 to {most}")
        if self.position + ids.size > self.context:
            raise KernelError(f"{ids.size} more tokens than {self.position}: there is room for {self.context}")
        logits = []
        for start in range(0, ids.size, MOST):
            part = ids[start : start + MOST]
            silent = last and start + MOST < ids.size
            logits.append(self.prepared(part.size, last=last).run(part, silent=silent))
        return logits[-1] if last else np.concatenate(logits)

    def prepared(self, tokens: int, *, last: bool) -> _Pass:
        """The program for a number of tokens, made when it is first asked for."""
        key = (tokens, last and tokens > 1)
        if key not in self._passes:
            self._passes[key] = _Pass(self, tokens, last)
        return self._passes[key]


class _Pass:
    """The forward pass of a fixed number of tokens."""

    def __init__(self, decoder: Decoder, tokens: int, last: bool) -> None:
        w = decoder.weights
        self.decoder, self.tokens = decoder, tokens
        self.program, self.state = Program(decoder.threads), decoder._state
        self.ids = np.zeros(tokens, np.int64)
        self._panels: dict[tuple[str, int, int, int], Panel] = {}
        hidden, heads = w.embedding.shape[1], max(x.heads for x in w.layers)
        widest = max(max(x.qkv.shape[0], x.gate_up.shape[0], x.o.shape[1], x.down.shape[1]) for x in w.layers)
        self.h, self.x, self.y, self.a, self.b = (
            _memory.zeros(tokens * n, np.float32) for n in (hidden, hidden, hidden, widest, widest)
        )
        self.q, self.out = (_memory.zeros(tokens * w.group * heads * w.head_dim, np.float32) for _ in range(2))
        self.first, self.last = (np.zeros(tokens * w.group, np.int64) for _ in range(2))
        self.s_row = _attention_rows.scratch(decoder.keys)
        self.scores = _memory.zeros(decoder.threads * _attention_rows.TILE_ROWS * self.s_row, np.float32)
        self.own = _memory.zeros(decoder.threads * 2 * w.head_dim, np.float32)
        self.epsilon = np.array([w.epsilon], np.float32)
        self.constants = np.array([w.scale, w.epsilon], np.float32)
        self.plain = np.ones_like(w.cosine), np.zeros_like(w.sine)
        self._build(hidden, last)

    def _build(self, hidden: int, last: bool) -> None:
        w, p, t = self.decoder.weights, self.program, self.tokens
        sizes = t, hidden, w.group, w.window
        p.add("embed", _steps.begin(), self.ids, w.embedding, self.h, self.first, self.last, self.state, *sizes)
        add, bias = NOTHING, NOTHING
        for layer, (k, v) in zip(w.layers, self.decoder._cache, strict=True):
            self._norm(add, bias, layer.attention_norm, hidden)
            self._multiply("qkv", layer.qkv, self.x, self.a)
            self._attention(layer, k, v)
            self._multiply("o", layer.o, self.b if t > 1 else self.out, self.y)
            self._norm(self.y, layer.o_bias, layer.mlp_norm, hidden)
            self._multiply("gate_up", layer.gate_up, self.x, self.a)
            p.add("gate", _steps.gate(), self.a, self.b, t, layer.down.shape[1])
            self._multiply("down", layer.down, self.b, self.y)
            add, bias = self.y, layer.down_bias
        self._norm(add, bias, w.norm, hidden)
        self.body = len(p.names)
        rows = 1 if last else t
        self.logits = _memory.zeros((rows, w.head.shape[0]), np.float32)
        self._multiply("head", w.head, self.x[(t - rows) * hidden :], self.logits.reshape(-1), rows)

    def _norm(self, y: np.ndarray, bias: np.ndarray, weight: np.ndarray, hidden: int) -> None:
        arrays = self.h, y, bias, weight, self.x, self.epsilon
        self.program.add("norm", _steps.norm(), *arrays, self.tokens, hidden)

    def _multiply(self, name: str, weight: WeightFormat, x: np.ndarray, y: np.ndarray, tokens: int = 0) -> None:
        tokens = tokens or self.tokens
        panel = panel_for(weight, tokens)
        key = panel.sees, panel.wide, panel.unit, panel.lanes.size
        panel = self._panels.setdefault(key, panel)
        add_pack(self.program, "pack", x, panel, tokens, weight.shape[1])
        add_multiply(self.program, name, weight, panel, y, weight.shape[0], tokens)

    def _attention(self, layer: Layer, k: np.ndarray, v: np.ndarray) -> None:
        w, t, keys = self.decoder.weights, self.tokens, self.decoder.keys
        cosine, sine = (w.cosine, w.sine) if layer.rotary else self.plain
        arrays = self.a, layer.qkv_bias, layer.q_norm, layer.k_norm, cosine, sine, self.q, k, v
        sizes = t, layer.qkv.shape[0], w.group, layer.heads, keys
        rest = self.state, self.constants, self.own
        self.program.add("rotate", _steps.rotate(w.head_dim), *arrays, *rest, *sizes)
        rows = self.q, k, v, self.scores, self.out, self.first, self.last
        self.program.add("attend", _steps.attend(w.head_dim), *rows, t * w.group, layer.heads, keys, self.s_row)
        if t > 1:
            self.program.add("merge", _steps.merge(w.head_dim), self.out, self.b, t, w.group, layer.heads)

    def run(self, ids: np.ndarray, *, silent: bool = False) -> np.ndarray:
        """Run all steps for these tokens, or all but the head, and move the position on."""
        self.ids[:] = ids
        self.program.run(self.body if silent else None)
        self.state[0] += self.tokens
        return self.logits.copy()


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
