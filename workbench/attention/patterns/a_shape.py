"""A-shape: the first keys and the newest, block by block.

Guangxuan Xiao, Yuandong Tian, Beidi Chen, Song Han, Mike Lewis. Efficient Streaming Language Models with Attention
Sinks. ICLR 2024. arXiv:2309.17453; as a pattern for reading prompts in MInference, see `vertical_slash`.

    block (i, j) is kept if j < ceil(sinks / 64) or i - j <= ceil(local / 64)

Departs from the papers: both edges are rounded up to blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from workbench_kernels.attention_prefill import BLOCK

from workbench._citation import Citation
from workbench.attention.patterns._pattern import Pattern, blocks, pattern, share
from workbench.attention.patterns.claims import Divergence
from workbench.attention.watching import Passing
from workbench.claims import Claim
from workbench.errors import ArgumentError


@pattern
@dataclass(frozen=True)
class AShape(Pattern):
    """Sinks and a sliding window; without sinks a sliding window alone.

    Attributes
    ----------
    sinks, local
        Tokens.
    """

    name: ClassVar[str] = "a-shape"
    title: ClassVar[str] = "A-shape (sinks and window)"
    formula: ClassVar[str] = "keep keys j < sinks and i - j <= local"
    citation: ClassVar[Citation] = Citation(
        "Guangxuan Xiao, Yuandong Tian, Beidi Chen, Song Han, Mike Lewis",
        "Efficient Streaming Language Models with Attention Sinks",
        2024,
        "2309.17453",
        "ICLR",
    )

    claim: ClassVar[Claim] = Claim(
        "A window with the first keys answers much more like full attention than a window alone of the same cost.",
        "Llama-2, MPT, Falcon, Pythia up to 70B, texts of 4 million tokens (here: while a prompt is read)",
        Divergence(than="a-shape", than_parameters={"sinks": 0}, at_most=0.5),
    )

    sinks: int = 64
    local: int = 256

    def __post_init__(self) -> None:
        if self.sinks < 0 or self.local < 1:
            raise ArgumentError(f"sinks={self.sinks}, local={self.local}: not negative, and at least 1")

    def keep(self, passing: Passing, head: int) -> np.ndarray:
        """The same for all heads."""
        del head
        count = blocks(passing.key.shape[1])
        i, j = np.indices((count, count))
        found: np.ndarray = (j < -(-self.sinks // BLOCK)) | (i - j <= -(-self.local // BLOCK))
        return found

    def within(self, budget: float, tokens: int) -> AShape:
        """The widest window whose blocks fit in; sinks stay."""
        share("budget", budget)
        count = blocks(tokens)
        i, j = np.indices((count, count))
        seen = i >= j
        first = j < -(-self.sinks // BLOCK)
        wide = [w for w in range(1, count + 1) if (seen & (first | (i - j <= w))).sum() <= budget * seen.sum() + 0.5]
        return replace(self, local=max(wide, default=1) * BLOCK)
