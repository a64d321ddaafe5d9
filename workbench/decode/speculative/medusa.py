"""Medusa: extra heads on the last hidden state guess the tokens after the next one, all at once.

Tianle Cai, Yuhong Li, Zhengyang Geng, Hongwu Peng, Jason D. Lee, Deming Chen, Tri Dao. Medusa: Simple LLM Inference
Acceleration Framework with Multiple Decoding Heads. 2024. arXiv:2401.10774.

    h = hidden state from which the newest token x_1 came
    q_k = softmax(E (h + U_k SiLU(W_k h + b_k))),  k = 1..K      guesses x_(k+1), whatever the tokens between are
    draft = the n nodes (rank r_1 of q_1, ..., rank r_d of q_d) with the largest product of q_k

Departs from the paper: heads share the model's output head E (its own one per head would be 28 M parameters each here),
so that the block needs the matrix U behind its SiLU, which alone cannot take anything away from h; guesses are of
frequent tokens only; the tree follows the heads' chances at every step (``tree="static"`` is the paper's fixed tree);
above temperature 0 the exact rule accepts (``acceptance="typical"`` is the paper's rule). By measured costs the gate
(``gate=False``: none) verifies only as many nodes as pay. Where the text repeats its last tokens, which heads cannot
see, what followed them is drafted instead, as by `prompt-lookup` (``lookup=0``: never; the claim is checked so).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import decoder
from workbench.decode.claims import FasterThan
from workbench.decode.run import Run
from workbench.decode.speculative._base import Drafter
from workbench.decode.speculative._head_drafter import HeadDrafter, WithHeads
from workbench.decode.speculative._head_tree import best_tree
from workbench.decode.speculative._heads import Heads, as_heads
from workbench.decode.tree import ROOT, DraftTree


@decoder
@dataclass(frozen=True)
class Medusa(WithHeads):
    """Drafts with heads that all look at the same hidden state."""

    name: ClassVar[str] = "medusa"
    title: ClassVar[str] = "Medusa heads"
    formula: ClassVar[str] = "q_k = softmax(E (h + U_k SiLU(W_k h + b_k))) guesses the token k after the next"
    citation: ClassVar[Citation] = Citation(
        "Cai, Li, Geng, Peng, Lee, Chen, Dao", "Medusa: Simple LLM Inference Acceleration Framework", 2024, "2401.10774"
    )

    claim: ClassVar[Claim] = Claim(
        "Heads on a model that stays as it is make decoding at least twice as fast, and outputs stay the same.",
        "Medusa-1: more than 2.2 times; Vicuna 7B and 13B, MT-Bench (here: heads of 1.3 MB each, trained in minutes)",
        FasterThan(at_least=2.0, parameters={"lookup": 0}),
    )

    @classmethod
    def example_parameters(cls, model: Any) -> Mapping[str, Any]:
        """Untrained heads of the model's sizes."""
        return {"heads": Heads.blank(model, "medusa")}

    def drafter(self, run: Run) -> Drafter:
        """A drafter with these heads."""
        return _Medusa(self, as_heads(self.heads, "medusa"), run)


class _Medusa(HeadDrafter):
    def __init__(self, method: WithHeads, heads: Heads, run: Run) -> None:
        super().__init__(method, heads, run)
        self.static = best_tree(heads.accuracy, method.nodes) if method.tree == "static" else None

    def draft(self, context: Sequence[int], most: int) -> tuple[DraftTree, np.ndarray]:
        """Guesses of all heads in one product, and their best combinations."""
        del context
        inner = self.products.begin(self.state)
        states = np.concatenate([self.products.states(k, self.state, inner[:, k]) for k in range(len(self.heads))])
        best, chances = self.guesses(states)
        paths = self.static or best_tree(np.minimum(chances, 1.0), most)
        paths = [p for p in paths[:most] if max(p) < best.shape[1]]
        tokens, table = self.heads.vocabulary[best].tolist(), chances.tolist()
        node: dict[tuple[int, ...], int] = {(): ROOT} | {p: n for n, p in enumerate(paths)}
        own = np.array([table[len(p) - 1][p[-1]] for p in paths])
        tree = DraftTree.of(
            [tokens[len(p) - 1][p[-1]] for p in paths],
            [node[p[:-1]] for p in paths],
            np.log(np.maximum(own, 1e-30)),
        )
        return tree, np.array([np.prod([table[d][r] for d, r in enumerate(p)]) for p in paths])
