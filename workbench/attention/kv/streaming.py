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

    def score(self, view: HeadView) -> torch.Tensor:
        """The position."""
        return view.positions.float()
