"""Draft models: where they come from, their cache beside the target's, and the chains and trees that they draft.

    draft model --Follower--> logits after the text --Chain or Levels--> DraftTree with q where there are children

A draft model costs a pass per token of a chain, and a pass per level of a tree: below the text all nodes so far go
through it anew, which is simple, and hardly dearer than the newest level alone.

When drafting stops may depend on what was drafted so far, never on the token that comes next: then every drafted token
has the distribution q that the rules of acceptance count on. A token that was drawn is therefore never taken back.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.decode.run import BLOCK, Run
from workbench.decode.speculative._base import Drafter, Speculative, softmax
from workbench.decode.speculative._own_draft import own_draft
from workbench.decode.target import CompiledTarget, Target, as_target
from workbench.decode.tree import ROOT, DraftTree
from workbench.errors import ArgumentError
from workbench.execute.compiled import Compiled


@dataclass(frozen=True)
class Drafted(Speculative):
    """Base of the methods with a draft model.

    Attributes
    ----------
    draft
        The draft model: anything that `generate` takes as a model, with the target's vocabulary. None for a copy of
        the target itself, rounded to int8 (see `own_draft`).
    """

    draft: Any = None

    def follower(self, run: Run) -> Follower:
        """The draft model beside a run's text."""
        return Follower(run, self.draft)


class Follower:
    """A draft model whose cache follows the text of a run.

    Parameters
    ----------
    run
    draft
        The model; None for `own_draft`.

    Raises
    ------
    ArgumentError
        If it has another vocabulary, or shares the target's cache.
    """

    def __init__(self, run: Run, draft: Any = None) -> None:
        draft = own_draft(run.target) if draft is None else draft
        if _cache_of(draft) is _cache_of(run.target):
            raise ArgumentError(
                "draft and model share one cache: give the draft one of its own, by workbench.compile(...) again"
            )
        self.run, self.target = run, as_target(draft)
        _check_vocabulary(self.target, run.target)
        self._held: list[int] = []

    def room(self, context: Sequence[int]) -> int:
        """Tokens behind the text that the cache has room for."""
        return self.target.context - len(context)

    def follow(self, context: Sequence[int]) -> np.ndarray:
        """Catch up with the text, forget what is not in it; logits ``[V]`` after its last token."""
        most = min(len(self._held), len(context) - 1)
        same = next((n for n in range(most) if self._held[n] != context[n]), most)
        self.target.crop(same)
        self._held = self._held[:same]
        for start in range(same, len(context), BLOCK):
            part = list(context[start : start + BLOCK])
            logits = self._forward(part, last=True)
            self._held += part
        return logits[-1]

    def append(self, token: int) -> np.ndarray:
        """Add a token of a chain; logits ``[V]`` after it."""
        self._held.append(token)
        return self._forward([token])[-1]

    def hang(self, tokens: Sequence[int], parents: Sequence[int]) -> np.ndarray:
        """Hang a tree on the text in place of what hung there; logits ``[N, V]``."""
        self.target.crop(len(self._held))
        return self._forward(tokens, parents)

    def _forward(self, ids: Sequence[int], parents: Sequence[int] | None = None, *, last: bool = False) -> np.ndarray:
        self.run.progress.check()
        self.run.trace.draft_forwards += 1
        return self.target.forward(ids, parents, last=last).logits


class Chain(Drafter):
    """A chain, token by token; drawn from q, or the most likely tokens where the run takes those.

    Parameters
    ----------
    run
    follower
    tokens
        At most so many.
    confidence
        A token with a smaller probability is the last one.
    """

    def __init__(self, run: Run, follower: Follower, tokens: int, confidence: float) -> None:
        self.run, self.follower, self.tokens, self.confidence = run, follower, tokens, confidence

    def propose(self, context: Sequence[int], room: int) -> DraftTree:
        """Draft until there are enough, or the draft is unsure."""
        sampler, most = self.run.sampler, min(self.tokens, room, self.follower.room(context))
        if most < 1:
            return DraftTree.of()
        tokens: list[int] = []
        log_q: list[float] = []
        q: dict[int, np.ndarray] = {}
        logits = self.follower.follow(context)
        while True:
            chances = softmax(logits) if sampler.greedy else sampler.probabilities(logits)
            if not sampler.greedy:
                q[len(tokens) - 1] = chances  # of the children of the node before, which is ROOT at first
            token = sampler.choose(logits, self.run.random)
            tokens.append(token)
            log_q.append(float(np.log(chances[token])))
            if len(tokens) == most or chances[token] < self.confidence:
                return DraftTree.of(tokens, log_q=log_q, q=q)
            logits = self.follower.append(token)


