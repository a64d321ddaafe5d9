"""OPT-Tree: the draft tree with the largest expected number of accepted tokens, as large as measured costs favour.

Jikai Wang, Yi Su, Juntao Li, Qingrong Xia, Zi Ye, Xinyu Duan, Zhefeng Wang, Min Zhang. OPT-Tree: Speculative Decoding
with Adaptive Draft Tree Structure. 2024. arXiv 2406.17276.

    P(node) = product of q along its path               E[accepted] of a tree = sum of P over its nodes
    tree of n nodes = the n nodes with the largest P    (a tree: P only falls along a path)
    n* = argmax_n  (1 + r E[accept(n)]) / v(1 + n)

Departs from the paper: n is not fixed (50 there) but chosen in every step by the measured costs v, with r, what drafts
yielded so far of what they promised; a step whose best tree does not pay is a plain one. Without a draft model q is a
mixture of three tables that cost nothing: prompt lookup, Token Recycling's successors and STAND's n-grams. With one,
levels are drafted while the last one added more expected tokens than a pass of the draft model costs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import decoder
from workbench.decode.claims import TokensPerForward
from workbench.decode.costs import costs_of
from workbench.decode.run import Run
from workbench.decode.speculative._base import Drafter, Speculative, softmax
from workbench.decode.speculative._draft import Follower
from workbench.decode.speculative._mixture import Mixture
from workbench.decode.speculative._top import top_tokens
from workbench.decode.speculative.gate import WEIGHT, Gate, TreeYield, decline, table
from workbench.decode.target import Forward
from workbench.decode.tree import ROOT, DraftTree
from workbench.decode.verify import Verified
from workbench.errors import ArgumentError

Children = Callable[[int, Sequence[int]], Sequence[tuple[int, float]]]


@decoder
@dataclass(frozen=True)
class OptTree(Speculative):
    """Drafts the tree that is expected to pay most.

    Attributes
    ----------
    draft
        A draft model of the same vocabulary; None for the tables.
    nodes
        Of the tree, at most.
    depth
        Levels, at most.
    gate
        Whether the size follows the measured costs; else trees have as many nodes as they may.
    costs
        A `VerifyCosts`; None to measure them.
    """

    name: ClassVar[str] = "opt-tree"
    title: ClassVar[str] = "OPT-Tree"
    formula: ClassVar[str] = "n nodes with the largest path probabilities, n = argmax (1 + E[accept(n)]) / v(1 + n)"
    citation: ClassVar[Citation] = Citation(
        "Jikai Wang, Yi Su, Juntao Li, Qingrong Xia, Zi Ye, Xinyu Duan, Zhefeng Wang, Min Zhang",
        "OPT-Tree: Speculative Decoding with Adaptive Draft Tree Structure",
        2024,
        "2406.17276",
    )
    claim: ClassVar[Claim] = Claim(
        "Trees that are chosen anew in every step yield more tokens per pass than a static tree of as many nodes.",
        "More accepted per pass than with the static trees of EAGLE and Sequoia of equal size; Llama-2 and Vicuna, "
        "7 to 70 billion parameters, MT-Bench and GSM8K, greedy.",
        TokensPerForward(
            at_least=1.0, than="token-recycling", parameters={"gate": False}, than_parameters={"gate": False}
        ),
    )

    draft: Any = None
    nodes: int = 15
    depth: int = 12
    gate: bool = True
    costs: Any = None

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= 63 or self.depth < 1:
            raise ArgumentError(f"nodes={self.nodes}, depth={self.depth}: 1 to 63 nodes, a depth of at least 1")

    def drafter(self, run: Run) -> Drafter:
        """A drafter over the tables or the draft model."""
        gate = Gate(table(run, self.costs)) if self.gate else None
        if self.draft is None:
            return TableTrees(self, run, gate)
        return ModelTrees(self, run, gate, Follower(run, self.draft))


@dataclass(slots=True)
class PathYield(TreeYield):
    """Trees whose nodes say in every step how likely they are; learned is only how far that can be trusted."""

    def gains(self, most: int) -> np.ndarray:
        """Sums of the chances, times accepted / expected."""
        return np.cumsum(self.chances[:most]) * (self.accepted + WEIGHT) / (self.expected + WEIGHT)


class Trees(Drafter):
    """Base: cuts a tree, whose nodes come in falling order of their chances, to the size that pays."""

    def __init__(self, method: OptTree, run: Run, gate: Gate | None) -> None:
        self.method, self.run, self.gate = method, run, gate
        self._yield = PathYield(())
        self._drafted = False

    def cut(self, tree: DraftTree) -> DraftTree:
        """The first n* nodes; none if that does not pay."""
        self._drafted = False
        if not len(tree) or self.gate is None:
            return tree
        self._yield.chances = np.exp(tree.log_q).tolist()
        size, value = self.gate.size("tree", self._yield, len(tree))
        if not size:
            decline(self.run, value)
        self._drafted = size > 0
        return tree.first(size)

    def observe(self, verified: Verified) -> None:
        """Learn how far the chances can be trusted."""
        if self.gate is not None:
            kind = "tree" if self._drafted else None
            self.gate.heard(kind, len(verified.tree), len(verified.verdict.path))


class TableTrees(Trees):
    """Over a mixture of tables."""

    def __init__(self, method: OptTree, run: Run, gate: Gate | None) -> None:
        super().__init__(method, run, gate)
        self.mixture = Mixture(run)

    def begin(self, run: Run, forward: Forward) -> None:
        """Teach the tables."""
        del run
        self.mixture.begin(forward)

    def propose(self, context: Sequence[int], room: int) -> DraftTree:
        """The best tree over the mixture."""
        children = self.mixture.children(context)
        return self.cut(best_tree(children, min(room, self.method.nodes), self.method.depth))

    def observe(self, verified: Verified) -> None:
        """Teach the tables."""
        super().observe(verified)
        self.mixture.observe(verified)


class ModelTrees(Trees):
    """Over a draft model, level by level."""

    def __init__(self, method: OptTree, run: Run, gate: Gate | None, follower: Follower) -> None:
        super().__init__(method, run, gate)
        self.follower, self.least = follower, 0.0
        if gate is not None:
            with run.trace.aside():
                self.least = costs_of(follower.target).seconds[0] / gate.costs.seconds[0]

    def propose(self, context: Sequence[int], room: int) -> DraftTree:
        """Expand the n best nodes of every level, while that adds enough."""
        most = min(room, self.method.nodes, self.follower.room(context))
        if most < 1:
            return DraftTree.of()
        tokens: list[int] = []
        parents: list[int] = []
        paths: list[float] = []
        level, before = [ROOT], 0.0
        logits = self.follower.follow(context)[None]
        for _ in range(self.method.depth):
            found = _expand(logits, level, [0.0 if n == ROOT else paths[n] for n in level], most)
            level = list(range(len(tokens), len(tokens) + len(found)))
            for parent, token, path in found:
                tokens.append(token)
                parents.append(parent)
                paths.append(path)
            promised = float(np.sort(np.exp(paths))[-most:].sum())
            if promised - before <= self.least or self.follower.room(context) < len(tokens) or len(tokens) > 48:
                break
            before = promised
            logits = self.follower.hang(tokens, parents)[level]
        return self.cut(_largest(tokens, parents, paths, most))


def _expand(
    logits: np.ndarray, level: Sequence[int], paths: Sequence[float], most: int
) -> list[tuple[int, int, float]]:
    """The likeliest nodes below a level: parent, token, log of the path's probability."""
    log_q = np.log(softmax(logits))
    tokens = top_tokens(log_q, min(most, log_q.shape[1]))
    found = [
        (parent, int(t), paths[k] + float(log_q[k, t])) for k, parent in enumerate(level) for t in tokens[k]
    ]  # fmt: skip
    return sorted(found, key=lambda node: -node[2])[:most]


