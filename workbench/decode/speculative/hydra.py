"""Hydra: heads in sequence, each sees the tokens guessed before it.

Zachary Ankner, Rishab Parthasarathy, Aniruddha Nrusimha, Christopher Rinard, Jonathan Ragan-Kelley, William Brandon.
Hydra: Sequentially-Dependent Draft Heads for Medusa Decoding. 2024. arXiv:2402.05109.

    h = hidden state from which the newest token x_1 came,  e(x) = embedding
    q_k(. | x_1..x_k) = softmax(E (h + U_k SiLU(W_k [h; e(x_1); ...; e(x_k)] + b_k))),  k = 1..K     guesses x_(k+1)
    draft = the n nodes x_2..x_d with the largest product of q_k along their path, found level by level

Departs from the paper: as `medusa` does (shared output head, frequent tokens, a tree that follows the chances, exact
rule above temperature 0, gate, lookup where the text repeats itself, without which the claim is checked); a level
guesses below those nodes only that can still be among the n likeliest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import decoder
from workbench.decode.claims import TokensPerForward
from workbench.decode.run import Run
from workbench.decode.speculative._base import Drafter
from workbench.decode.speculative._head_drafter import HeadDrafter, WithHeads
from workbench.decode.speculative._head_products import embeddings
from workbench.decode.speculative._head_tree import best_tree
from workbench.decode.speculative._heads import Heads, as_heads
from workbench.decode.tree import ROOT, DraftTree


@decoder
@dataclass(frozen=True)
class Hydra(WithHeads):
    """Drafts with heads that look at the same hidden state and at the tokens guessed before."""

    name: ClassVar[str] = "hydra"
    title: ClassVar[str] = "Hydra heads"
    formula: ClassVar[str] = "q_k = softmax(E (h + U_k SiLU(W_k [h; e(x_1); ...; e(x_k)] + b_k))), level by level"
    citation: ClassVar[Citation] = Citation(
        "Ankner, Parthasarathy, Nrusimha, Rinard, Ragan-Kelley, Brandon",
        "Hydra: Sequentially-Dependent Draft Heads for Medusa Decoding", 2024, "2402.05109",
    )  # fmt: skip

    claim: ClassVar[Claim] = Claim(
        "Heads that see the tokens drafted before them yield more tokens per pass than independent Medusa heads.",
        "Vicuna 7B to 33B, MT-Bench: up to 1.3 times the throughput of Medusa",
        TokensPerForward(than="medusa", parameters={"lookup": 0}, than_parameters={"lookup": 0}),
    )

    @classmethod
    def example_parameters(cls, model: Any) -> Mapping[str, Any]:
        """Untrained heads of the model's sizes."""
        return {"heads": Heads.blank(model, "hydra")}

    def drafter(self, run: Run) -> Drafter:
        """A drafter with these heads."""
        return _Hydra(self, as_heads(self.heads, "hydra"), run)


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    """A guess: its token, chance given its path, chance of the whole path, ranks on the path, node above, its row."""

    token: int
    chance: float
    value: float
    ranks: tuple[int, ...]
    above: _Node | None
    row: int


class _Hydra(HeadDrafter):
    def __init__(self, method: WithHeads, heads: Heads, run: Run) -> None:
        super().__init__(method, heads, run)
        self.static = set(best_tree(heads.accuracy, method.nodes)) if method.tree == "static" else None

    def draft(self, context: Sequence[int], most: int) -> tuple[DraftTree, np.ndarray]:
        """Level by level: guesses below the nodes that count; of all guesses the likeliest stay."""
        newest = embeddings(self.target, np.array([context[-1]]))
        sums = self.products.begin(np.concatenate([self.state, newest], 1))
        kept: list[_Node] = []
        parents: list[_Node | None] = [None]
        for level in range(len(self.heads)):
            fresh = self._below(parents, *self.guesses(self.products.states(level, self.state, sums[:, 0])))
            kept = sorted([*kept, *fresh], key=lambda node: -node.value)[:most]  # stable: parents stay in front
            inner = [node for node in kept if len(node.ranks) == level + 1]
            if not inner or level + 1 == len(self.heads):
                break
            table = embeddings(self.target, np.array([node.token for node in inner]))
            sums, parents = self.products.follow(sums[[node.row for node in inner]], table), list(inner)
        place = {node: n for n, node in enumerate(kept)}
        tree = DraftTree.of(
            [node.token for node in kept],
            [ROOT if node.above is None else place[node.above] for node in kept],
            np.log(np.maximum([node.chance for node in kept], 1e-30)),
        )
        return tree, np.array([node.value for node in kept])

    def _below(self, parents: Sequence[_Node | None], best: np.ndarray, chances: np.ndarray) -> list[_Node]:
        """The guesses of a level that may be in the tree."""
        tokens = self.heads.vocabulary[best].tolist()
        found = []
        for row, above in enumerate(parents):
            ranks, value = (above.ranks, above.value) if above else ((), 1.0)
            for rank, (token, chance) in enumerate(zip(tokens[row], chances[row].tolist(), strict=True)):
                if self.static is None or (*ranks, rank) in self.static:
                    found.append(_Node(token, chance, value * chance, (*ranks, rank), above, row))
        return found
