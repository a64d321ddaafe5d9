"""The Sparse Workbench: make language models smaller and faster, and see why.

    >>> import workbench                                                             # doctest: +SKIP
    >>> lm = workbench.load()                                                        # doctest: +SKIP
    >>> pruned = workbench.prune(lm, "wanda", 0.5)                                   # doctest: +SKIP
    >>> workbench.perplexity(pruned, workbench.evaluation(lm, windows=20))           # doctest: +SKIP

Names are loaded when they are first used, so that importing this costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Job": "workbench.jobs",
    "LM": "workbench.models",
    "Progress": "workbench.jobs",
    "Recipe": "workbench.prune",
    "Session": "workbench.session",
    "calibration": "workbench.data",
    "check_lossless": "workbench.decode.lossless",
    "compare": "workbench.measure",
    "compile": "workbench.execute.compiled",
    "cost": "workbench.measure",
    "decoders": "workbench.decode",
    "evaluation": "workbench.data",
    "generate": "workbench.decode",
    "kernel_lab": "workbench_widgets",
    "lens": "workbench_widgets",
    "load": "workbench.models",
    "load_text": "workbench.data",
    "methods": "workbench.prune",
    "open": "workbench.session",
    "perplexity": "workbench.measure",
    "predict": "workbench_widgets.predict",
    "preview": "workbench.prune.preview",
    "repeat": "workbench.prune",
    "save": "workbench.checkpoint",
    "size": "workbench.measure",
    "sparsify": "workbench.execute",
    "speed": "workbench.measure",
    "studio": "workbench_widgets",
    "theatre": "workbench_widgets",
    "time_kernels": "workbench.execute",
    "wrap": "workbench.models",
}
__all__ = [*_HOME, "prune"]

if TYPE_CHECKING:
    from workbench_widgets import kernel_lab, lens, studio, theatre  # type: ignore[no-redef]
    from workbench_widgets.predict import predict

    from workbench.checkpoint import save
    from workbench.data import calibration, evaluation, load_text
    from workbench.decode import decoders, generate
    from workbench.decode.lossless import check_lossless
    from workbench.execute import sparsify, time_kernels
    from workbench.execute.compiled import compile  # noqa: A004
    from workbench.execute.whole import time_model
    from workbench.jobs import Job, Progress
    from workbench.measure import compare, cost, perplexity, size, speed
    from workbench.models import LM, load, wrap
    from workbench.prune import Recipe, methods, prune, repeat
    from workbench.prune.preview import preview
    from workbench.session import Session, open  # noqa: A004


def __getattr__(name: str) -> Any:
    if name == "prune":
        return importlib.import_module("workbench.prune")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'workbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