def _largest(tokens: Sequence[int], parents: Sequence[int], paths: Sequence[float], most: int) -> DraftTree:
    """The nodes with the largest probabilities, in falling order; of equals the one drafted first."""
    order = sorted(range(len(tokens)), key=lambda n: (-paths[n], n))[:most]
    place = {ROOT: ROOT} | {n: k for k, n in enumerate(order)}
    return DraftTree.of([tokens[n] for n in order], [place[parents[n]] for n in order], [paths[n] for n in order])


def best_tree(children: Children, most: int, depth: int = 63) -> DraftTree:
    """The tree of at most so many nodes with the largest expected number of accepted tokens.

    Nodes are taken by falling probability of their path, which gives the best tree of every smaller size on the way:
    `DraftTree.first` cuts to it.

    Parameters
    ----------
    children
        ``children(node, path)`` are the tokens below a node with their probabilities given the path of tokens to it,
        together at most 1.
    """
    tokens: list[int] = []
    parents: list[int] = []
    logs: list[float] = []
    heap: list[tuple[float, int, int, int, tuple[int, ...]]] = []
    count, node, above = 0, ROOT, 1.0
    path: tuple[int, ...] = ()
    while len(tokens) < most:
        if len(path) < depth:
            for token, chance in children(node, path):
                if chance > 0:
                    count += 1
                    heapq.heappush(heap, (-above * chance, count, token, node, path))
        if not heap:
            break
        chance, _, token, parent, path = heapq.heappop(heap)
        node, above, path = len(tokens), -chance, (*path, token)
        tokens.append(token)
        parents.append(parent)
        logs.append(float(np.log(above)))
    return DraftTree.of(tokens, parents, logs)
