"""Prune: statistics -> scores -> allocation -> masks -> repair -> a smaller model.

    pipeline.py      the one call                      _stages.py      weights, channels, layers
    statistics.py    what methods know of the data     _runner.py      a model, layer by layer
    allocations.py   budget -> layers                  masks.py        scores -> masks
    repair.py        what happens to the rest          apply.py        zeros, smaller tensors, fewer layers
    result.py        Pruned, Report, Recipe            preview.py      what a slider shows
    replay.py        a recipe, once more

One file per published method; importing it registers it. ``workbench.prune`` is this package and the call at once:
``workbench.prune(model, "wanda", 0.5)`` is ``workbench.prune.prune(model, "wanda", 0.5)``.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from workbench.prune import (  # noqa: F401 - importing registers
    flap,
    llm_pruner,
    magnitude,
    owl,
    random,
    ria,
    shortened_llama,
    shortgpt,
    sparsegpt,
    wanda,
    wanda_sp,
)
from workbench.prune._method import (
    ChannelMethod,
    Citation,
    LayerMethod,
    Method,
    MethodInfo,
    WeightMethod,
    method,
    methods,
    registry,
    resolve,
)
from workbench.prune.allocations import ALLOCATIONS
from workbench.prune.pipeline import prune
from workbench.prune.repair import REPAIRS
from workbench.prune.replay import repeat
from workbench.prune.result import Pruned, Recipe, Report

__all__ = [
    "ALLOCATIONS",
    "REPAIRS",
    "ChannelMethod",
    "Citation",
    "LayerMethod",
    "Method",
    "MethodInfo",
    "Pruned",
    "Recipe",
    "Report",
    "WeightMethod",
    "method",
    "methods",
    "prune",
    "registry",
    "repeat",
    "resolve",
]


class _CallablePackage(ModuleType):
    """Lets the package be called like the function that it is named after."""

    def __call__(self, *args: Any, **kwargs: Any) -> Pruned:
        return prune(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
