"""Attention that can be inspected: where it goes, how little of it would do, and what a smaller cache costs."""

from __future__ import annotations

from workbench.attention.capture import Captured, Settings, capture
from workbench.attention.watching import Passing, watched

__all__ = ["Captured", "Passing", "Settings", "capture", "watched"]
