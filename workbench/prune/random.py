"""Random pruning: the control that every other method must beat.

    S_ij ~ U(0, 1), independent; the stream is picked by the seed and by the weights themselves

Not a published method. Seeded: the same seed gives the same mask.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from workbench.prune._method import WeightMethod, method
from workbench.prune.statistics import SiteStatistics


@method
@dataclass(frozen=True)
class Random(WeightMethod):
    """Uniform random scores.

    Attributes
    ----------
    seed
        Of the scores.
    """

    seed: int = 0

    name: ClassVar[str] = "random"
    title: ClassVar[str] = "Random"
    formula: ClassVar[str] = "S_ij ~ U(0, 1)"

    def score(self, weight: torch.Tensor, inputs: SiteStatistics | None) -> torch.Tensor:
        """Random scores ``[out, in]``; the weights only vary the stream, so that equal shapes differ."""
        del inputs
        salt = zlib.crc32(weight.detach().float().cpu().contiguous().numpy().tobytes())
        draw = np.random.default_rng([self.seed, salt]).random(tuple(weight.shape), dtype=np.float32)
        return torch.from_numpy(draw).to(weight.device)