@dataclass(slots=True, eq=False)
class Node:
    """A node of a tree that grows level by level.

    Attributes
    ----------
    index, parent, token
        ``index`` is that in the tree; that of the text's last token is `ROOT`.
    path
        Sum of log q from the text down.
    score
        A method's own.
    q : ndarray of float64 [V]
        Of its children, once it is known.
    """

    parent: int = ROOT
    token: int = -1
    log_q: float = 0.0
    path: float = 0.0
    score: float = 0.0
    index: int = ROOT
    q: np.ndarray | None = None

    @property
    def chances(self) -> np.ndarray:
        """``q``, which must be known."""
        if self.q is None:
            raise ArgumentError(f"node {self.index} has not been through the draft model yet")
        return self.q

    def child(self, token: int, log_q: float, score: float = 0.0) -> Node:
        """A node below."""
        return Node(self.index, token, log_q, self.path + log_q, score)


class Levels(Drafter):
    """A tree, level by level, one pass of the draft model each.

    Parameters
    ----------
    run
    follower
    depth
        Levels, at most.
    """

    def __init__(self, run: Run, follower: Follower, depth: int) -> None:
        self.run, self.follower, self.depth = run, follower, depth

    @abstractmethod
    def expand(self, depth: int, level: Sequence[Node]) -> list[Node]:
        """The nodes below a level, whose ``q`` are known, in the order in which they are tried."""

    def enough(self, level: Sequence[Node]) -> bool:
        """Whether to stop below this level; may depend on the tree down to it."""
        del level
        return False

    def propose(self, context: Sequence[int], room: int) -> DraftTree:
        """Grow until it is deep enough or there is no room."""
        most = min(room, self.follower.room(context))
        if most < 1:
            return DraftTree.of()
        nodes: list[Node] = []
        level = [Node(q=self._chances(self.follower.follow(context)))]
        q: dict[int, np.ndarray] = {}
        for depth in range(self.depth):
            below = self.expand(depth, level)[: most - len(nodes)]
            above = {node.index: node.chances for node in level}
            for index, node in enumerate(below, len(nodes)):
                node.index = index
                q[node.parent] = above[node.parent]
            nodes += below
            if depth + 1 == self.depth or len(nodes) >= most or not below or self.enough(below):
                break
            logits = self.follower.hang([n.token for n in nodes], [n.parent for n in nodes])
            for node in below:
                node.q = self._chances(logits[node.index])
            level = below
        drawn = {} if self.run.sampler.greedy else q
        return DraftTree.of([n.token for n in nodes], [n.parent for n in nodes], [n.log_q for n in nodes], drawn)

    def _chances(self, logits: np.ndarray) -> np.ndarray:
        sampler = self.run.sampler
        return softmax(logits) if sampler.greedy else sampler.probabilities(logits)

    def draw(self, q: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """``count`` tokens without replacement, and their keys, in falling order; see `gumbel_top`."""
        if not self.run.sampler.greedy:
            return gumbel_top(q, count, self.run.random)
        with np.errstate(divide="ignore"):
            return top(np.log(q), count)


def top(keys: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest finite keys, at most ``count``, in falling order: indices and keys; of equals the first."""
    count = min(count, keys.size)
    least = np.partition(keys, keys.size - count)[keys.size - count]
    found = np.flatnonzero(keys >= least)
    found = found[np.argsort(-keys[found], kind="stable")][:count]
    found = found[np.isfinite(keys[found])]
    return found, keys[found]


def gumbel_top(q: np.ndarray, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Gumbel-top-k: ``count`` tokens drawn from q without replacement, in the order in which they were drawn.

    The keys are ``log q + g`` with standard Gumbel noise g = -log e, e standard exponential. Fewer come back where q
    has fewer tokens.
    """
    chances = np.flatnonzero(q)
    keys = np.log(q[chances]) - np.log(random.standard_exponential(chances.size))
    found, values = top(keys, count)
    return chances[found], values


def _cache_of(model: Any) -> Any:
    """What holds the cache of a model that has one of its own."""
    if isinstance(model, CompiledTarget):
        model = model.compiled
    return model.decoder if isinstance(model, Compiled) else model


def _check_vocabulary(draft: Target, target: Target) -> None:
    if draft.vocabulary != target.vocabulary:
        raise ArgumentError(
            f"draft knows {draft.vocabulary} tokens, the model {target.vocabulary}: take a draft with the same tokens"
        )
    ours, theirs = draft.tokenizer, target.tokenizer
    if None not in (ours, theirs) and ours is not theirs and ours.get_vocab() != theirs.get_vocab():
        raise ArgumentError("draft and model number their tokens differently: take a draft with the same tokenizer")
