"""The forward pass of a fixed number of tokens as a program: which steps, over which arrays.

A chain's tokens each see all before them; a tree's see the cache, their ancestors and themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench_kernels import _attention_rows, _memory, _steps
from workbench_kernels._multiply import Panel, add_multiply, add_pack, panel_for
from workbench_kernels.formats import WeightFormat
from workbench_kernels.program import Program

if TYPE_CHECKING:
    from workbench_kernels.decoder import Layer, Weights

MOST = 64  # tokens of one pass: a row of `seen` is one word
NOTHING = np.empty(0, np.float32)


class Pass:
    """The forward pass of a fixed number of tokens.

    Parameters
    ----------
    weights, cache, state, threads
        Of the decoder; ``state[0]`` is its position.
    tokens, last, tree
        How many; whether only the last one's logits are wanted; whether they may be a tree.
    """

    def __init__(
        self,
        weights: Weights,
        cache: Sequence[tuple[np.ndarray, np.ndarray]],
        state: np.ndarray,
        threads: int,
        tokens: int,
        last: bool,
        tree: bool,
    ) -> None:
        w = weights
        self.weights, self.cache, self.tokens, self.tree = weights, cache, tokens, tree
        self.keys = cache[0][1].size // (w.layers[0].heads * w.head_dim)
        self.program, self.state = Program(threads), state
        self.ids, self.depth = np.zeros(tokens, np.int64), np.arange(tokens)
        self.seen = np.zeros(tokens, np.uint64)
        self._panels: dict[tuple[str, int, int, int], Panel] = {}
        hidden, heads = w.embedding.shape[1], max(x.heads for x in w.layers)
        widest = max(max(x.qkv.shape[0], x.gate_up.shape[0], x.o.shape[1], x.down.shape[1]) for x in w.layers)
        self.h, self.x, self.y, self.a, self.b = (
            _memory.zeros(tokens * n, np.float32) for n in (hidden, hidden, hidden, widest, widest)
        )
        self.q, self.out = (_memory.zeros(tokens * w.group * heads * w.head_dim, np.float32) for _ in range(2))
        self.first, self.last = (np.zeros(tokens * w.group, np.int64) for _ in range(2))
        self.s_row = _attention_rows.scratch(self.keys)
        self.scores = _memory.zeros(threads * _attention_rows.TILE_ROWS * self.s_row, np.float32)
        self.own = _memory.zeros(threads * 2 * w.head_dim, np.float32)
        self.epsilon = np.array([w.epsilon], np.float32)
        self.constants = np.array([w.scale, w.epsilon], np.float32)
        self.plain = np.ones_like(w.cosine), np.zeros_like(w.sine)
        self._build(hidden, last)

    def _build(self, hidden: int, last: bool) -> None:
        w, p, t = self.weights, self.program, self.tokens
        sizes = t, hidden, w.group, w.window
        p.add("embed", _steps.begin(), self.ids, w.embedding, self.h, self.first, self.last, self.state, *sizes)
        add, bias = NOTHING, NOTHING
        for layer, (k, v) in zip(w.layers, self.cache, strict=True):
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
        w, t, keys = self.weights, self.tokens, self.keys
        cosine, sine = (w.cosine, w.sine) if layer.rotary else self.plain
        arrays = self.a, layer.qkv_bias, layer.q_norm, layer.k_norm, cosine, sine, self.q, k, v
        sizes = t, layer.qkv.shape[0], w.group, layer.heads, keys
        rest = self.state, self.constants, self.own, self.depth
        self.program.add("rotate", _steps.rotate(w.head_dim), *arrays, *rest, *sizes)
        rows = self.q, k, v, self.scores, self.out, self.first, self.last
        counts = t * w.group, layer.heads, keys, self.s_row
        if self.tree:
            more = *counts, w.group, self.seen, self.state
            self.program.add("attend", _steps.attend_tree(w.head_dim), *rows, *more)
        else:
            self.program.add("attend", _steps.attend(w.head_dim), *rows, *counts)
        if t > 1:
            self.program.add("merge", _steps.merge(w.head_dim), self.out, self.b, t, w.group, layer.heads)

    def run(self, ids: np.ndarray, parents: np.ndarray | None = None, *, silent: bool = False) -> np.ndarray:
        """Run all steps for these tokens, or all but the head, and move the position on."""
        self.ids[:] = ids
        if parents is not None:
            for n, p in enumerate(parents.tolist()):
                own = np.uint64(1 << n)
                self.seen[n], self.depth[n] = (self.seen[p] | own, self.depth[p] + 1) if p >= 0 else (own, 0)
        self.program.run(self.body if silent else None)
        self.state[0] += self.tokens
        return self.logits.copy()

    def hidden(self) -> np.ndarray:
        """What the head multiplied, or would have: float32 ``[rows, H]``."""
        rows = len(self.logits)
        return self.x[: self.tokens * self.weights.embedding.shape[1]].reshape(self.tokens, -1)[-rows:].copy()
