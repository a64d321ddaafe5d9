"""Drafts: a tree of tokens that hang on the last token of the text; a chain is a tree without branches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from workbench.errors import ArgumentError

ROOT = -1


@dataclass(frozen=True, eq=False)
class DraftTree:
    """Drafted tokens; parents stand before their children, siblings in the order in which they are tried.

    Attributes
    ----------
    tokens : ndarray of int64 [N]
    parents : ndarray of int64 [N]
        Index of each node's parent, `ROOT` for the last token of the text.
    log_q : ndarray of float32 [N]
        Natural logarithm of the draft's probability of each token given its path; NaN where there is none.
    q : mapping of int to ndarray of float64 [V]
        The distribution that the children of a node were sampled from, by node; empty for drafts that were not
        sampled, which are verified as certain choices.

    Raises
    ------
    ArgumentError
        If a parent does not stand before its child, or lengths differ.
    """

    tokens: np.ndarray
    parents: np.ndarray
    log_q: np.ndarray
    q: Mapping[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.tokens) == len(self.parents) == len(self.log_q):
            raise ArgumentError(f"{len(self.tokens)} tokens, {len(self.parents)} parents: as many of each")
        if any(not ROOT <= p < n for n, p in enumerate(self.parents)):
            raise ArgumentError(f"parents={list(self.parents)}: each must be -1 or stand before its child")

    @classmethod
    def of(
        cls,
        tokens: Iterable[int] = (),
        parents: Iterable[int] | None = None,
        log_q: Iterable[float] | None = None,
        q: Mapping[int, np.ndarray] | None = None,
    ) -> DraftTree:
        """A tree of these nodes; without parents a chain, without anything an empty draft."""
        ids = np.asarray(list(tokens), np.int64)
        above = np.arange(-1, len(ids) - 1) if parents is None else np.asarray(list(parents), np.int64)
        chances = np.full(len(ids), np.nan, np.float32) if log_q is None else np.asarray(list(log_q), np.float32)
        return cls(ids, above, chances, q or {})

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def depth(self) -> np.ndarray:
        """Tokens between the text and each node, 0 for children of the text: int64 [N]."""
        found = np.zeros(len(self), np.int64)
        for n, p in enumerate(self.parents):
            found[n] = found[p] + 1 if p != ROOT else 0
        return found

    @cached_property
    def children(self) -> Mapping[int, tuple[int, ...]]:
        """Nodes below each node that has any, `ROOT` included, in the order in which they are tried."""
        found: dict[int, list[int]] = {}
        for n, p in enumerate(self.parents.tolist()):
            found.setdefault(p, []).append(n)
        return {p: tuple(nodes) for p, nodes in found.items()}

    def path(self, node: int) -> list[int]:
        """The nodes from the text down to a node, itself last; empty for `ROOT`."""
        found: list[int] = []
        while node != ROOT:
            found.append(node)
            node = int(self.parents[node])
        return found[::-1]

    def texts(self, node: int) -> list[int]:
        """The tokens of `path`."""
        return self.tokens[self.path(node)].tolist()

    def first(self, count: int) -> DraftTree:
        """The first ``count`` nodes; a tree again, because parents stand before their children."""
        if count >= len(self):
            return self
        kept = {n: q for n, q in self.q.items() if n < count}
        return DraftTree(self.tokens[:count], self.parents[:count], self.log_q[:count], kept)

    def select(self, nodes: Sequence[int]) -> DraftTree:
        """Only these nodes, in ascending order; with each its parent must be among them.

        Raises
        ------
        ArgumentError
            If a parent is missing.
        """
        kept = sorted(set(nodes))
        place = {ROOT: ROOT} | {n: k for k, n in enumerate(kept)}
        parents = [int(self.parents[n]) for n in kept]
        if any(p not in place for p in parents):
            raise ArgumentError(f"nodes={kept}: a node was chosen without its parent")
        q = {place[n]: v for n, v in self.q.items() if n in place}
        return DraftTree.of(self.tokens[kept], [place[p] for p in parents], self.log_q[kept], q)


def merge(trees: Sequence[DraftTree], most: int | None = None) -> DraftTree:
    """One tree of several (a trie): equal paths become one; those of earlier trees are tried first.

    Parameters
    ----------
    most
        Keep at most so many nodes, level by level.
    """
    tokens: list[int] = []
    parents: list[int] = []
    log_q: list[float] = []
    place: dict[tuple[int, int], int] = {}
    for tree in trees:
        mine: dict[int, int] = {ROOT: ROOT}
        for n, (token, parent) in enumerate(zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True)):
            key = mine[parent], token
            if key not in place:
                place[key] = len(tokens)
                tokens.append(token)
                parents.append(mine[parent])
                log_q.append(float(tree.log_q[n]))
            mine[n] = place[key]
    merged = DraftTree.of(tokens, parents, log_q)
    if most is None or len(merged) <= most:
        return merged
    order = np.argsort(merged.depth, kind="stable")
    return merged.select(order[:most].tolist())


def visible(parents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens of a tree see which, bool [T, T], each itself too; and depths int64 [T], 0 below the cache."""
    count = len(parents)
    seen, depth = np.eye(count, dtype=bool), np.zeros(count, np.int64)
    for n, p in enumerate(parents):
        if p >= 0:
            seen[n] |= seen[p]
            depth[n] = depth[p] + 1
    return seen, depth
