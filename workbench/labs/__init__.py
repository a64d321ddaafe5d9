"""Teaching labs: notebooks with questions, and the checks that grade them.

    masters/*.py --notebooks--> student, solution and instructor notebooks --grading--> points, hints

What a lab's notebook uses is here: `same`, `close`, `require`, `cases` and `contest` in its checks, `real_layers` for a
look at a real model. `workbench check LAB` grades; ``python -m workbench.labs`` makes the notebooks. The command
``workbench lab`` is another thing: it opens JupyterLab (`workbench.lab`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "LABS": "percent",
    "Wrong": "checking",
    "cases": "checking",
    "close": "checking",
    "contest": "contests",
    "grade": "grading",
    "passed": "checking",
    "plot": "pictures",
    "real_layers": "layers",
    "require": "checking",
    "same": "checking",
    "seed": "checking",
}
__all__ = [
    "LABS",
    "Wrong",
    "cases",
    "close",
    "contest",
    "grade",
    "passed",
    "plot",
    "real_layers",
    "require",
    "same",
    "seed",
]

if TYPE_CHECKING:
    from workbench.labs.checking import Wrong, cases, close, passed, require, same, seed
    from workbench.labs.contests import contest
    from workbench.labs.grading import grade
    from workbench.labs.layers import real_layers
    from workbench.labs.percent import LABS
    from workbench.labs.pictures import plot


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'workbench.labs' has no attribute {name!r}")
    return getattr(importlib.import_module(f"workbench.labs.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
