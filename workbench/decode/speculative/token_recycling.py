"""Token Recycling: what the target thought of next to every token that it looked at is kept, and drafted again.

Xianzhen Luo, Yixuan Wang, Qingfu Zhu, Zhiming Zhang, Xuanyu Zhang, Qing Yang, Dongliang Xu, Wanxiang Che. Turning
Trash into Treasure: Accelerating Inference of Large Language Models with Token Recycling. 2024. arXiv 2408.08696.

    M[t] = the 8 most likely tokens after t, when t was looked at last (accepted or not)
    draft: a static tree; the child of rank j of a node with token t is M[t, j]

Departs from the paper: trees of at most 15 nodes and not 80, because here verifying 80 costs more than they bring; how
many of them the gate chooses by measured costs. Beside M[t] there are rows for the last two tokens, (s, t), looked up
first and filled up from M[t] (``context=1`` leaves them out); the prompt's own successors are put in front of their
rows before the first draft (``learn_prompt=False``: not). Trees come from `_templates`, where it says how.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import decoder
from workbench.decode.claims import FasterThan
from workbench.decode.run import Run
from workbench.decode.speculative._base import Drafter, Speculative
from workbench.decode.speculative._templates import template
from workbench.decode.speculative._top import top_tokens
from workbench.decode.speculative.gate import TreeYield, Yield, gated
from workbench.decode.target import Forward
from workbench.decode.tree import ROOT, DraftTree
from workbench.decode.verify import Verified
from workbench.errors import ArgumentError

WIDTH = 8


@dataclass(eq=False)
class Recycled:
    """What is kept: hand the same object to several calls to start the next one with what the last one learned.

    Attributes
    ----------
    after
        M: the likely successors of a token, most likely first.
    after_two
        The same of a pair of tokens.
    """

    after: dict[int, list[int]] = field(default_factory=dict)
    after_two: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """What it is, for records."""
        return f"Recycled({len(self.after)} tokens, {len(self.after_two)} pairs)"

    def children(self, before: int, token: int) -> list[int]:
        """Likely successors of ``token`` after ``before``, at most 8; none if it was never seen."""
        pair, single = self.after_two.get((before, token)), self.after.get(token)
        if pair is None or single is None:
            return pair or single or []
        if len(pair) >= WIDTH:
            return pair
        return (pair + [t for t in single if t not in pair])[:WIDTH]

    def put(self, before: int, token: int, row: list[int], context: int) -> None:
        """Replace the rows of a token and, with a context of 2, of the pair."""
        self.after[token] = row
        if context > 1 and before >= 0:
            self.after_two[before, token] = row

    def follow(self, before: int, token: int, successor: int, context: int) -> None:
        """Move a successor to the front of the rows."""
        row = self.after.get(token, [])
        self.after[token] = [successor, *(t for t in row if t != successor)][:WIDTH]
        if context > 1 and before >= 0:
            row = self.after_two.get((before, token), [])
            self.after_two[before, token] = [successor, *(t for t in row if t != successor)][:WIDTH]


@decoder
@dataclass(frozen=True)
class TokenRecycling(Speculative):
    """Drafts a static tree from remembered successors.

    Attributes
    ----------
    nodes
        Of the tree, at most.
    context
        1 or 2: tokens that a row belongs to, at most.
    learn_prompt
        Whether the prompt's own successors are learned first.
    state
        A `Recycled` to go on with, which is changed; None for an empty one.
    gate
        Whether trees that do not pay are left out, and the others cut to what pays.
    costs
        A `VerifyCosts` for the gate; None to measure them.
    """

    name: ClassVar[str] = "token-recycling"
    title: ClassVar[str] = "Token Recycling"
    formula: ClassVar[str] = "draft tree: child j of token t is M[t, j]; M[t] = top 8 of p(. | ..., t), last seen"
    citation: ClassVar[Citation] = Citation(
        "Xianzhen Luo, Yixuan Wang, Qingfu Zhu, Zhiming Zhang, Xuanyu Zhang, Qing Yang, Dongliang Xu, Wanxiang Che",
        "Turning Trash into Treasure: Accelerating Inference of Large Language Models with Token Recycling",
        2024,
        "2408.08696",
    )
    claim: ClassVar[Claim] = Claim(
        "About twice as many tokens a second as plain decoding on mixed prompts (here: at least 1.8 times).",
        "About 2 times for models of 7 to 33 billion parameters on Spec-Bench and MBPP; A100, greedy, trees of 80.",
        FasterThan(at_least=1.8),
    )

    nodes: int = 15
    context: int = 2
    learn_prompt: bool = True
    state: Any = None
    gate: bool = True
    costs: Any = None

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= len(template(1).ranks) or self.context not in (1, 2):
            most = len(template(1).ranks)
            raise ArgumentError(f"nodes={self.nodes}, context={self.context}: 1 to {most} nodes, a context of 1 or 2")
        if self.state is not None and not isinstance(self.state, Recycled):
            raise ArgumentError(f"state={self.state!r}: a Recycled, or None for an empty one")

    def drafter(self, run: Run) -> Drafter:
        """A drafter over the state."""
        state = self.state if self.state is not None else Recycled()
        recycler = Recycler(state, self.nodes, self.context, learn_prompt=self.learn_prompt)
        return gated(run, recycler, self.costs) if self.gate else recycler


class Recycler(Drafter):
    """Drafts from a `Recycled` and teaches it; see `TokenRecycling` for the numbers."""

    def __init__(self, state: Recycled, most: int = 15, context: int = 2, *, learn_prompt: bool = True) -> None:
        self.state, self.most, self.context, self.learn_prompt = state, most, context, learn_prompt
        self._before, self._root = -1, -1

    def begin(self, run: Run, forward: Forward) -> None:
        """Learn the prompt's successors, and what comes after it."""
        ids = run.prompt
        if self.learn_prompt:
            for n in range(len(ids) - 1):
                self.state.follow(ids[n - 1] if n else -1, ids[n], ids[n + 1], self.context)
        row = top_tokens(forward.logits[-1:], min(WIDTH, forward.logits.shape[1]))[0].tolist()
        self.state.put(ids[-2] if len(ids) > 1 else -1, ids[-1], row, self.context)

    def kind(self, context: Sequence[int]) -> Hashable | None:
        """2 if the last two tokens have a row, else 1, or None if not even the last one has."""
        self._before, self._root = context[-2] if len(context) > 1 else -1, context[-1]
        if (self._before, self._root) in self.state.after_two:
            return 2
        return 1 if self._root in self.state.after else None

    def prior(self, kind: Hashable) -> Yield:
        """What the nodes of the tree yielded where it was measured."""
        return TreeYield(template(2 if kind == 2 else 1).chances[: self.most])

    def propose(self, context: Sequence[int], room: int) -> DraftTree:
        """The template, filled with remembered successors."""
        shape = template(2 if self.kind(context) == 2 else 1)
        tokens: list[int] = []
        parents: list[int] = []
        place = {ROOT: ROOT}
        below = {ROOT: self.state.children(self._before, self._root)}
        for n in range(min(self.most, room)):
            above, rank = shape.parents[n], shape.ranks[n]
            if above not in below or rank >= len(below[above]):
                continue
            token = below[above][rank]
            place[n] = len(tokens)
            tokens.append(token)
            parents.append(place[above])
            below[n] = self.state.children(tokens[place[above]] if above != ROOT else self._root, token)
        return DraftTree.of(tokens, parents)

    def observe(self, verified: Verified) -> None:
        """Every node's row anew; those of accepted nodes last, so that they stay."""
        if verified.root != self._root:
            return  # the last pass of a run, for which nothing was asked
        tree, logits = verified.tree, verified.forward.logits
        rows = top_tokens(logits, min(WIDTH, logits.shape[1])).tolist()
        tokens, parents = tree.tokens.tolist(), tree.parents.tolist()
        kept = set(verified.verdict.path)
        order = [n for n in range(len(tokens)) if n not in kept] + [ROOT, *verified.verdict.path]
        for n in order:
            if n == ROOT:
                self.state.put(self._before, verified.root, rows[0], self.context)
                continue
            above = tokens[parents[n]] if parents[n] != ROOT else verified.root
            self.state.put(above, tokens[n], rows[n + 1], self.context)


