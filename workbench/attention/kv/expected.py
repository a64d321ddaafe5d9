"""Expected attention: keys that the queries to come are expected to look at.

Alessio Devoto, Maximilian Jeblick, Simon Jegou. Expected Attention: KV Cache Compression by Estimating Attention from
Future Queries Distribution. 2025. arXiv:2510.00636.

    q ~ N(mu, Sigma) of the queries seen;  E[exp(q . k_j)] = exp(mu . k_j + k_j' Sigma k_j / 2)
    s_j = (normalised over j, plus epsilon) * ||v_j||_2

Departs from the paper: it takes queries before rotation and turns their mean and covariance by the mean rotation of
the next positions; here the newest ``observes`` queries are taken as they were rotated, which assumes that the next
few hundred tokens stand about as far from the keys. Queries are scaled by 1 / sqrt(D) already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from workbench._citation import Citation
from workbench.attention.kv._method import HeadView, KVMethod, kv_method
from workbench.attention.kv.claims import Continuation
from workbench.claims import Claim


@kv_method
@dataclass(frozen=True)
class ExpectedAttention(KVMethod):
    """Gaussian queries.

    Attributes
    ----------
    epsilon
        Added to the expected probabilities, so that values count where none is expected.
    """

    name: ClassVar[str] = "expected"
    title: ClassVar[str] = "Expected attention"
    formula: ClassVar[str] = "s_j ~ exp(mu.k_j + k_j' Sigma k_j / 2) ||v_j||"
    observes: ClassVar[int] = 128
    citation: ClassVar[Citation] = Citation(
        "Alessio Devoto, Maximilian Jeblick, Simon Jegou",
        "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries Distribution",
        2025,
        "2510.00636",
        "",
    )
    claim: ClassVar[Claim] = Claim(
        "Estimating what queries to come will attend to beats scores from past attention.",
        "Llama-3.1-8B, Qwen3-8B, Gemma-3-12B; LongBench, RULER, math, against SnapKV, TOVA and others",
        Continuation(than="snapkv"),
    )

    epsilon: float = 0.02

    def score(self, view: HeadView) -> torch.Tensor:
        """Expected share times value norm, summed over the query heads that share the key."""
        mean = view.queries.mean(1)
        apart = view.queries - mean[:, None]
        sigma = apart.transpose(1, 2) @ apart / view.queries.shape[1]
        spread = torch.einsum("sd,gde,se->gs", view.keys, sigma, view.keys)
        share = torch.softmax(mean @ view.keys.T + spread / 2, -1).mean(0)
        return (share + self.epsilon / len(share)) * view.values.norm(dim=1)
