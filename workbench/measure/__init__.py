"""Measure: quality, speed, size and cost, each figure with its protocol.

quality.py   perplexity with a running interval; two models compared window by window
timings.py   prefill and decode apart, interleaved with the dense model
costs.py     parameters, bytes, FLOPs and bytes moved, counted from the modules as they are
memory.py    peak memory of a stretch of work; room checked before it starts
"""

from __future__ import annotations

from workbench.measure.costs import Cost, Size, cost, size
from workbench.measure.memory import PeakMemory, available_memory, peak_memory, require_disk, require_memory
from workbench.measure.quality import Comparison, Quality, compare, perplexity
from workbench.measure.timings import Speed, Timing, speed

__all__ = [
    "Comparison",
    "Cost",
    "PeakMemory",
    "Quality",
    "Size",
    "Speed",
    "Timing",
    "available_memory",
    "compare",
    "cost",
    "peak_memory",
    "perplexity",
    "require_disk",
    "require_memory",
    "size",
    "speed",
]
