"""Attention that can be inspected: where it goes, how little of it would do, and what a smaller cache costs."""

from __future__ import annotations

from workbench.attention.capturing import Captured, Settings, capture
from workbench.attention.maps import Maps
from workbench.attention.metrics import METRICS, HeadTable, classify, heads, induction
from workbench.attention.studying import AttentionStudy, study
from workbench.attention.successor import successor
from workbench.attention.watching import Passing, watched

__all__ = [
    "METRICS",
    "AttentionStudy",
    "Captured",
    "HeadTable",
    "Maps",
    "Passing",
    "Settings",
    "capture",
    "classify",
    "heads",
    "induction",
    "study",
    "successor",
    "watched",
]
