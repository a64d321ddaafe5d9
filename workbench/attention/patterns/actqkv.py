"""ActQKV: blocks of the past are looked up by a probe query, in which unusual queries count for more.

Qingfa Xiao, Jiachuan Wang, Haoyang Li, Cheng Deng et al. Activation-aware Probe-Query: Effective Key-Value Retrieval
for Long-Context LLMs Inference. 2025. arXiv:2502.13542; formulas as in its published code.

    queries of all heads in one vector q_i;  mu, var: of all queries so far, window after window
    activation bias   a_i = mean_d (q_id - mu_d)^2 / (var_d + mean(var) / 100)
    probe of X        p = sum_{i in X} a_i q_i / sum_{i in X} a_i
    block b           cos(p, representatives of b, see `infllm`);  the largest are kept
    density of layer  I = entropy of softmax over b of cos, as a share of its largest value;  budget ~ I

Departs from the paper: windows are blocks of 64 queries, blocks have 64 keys, and their number is a share of the row's,
where it has constants; the layers' budgets are cut by density while the prompt is read, where it does so while the
answer is written; a layer gets ``budget I / (mean of I in the layers up to it)``, since those behind it are not known,
where it divides by what is expected of them from earlier windows, so that the total is met only nearly; what was asked
at the end of the prompt does not enter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from workbench_kernels.attention_prefill import BLOCK

from workbench._citation import Citation
from workbench.attention.patterns._pattern import pattern
from workbench.attention.patterns.claims import Recall
from workbench.attention.patterns.infllm import Memory, representatives
from workbench.attention.watching import Passing
from workbench.claims import Claim


@pattern
@dataclass(frozen=True)
class ActQKV(Memory):
    """Sinks, a window, and blocks that a probe query finds.

    Attributes
    ----------
    biased
        Whether unusual queries count for more in the probe; else it is the mean query.
    by_density
        Whether layers whose blocks are wanted more evenly get more of them.
    """

    name: ClassVar[str] = "actqkv"
    title: ClassVar[str] = "ActQKV (probe query)"
    formula: ClassVar[str] = "keep blocks most like sum_i a_i q_i, a_i = mean_d (q_id - mu_d)^2 / var_d"
    citation: ClassVar[Citation] = Citation(
        "Qingfa Xiao, Jiachuan Wang, Haoyang Li, Cheng Deng et al.",
        "Activation-aware Probe-Query: Effective Key-Value Retrieval for Long-Context LLMs Inference",
        2025,
        "2502.13542",
    )
    claim: ClassVar[Claim] = Claim(
        "A probe in which unusual queries count for more finds blocks that keep more of attention than the mean query.",
        "Llama-3-8B, Qwen2.5-7B, Mistral-7B, LongBench and InfiniteBench with 2 thousand keys (here: recall)",
        Recall(than=("actqkv",), than_parameters={"biased": False}),
    )

    biased: bool = True
    by_density: bool = True
    densities: dict[int, float] = field(default_factory=dict, init=False, compare=False, repr=False)

    def scores(self, passing: Passing) -> np.ndarray:
        """Cosine of each block's probe with each block's representatives."""
        keys = representatives(passing, self.local, self.representatives).transpose(0, 1).flatten(1)
        probes = probe_queries(passing.query, self.biased)
        unit = torch.nn.functional.normalize
        found: np.ndarray = (unit(probes, dim=1) @ unit(keys, dim=1).T).numpy()
        return found

    def budget_of(self, passing: Passing, scores: np.ndarray) -> float:
        """The budget, more of it where density is above the mean of the layers so far."""
        self.densities[passing.layer] = density(scores)
        if not self.by_density or self.budget == 1:
            return self.budget
        so_far = [value for layer, value in self.densities.items() if layer <= passing.layer]
        return min(1.0, self.budget * self.densities[passing.layer] / max(sum(so_far) / len(so_far), 1e-9))


def probe_queries(query: torch.Tensor, biased: bool = True) -> torch.Tensor:
    """Mean query of each block, weighted by activation bias if that is asked for: float32 ``[B, H D]``."""
    flat = query.double().transpose(0, 1).flatten(1)
    found, seen = [], 0
    total, squares = flat.new_zeros(flat.shape[1]), flat.new_zeros(flat.shape[1])
    for part in flat.split(BLOCK):
        total, squares, seen = total + part.sum(0), squares + part.square().sum(0), seen + len(part)
        mean = total / seen
        variance = (squares / seen - mean.square()).clamp(min=0)
        bias = ((part - mean).square() / (variance + variance.mean() / 100 + 1e-12)).mean(1)
        weights = bias / bias.sum() if biased and float(bias.sum()) > 0 else torch.full_like(bias, 1 / len(bias))
        found.append(weights @ part)
    return torch.stack(found).float()


def density(scores: np.ndarray) -> float:
    """Mean over rows of the entropy of softmax over the blocks that a row can see, as a share of the largest."""
    found = []
    for i in range(1, len(scores)):
        row = torch.from_numpy(scores[i, : i + 1]).double()
        p = torch.softmax(row, 0)
        found.append(float(-(p * p.log()).sum()) / float(np.log(i + 1)))
    return float(np.mean(found)) if found else 1.0
