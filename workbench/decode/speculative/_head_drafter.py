"""What Medusa and Hydra share at drafting: fields, acceptance, guesses, and how much of a draft pays."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from workbench.decode.acceptance import Rule, Typical
from workbench.decode.costs import VerifyCosts
from workbench.decode.run import Run
from workbench.decode.speculative._base import Drafter, Speculative
from workbench.decode.speculative._head_products import products
from workbench.decode.speculative._heads import Heads
from workbench.decode.speculative.gate import MARGIN, Gate, decline, table
from workbench.decode.speculative.prompt_lookup import Lookup
from workbench.decode.target import Forward
from workbench.decode.tree import DraftTree
from workbench.decode.verify import Verified
from workbench.errors import ArgumentError, ModelError, unknown

RANKS = 8  # guesses of a head that are looked at
DECAY = 0.95  # what a draft counts after another one
PRIOR = 4.0  # accepted tokens, as expected, that trust in the heads begins with
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
        Of a draft, at most. With the token before it they are a pass of 8, which costs little more than one of 1.
    tree
        ``"likely"``: at every step the nodes that the heads hold most likely; ``"static"``: always the same ranks, the
        best tree for the accuracies that were measured after training.
    acceptance
        ``"exact"``, or ``"typical"``, which is lossy: the text is not what the model would have said.
    epsilon, delta
        Of typical acceptance.
    same_base
        The model is a pruned or converted form of the one that the heads were trained for.
    lookup
        Where at least so many of the last tokens stand earlier in the text, what followed there is drafted, and the
        heads are not asked; 0: never.
    gate
        Whether drafts are cut to the nodes that pay, by the heads' chances and what passes cost, or left out.
    costs
        A `VerifyCosts` for the gate; None to measure them.
    """

    heads: Any = None
    nodes: int = 7
    tree: str = "likely"
    acceptance: str = "exact"
    epsilon: float = 0.09
    delta: float = 0.3
    same_base: bool = False
    lookup: int = 3
    gate: bool = True
    costs: Any = None

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise ArgumentError(f"nodes={self.nodes}: at least 1")
        if self.lookup < 0:
            raise ArgumentError(f"lookup={self.lookup}: a number of tokens, 0 for never")
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
    """Keeps the hidden state behind the newest token, scores states of heads, cuts drafts to what pays."""

    hidden: ClassVar[bool] = True

    def __init__(self, method: WithHeads, heads: Heads, run: Run) -> None:
        heads.check(run.target, method.same_base)
        self.method, self.heads, self.target, self.run = method, heads, run.target, run
        self.products = products(run.target, heads)
        self.state = np.empty((1, heads.size), np.float32)
        self.earlier = Lookup() if method.lookup else None
        self.gate = Gate(table(run, method.costs)) if method.gate else None
        self.trust = Trust()
        self._kind: Hashable | None = None
        self._values = np.empty(0)

    def begin(self, run: Run, forward: Forward) -> None:
        """Take the state after the prompt."""
        del run
        self.state = _hidden(forward)[-1:]

    @abstractmethod
    def draft(self, context: Sequence[int], most: int) -> tuple[DraftTree, np.ndarray]:
        """The heads' tree of at most so many nodes, and for each the chance that its path is right, falling."""

    def propose(self, context: Sequence[int], room: int) -> DraftTree:
        """What followed the same tokens before, or the part of the heads' tree that pays."""
        self._values = np.empty(0)
        again = self._again(context, room)
        if len(again):
            return again
        tree, values = self.draft(context, min(self.method.nodes, room))
        if self.gate is not None and len(tree):
            size, worth = self.trust.size(tree, values, self.gate.costs)
            tree, values = tree.first(size), values[:size]
            if not size:
                decline(self.run, 1 / worth)
        self._values = values
        return tree

    def _again(self, context: Sequence[int], room: int) -> DraftTree:
        """What followed an earlier occurrence of the text's end, if that is long and pays."""
        self._kind, most = None, min(room, self.method.nodes)
        if self.earlier is None or self.earlier.find(context)[0] < self.method.lookup:
            return DraftTree.of()
        if self.gate is not None:
            kind = self.earlier.kind(context)
            most = self.gate.size(kind, self.earlier.prior(kind), min(room, self.earlier.most))[0]
            self._kind = kind if most else None
        return self.earlier.propose(context, most) if most else DraftTree.of()

    def observe(self, verified: Verified) -> None:
        """Take the state after the last verified token, from which the newest one came; learn what drafts are worth."""
        self.state = _hidden(verified.forward)[verified.last_row][None]
        accepted = len(verified.verdict.path)
        self.trust.learn(self._values[: len(verified.tree)], accepted)
        if self.gate is not None:
            self.gate.heard(self._kind, len(verified.tree), accepted)

    def guesses(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest places in the vocabulary and their chances, likeliest first: ``[n, ranks]`` each."""
        logits = self.products.logits(states)
        found = torch.from_numpy(logits).topk(min(RANKS, self.method.nodes, logits.shape[1]), 1)
        values = found.values.numpy()
        total = np.exp(logits - values[:, :1]).sum(1, keepdims=True)
        return found.indices.numpy(), np.exp(values - values[:, :1]) / total


class Trust:
    """How many nodes of a draft to verify, if a node is accepted with the heads' chance times what that proved worth.

    n* = argmax_n  (1 + trust (value_1 + ... + value_n)) / v(1 + n),   none if that is at most 1.1
    """

    def __init__(self) -> None:
        self.accepted = self.expected = PRIOR

    def size(self, tree: DraftTree, values: np.ndarray, costs: VerifyCosts) -> tuple[int, float]:
        """That many, and what the best draft gains relative to its cost."""
        chain = np.cumprod(tree.parents == np.arange(-1, len(tree) - 1)).astype(bool)
        sizes = slice(2, 2 + len(tree))
        ratios = np.where(chain, costs.ratios[sizes], costs.tree_ratios[sizes])
        worth = (1 + self.accepted / self.expected * np.cumsum(values)) / ratios
        best = int(np.argmax(worth))
        return (best + 1 if worth[best] > MARGIN else 0), float(worth[best])

    def learn(self, values: np.ndarray, accepted: int) -> None:
        """Compare what a draft was expected to yield with what it did; both fade."""
        if len(values):
            self.accepted = DECAY * self.accepted + (1 - DECAY) * PRIOR + accepted
            self.expected = DECAY * self.expected + (1 - DECAY) * PRIOR + float(values.sum())


def _hidden(forward: Forward) -> np.ndarray:
    if forward.hidden is None:
        raise ModelError("the target gave no hidden states: heads draft from them")
    return forward.hidden
