"""Sparse attention for long prompts: patterns of blocks, how much of attention they keep, and what they cost."""

from __future__ import annotations

from workbench.attention.patterns import a_shape, block_top, vertical_slash  # noqa: F401 - importing registers
from workbench.attention.patterns._pattern import Pattern, attend, pattern, registry, resolve
from workbench.attention.patterns.reading import SparsePrefill, sparse_prefill

__all__ = ["Pattern", "SparsePrefill", "attend", "pattern", "registry", "resolve", "sparse_prefill"]
