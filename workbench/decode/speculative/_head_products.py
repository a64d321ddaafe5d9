"""The products that drafting with heads takes, each matrix read once a level, in few bits: only drafts depend on them.

    a_k = W_k [h; e(x_1)] + b_k         for all heads at once, before the first level
    a_k = a_k + W_(k,j) e(x_j)          for all heads behind a guess x_j at once, j = 2..k (Hydra)
    state = h + U_k SiLU(a_k),   logits = E state

W and U are in bfloat16, the rows of the output head E in int8.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from workbench_kernels.formats import Dense
from workbench_kernels.matmul import matmul

from workbench.decode.speculative._heads import Heads
from workbench.decode.target import CompiledTarget, Target, TransformersTarget
from workbench.errors import ModelError


class Products:
    """Heads of a model, encoded.

    Attributes
    ----------
    first
        ``[K H, inputs]``: of every W the columns for h, and for Hydra those for the newest token.
    later
        For guesses x_2, x_3, ...: of every W behind it the columns for its embedding.
    out
        Every U.
    head
        E, ``[vocabulary, H]``.
    """

    def __init__(self, heads: Heads, rows: np.ndarray) -> None:
        size, self.count = heads.size, len(heads)
        known = 2 * size if heads.kind == "hydra" else size
        W = [block[0] for block in heads.blocks]
        self.bias = np.concatenate([block[1] for block in heads.blocks]).astype(np.float32)
        self.first = _encoded([w[:, :known] for w in W])
        self.later = [_encoded([w[:, n : n + size] for w in W[j:]]) for j, n in _columns(heads, known)]
        self.out = [_encoded([block[2]]) for block in heads.blocks]
        self.head = Dense.from_dense(np.ascontiguousarray(rows, np.float32), "int8")

    def begin(self, inputs: np.ndarray) -> np.ndarray:
        """What all heads add up before the first guess: float32 ``[1, K, H]`` from ``[1, inputs]``."""
        found = matmul(self.first, np.ascontiguousarray(inputs, np.float32), bias=self.bias)
        return found.reshape(1, self.count, -1)

    def follow(self, before: np.ndarray, guesses: np.ndarray) -> np.ndarray:
        """What the heads behind guesses add up: ``[n, heads left, H]``, from that above them and their embeddings."""
        added = matmul(self.later[self.count - before.shape[1]], np.ascontiguousarray(guesses, np.float32))
        return before[:, 1:] + added.reshape(len(guesses), before.shape[1] - 1, -1)

    def states(self, head: int, hidden: np.ndarray, a: np.ndarray) -> np.ndarray:
        """``h + U SiLU(a)`` of a head, for every row of a."""
        added: np.ndarray = matmul(self.out[head], np.ascontiguousarray(a / (1 + np.exp(-a))))
        return hidden + added

    def logits(self, states: np.ndarray) -> np.ndarray:
        """Over the heads' vocabulary."""
        return matmul(self.head, np.ascontiguousarray(states, np.float32))


def _columns(heads: Heads, known: int) -> list[tuple[int, int]]:
    """For every guess that heads look at: the first of those heads, and the first of its columns."""
    return [(j, known + (j - 1) * heads.size) for j in range(1, len(heads))] if heads.kind == "hydra" else []


def _encoded(parts: list[np.ndarray]) -> Dense:
    return Dense.from_dense(np.ascontiguousarray(np.concatenate(parts), np.float32), "bf16")


_made: WeakKeyDictionary[Any, list[tuple[Heads, Products]]] = WeakKeyDictionary()


def products(target: Target, heads: Heads) -> Products:
    """Those of a target, made once per model and heads."""
    owner = target.compiled if isinstance(target, CompiledTarget) else getattr(target, "module", target)
    known = _made.setdefault(owner, [])
    for made_for, made in known:
        if made_for is heads:
            return made
    made = Products(heads, _rows(target, heads.vocabulary))
    known[:] = [*known[-3:], (heads, made)]
    return made


def _rows(target: Target, tokens: np.ndarray) -> np.ndarray:
    if isinstance(target, CompiledTarget):
        return target.compiled.decoder.weights.head.to_dense()[tokens]
    if isinstance(target, TransformersTarget):
        return _taken(target.module.get_output_embeddings().weight, tokens)
    raise ModelError(f"heads know transformers models and compiled ones, not a {type(target).__name__}")


def embeddings(target: Target, tokens: np.ndarray) -> np.ndarray:
    """The model's embeddings of tokens, float32 ``[n, H]``."""
    if isinstance(target, CompiledTarget):
        return target.compiled.decoder.weights.embedding[tokens]
    if isinstance(target, TransformersTarget):
        return _taken(target.module.get_input_embeddings().weight, tokens)
    raise ModelError(f"heads know transformers models and compiled ones, not a {type(target).__name__}")


def _taken(weight: Any, tokens: np.ndarray) -> np.ndarray:
    rows: np.ndarray = weight.detach()[np.asarray(tokens, np.int64)].float().cpu().numpy()
    return rows
