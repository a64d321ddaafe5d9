"""Everything that the model is sure of goes in at once.

Wu et al., "Fast-dLLM: Training-free Acceleration of Diffusion LLM by Enabling KV Cache and Parallel Decoding", 2025,
arXiv 2505.22618 (the second of its two parts).

    keep all masked i with c_i = p(x_i | canvas) > tau, at least the one of the highest c_i

If n places have c_i > 1 - eps each and (n + 1) eps <= 1, the product of the marginals has the same most likely answer
as the joint distribution (their theorem 1): parallel greedy unmasking is safe where the model is sure. Their code keeps
c_i >= tau; ours is strict, so that tau = 1 unmasks one by one even where a probability is exactly 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import decoder
from workbench.decode.diffusion._base import InRounds, Proposal, share
from workbench.decode.diffusion.checks import FewerEvaluations


@decoder
@dataclass(frozen=True)
class Confidence(InRounds):
    """Parallel unmasking above a threshold.

    Attributes
    ----------
    threshold
        tau; 1 unmasks one by one.
    """

    threshold: float = 0.9

    name: ClassVar[str] = "confidence"
    title: ClassVar[str] = "Masked diffusion, all confident tokens at once"
    formula: ClassVar[str] = "keep all masked i with p(x_i | canvas) > tau, at least the highest"
    citation: ClassVar[Citation | None] = Citation(
        "Chengyue Wu et al.",
        "Fast-dLLM: Training-free Acceleration of Diffusion LLM by Enabling KV Cache and Parallel Decoding",
        2025,
        "2505.22618",
    )
    claim: ClassVar[Claim | None] = Claim(
        "Unmasking all tokens above a confidence threshold at once saves most evaluations at hardly any loss.",
        "LLaDA-8B and Dream-7B on GSM8K, MATH, HumanEval, MBPP: up to 27.6 times the throughput, with a cache as well",
        FewerEvaluations(at_most=0.5),
    )

    def __post_init__(self) -> None:
        share("threshold", self.threshold)

    def select(self, found: Proposal, random: np.random.Generator) -> np.ndarray:  # noqa: ARG002 - nothing is drawn
        """Those above the threshold, or the highest."""
        sure = np.flatnonzero(found.confidence > self.threshold)
        return sure if sure.size else np.array([int(np.argmax(found.confidence))])
