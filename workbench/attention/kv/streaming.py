"""StreamingLLM: the first keys and the newest.

Guangxuan Xiao, Yuandong Tian, Beidi Chen, Song Han, Mike Lewis. Efficient Streaming Language Models with Attention
Sinks. ICLR 2024. arXiv:2309.17453.

    keep j < sinks and j >= n - (budget - sinks)

Departs from the paper: keys keep their true positions, where the paper renumbers them within the cache.
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
class Streaming(KVMethod):
    """Sinks and a window."""

    name: ClassVar[str] = "streaming"
    title: ClassVar[str] = "StreamingLLM (sinks and window)"
    formula: ClassVar[str] = "s_j = j; the first sinks always stay"
    always: ClassVar[bool] = True
    citation: ClassVar[Citation] = Citation(
        "Guangxuan Xiao, Yuandong Tian, Beidi Chen, Song Han, Mike Lewis",
        "Efficient Streaming Language Models with Attention Sinks",
        2024,
        "2309.17453",
        "ICLR",
    )
    claim: ClassVar[Claim] = Claim(
        "With a few first tokens kept as sinks, a window of the newest keys goes on well; without them it breaks.",
        "Llama-2 7B to 70B, MPT, Falcon, Pythia; PG19, 4 sinks (Llama-2-13B: perplexity 5.4 with them, 5158 without)",
        Continuation(than="streaming", than_parameters={"sinks": 0}),
    )

    def score(self, view: HeadView) -> torch.Tensor:
        """The position."""
        return view.positions.float()
