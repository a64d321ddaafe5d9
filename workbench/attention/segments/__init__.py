"""Structured prompts: parts that share positions, or see each other along the edges of a graph only."""

from __future__ import annotations

from workbench.attention.segments import graph_kv, set_prompt  # noqa: F401 - importing registers
from workbench.attention.segments._method import Part, SegmentMethod, registry, resolve, segment_method
from workbench.attention.segments.layout import Block, Layout, Segments
from workbench.attention.segments.shelf import Shelf
from workbench.attention.segments.target import SegmentedTarget, read

__all__ = [
    "Block",
    "Layout",
    "Part",
    "SegmentMethod",
    "SegmentedTarget",
    "Segments",
    "Shelf",
    "read",
    "registry",
    "resolve",
    "segment_method",
]
