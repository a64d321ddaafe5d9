"""LLM-Pruner: first-order Taylor importance of coupled structures.

Xinyin Ma, Gongfan Fang, Xinchao Wang. LLM-Pruner: On the Structural Pruning of Large Language Models. NeurIPS 2023.
arXiv:2305.11627.

    element:  S_u = sum over the weights w of unit u of |w * dL/dw|        (the official code's default, param_first)
    vector:   S_u = | sum over the weights w of unit u of  w * dL/dw |

dL/dw is summed over a few calibration sequences. A unit is all rows and columns that go with it, of every weight.
Layers are pruned alike, and the first 4 and last 2 not at all, as in the paper's recipe for LLaMA-7B.
Departs from the official code: a query head is credited to the KV head that it really reads (there, under grouped
queries, heads 0, 3, 6 are credited to KV head 0); ratios are of true parameters; no fine-tuning follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from transformers.pytorch_utils import Conv1D

from workbench.claims import Claim, LowerPerplexity
from workbench.errors import unknown
from workbench.prune._controls import RandomChannels
from workbench.prune._method import ChannelMethod, Citation, LayerView, method


@method
@dataclass(frozen=True)
class LLMPruner(ChannelMethod):
    """Taylor importance, summed over everything that goes with a unit.

    Attributes
    ----------
    salience
        ``"element"`` or ``"vector"``.
    samples
        How many of the calibration sequences the gradient is summed over.
    """

    salience: str = "element"
    samples: int = 10

    name: ClassVar[str] = "llm-pruner"
    title: ClassVar[str] = "LLM-Pruner (Taylor)"
    needs: ClassVar[frozenset[str]] = frozenset({"gradient"})
    protect: ClassVar[tuple[int, int]] = (4, 2)
    formula: ClassVar[str] = "S_u = sum_{w in u} |w dL/dw|"
    citation: ClassVar[Citation] = Citation(
        "Xinyin Ma, Gongfan Fang, Xinchao Wang",
        "LLM-Pruner: On the Structural Pruning of Large Language Models",
        2023,
        "2305.11627",
        "NeurIPS",
    )
    claim: ClassVar[Claim] = Claim(
        "At 20 %, without tuning, lower perplexity than random groups of the same layers.",
        "LLaMA-7B, WikiText2, 128 tokens: 19.09 against 27.51 (dense 12.62)",
        LowerPerplexity(than=RandomChannels(ends=(4, 2)), sparsity=0.2),
    )

    def __post_init__(self) -> None:
        if self.salience not in ("element", "vector"):
            raise unknown("salience", self.salience, ("element", "vector"))

    def score(self, layer: LayerView, kind: str) -> torch.Tensor:
        """Summed Taylor terms of every unit, ``[units, 1]``."""
        total = torch.zeros(layer.architecture.units(kind, layer.index), device=layer.architecture.module.device)
        for slot in layer.architecture.slots(kind, layer.index):
            module = layer.architecture.linear(layer.index, slot.module)
            gradient = layer.statistics.gradients[f"{slot.module}.weight"]
            terms = layer.weight(slot.module) * (gradient.T if isinstance(module, Conv1D) else gradient)
            if self.salience == "element":
                terms = terms.abs()
            along = terms if terms.ndim == 1 else terms.sum(1 - slot.axis)
            total += along[slot.index.to(along.device)].sum(1)
        return total.abs()[:, None]
