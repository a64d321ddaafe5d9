"""What Medusa and Hydra share at drafting: fields, acceptance, and guesses over the heads' vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
from workbench_kernels.formats import Dense
from workbench_kernels.matmul import matmul

from workbench.decode.acceptance import Rule, Typical
from workbench.decode.run import Run
from workbench.decode.speculative._base import Drafter, Speculative
from workbench.decode.speculative._heads import Heads
from workbench.decode.target import CompiledTarget, Forward, Target, TransformersTarget
from workbench.decode.verify import Verified
from workbench.errors import ArgumentError, ModelError, unknown

RANKS = 8  # guesses of a head that are looked at
TREES = ("likely", "static")
ACCEPTANCE = ("exact", "typical")


@dataclass(frozen=True)
class WithHeads(Speculative):
    """Base of the methods with drafting heads.

    Attributes
    ----------
    heads
        None for those that come with the workbench, which fit the default model; a file; or what
        `workbench.decode.train_heads` returned.
    nodes
        Of a draft. With the token before it they are a pass of 8, which costs little more than one of 1.
    tree
        ``"likely"``: at every step the nodes that the heads hold most likely; ``"static"``: always the same ranks, the
        best tree for the accuracies that were measured after training.
    acceptance
        ``"exact"``, or ``"typical"``, which is lossy: the text is not what the model would have said.
    epsilon, delta
        Of typical acceptance.
    same_base
        The model is a pruned or converted form of the one that the heads were trained for.
    """

    heads: Any = None
    nodes: int = 7
    tree: str = "likely"
    acceptance: str = "exact"
    epsilon: float = 0.09
    delta: float = 0.3
    same_base: bool = False

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise ArgumentError(f"nodes={self.nodes}: at least 1")
        if self.tree not in TREES:
            raise unknown("tree", self.tree, TREES)
        if self.acceptance not in ACCEPTANCE:
            raise unknown("acceptance", self.acceptance, ACCEPTANCE)
        if not (0 < self.epsilon <= 1 and 0 < self.delta <= 1):
            raise ArgumentError(f"epsilon={self.epsilon}, delta={self.delta}: above 0, at most 1")

    def rule(self, run: Run, sampled: bool) -> Rule:
        """The exact rule, or the paper's."""
        return Typical(self.epsilon, self.delta) if self.acceptance == "typical" else super().rule(run, sampled)


class HeadDrafter(Drafter):
    """Keeps the hidden state behind the newest token, and scores states of heads."""

    hidden: ClassVar[bool] = True

    def __init__(self, method: WithHeads, heads: Heads, target: Target) -> None:
        heads.check(target, method.same_base)
        self.method, self.heads, self.target = method, heads, target
        self.head = _head(target, heads)
        self.state = np.empty((1, heads.size), np.float32)

    def begin(self, run: Run, forward: Forward) -> None:
        """Take the state after the prompt."""
        del run
        self.state = _hidden(forward)[-1:]

    def observe(self, verified: Verified) -> None:
        """Take the state after the last verified token, from which the newest one came."""
        self.state = _hidden(verified.forward)[verified.last_row][None]

    def guesses(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest places in the vocabulary and their chances, likeliest first: ``[n, ranks]`` each."""
        logits = matmul(self.head, np.ascontiguousarray(states, np.float32))
        ranks = min(RANKS, self.method.nodes, logits.shape[1])
        best = np.argpartition(-logits, ranks - 1, axis=1)[:, :ranks]
        values = np.take_along_axis(logits, best, 1)
        order = np.argsort(-values, axis=1, kind="stable")
        values, best = np.take_along_axis(values, order, 1), np.take_along_axis(best, order, 1)
        total = np.exp(logits - values[:, :1]).sum(1, keepdims=True)
        return best, np.exp(values - values[:, :1]) / total


def _hidden(forward: Forward) -> np.ndarray:
    if forward.hidden is None:
        raise ModelError("the target gave no hidden states: heads draft from them")
    return forward.hidden


_made: WeakKeyDictionary[Any, list[tuple[np.ndarray, Dense]]] = WeakKeyDictionary()


def _head(target: Target, heads: Heads) -> Dense:
    """The output head's rows of the heads' vocabulary in bfloat16, made once per model."""
    owner = target.compiled if isinstance(target, CompiledTarget) else getattr(target, "module", target)
    known = _made.setdefault(owner, [])
    for vocabulary, made in known:
        if vocabulary is heads.vocabulary:
            return made
    made = Dense.from_dense(np.ascontiguousarray(_rows(target, heads.vocabulary), np.float32), "bf16")
    known[:] = [*known[-3:], (heads.vocabulary, made)]
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