def measured_ranks(model: Any, prompt: Sequence[int], answer: Sequence[int], **settings: Any) -> list[tuple[int, ...]]:
    """For every pass of a run: which kind of draft it was, then the ranks of the tokens that really came next.

    Parameters
    ----------
    answer
        What plain decoding says.
    settings
        Of `TokenRecycling`; the gate is off.
    """
    from workbench.decode.generation import generate  # the other way round would be a circle

    found: list[tuple[int, ...]] = []
    truth = [*prompt, *answer]

    class Watch(Recycler):
        def propose(self, context: Sequence[int], room: int) -> DraftTree:
            before, token, ranks = context[-2], context[-1], [int(self.kind(context) == 2)]
            for successor in truth[len(context) : len(context) + 8]:
                row = self.state.children(before, token)
                if successor not in row:
                    break
                ranks.append(row.index(successor))
                before, token = token, successor
            found.append(tuple(ranks))
            return super().propose(context, room)

    class Watched(TokenRecycling):
        def drafter(self, run: Run) -> Drafter:
            del run
            state = self.state if self.state is not None else Recycled()
            return Watch(state, self.nodes, self.context, learn_prompt=self.learn_prompt)

    generate(model, prompt, Watched(**settings), max_new_tokens=len(answer), detail=False)
    return found
