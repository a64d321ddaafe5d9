"""Sparse attention for long prompts: patterns of blocks, how much of attention they keep, and what they cost."""

from __future__ import annotations

from workbench.attention.patterns import (  # noqa: F401 - importing registers
    a_shape,
    actqkv,
    block_top,
    infllm,
    minference,
    qwen_1m,
    vertical_slash,
)
from workbench.attention.patterns._pattern import Pattern, attend, pattern, registry, resolve
from workbench.attention.patterns.curves import CurvePoint, PatternCurves, curves
from workbench.attention.patterns.minference import MInference
from workbench.attention.patterns.reading import SparsePrefill, sparse_prefill

__all__ = [
    "CurvePoint",
    "MInference",
    "Pattern",
    "PatternCurves",
    "SparsePrefill",
    "attend",
    "curves",
    "pattern",
    "registry",
    "resolve",
    "sparse_prefill",
]
