"""Run what was pruned: sparse layers, kernels timed side by side, and the choice of a format.

forms.py        the formats, and which of them suit a matrix
patterns.py     patterns of zeros: found, made, drawn
linear.py       a linear layer around a weight format
conversion.py   a model with sparse layers
timing.py       kernels of one matrix against each other
listing.py      the instructions of a kernel's inner loop
balance.py      from which sparsity on a kernel pays
reports.py      what timing returns
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "BreakEven": "reports",
    "KernelRow": "reports",
    "KernelTimings": "reports",
    "LayerChoice": "_choose",
    "SparseLinear": "linear",
    "Sparsified": "sparsified",
    "break_even": "balance",
    "candidates": "forms",
    "instructions": "listing",
    "pattern_of": "patterns",
    "sparsify": "conversion",
    "time_kernels": "timing",
}
__all__ = [
    "BreakEven",
    "KernelRow",
    "KernelTimings",
    "LayerChoice",
    "SparseLinear",
    "Sparsified",
    "break_even",
    "candidates",
    "instructions",
    "pattern_of",
    "sparsify",
    "time_kernels",
]

if TYPE_CHECKING:
    from workbench.execute._choose import LayerChoice
    from workbench.execute.balance import break_even
    from workbench.execute.conversion import sparsify
    from workbench.execute.forms import candidates
    from workbench.execute.linear import SparseLinear
    from workbench.execute.listing import instructions
    from workbench.execute.patterns import pattern_of
    from workbench.execute.reports import BreakEven, KernelRow, KernelTimings
    from workbench.execute.sparsified import Sparsified
    from workbench.execute.timing import time_kernels


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'workbench.execute' has no attribute {name!r}")
    return getattr(importlib.import_module(f"workbench.execute.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
