"""Lessons and labs: what there is, entering one in the middle, and guesses that are made before the answer.

notebooks/sources/NAME.py  <--jupytext-->  notebooks/tutorials/NAME.ipynb      a lesson
catalogue     what each of them costs and covers, from its own metadata
start         the session of a lesson, at its beginning or at a checkpoint
Prediction    a guess that locks, and is then drawn beside what came out; `workbench.predict` shows it
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Lesson": "catalogue",
    "Observation": "predicting",
    "Prediction": "predicting",
    "checkpoints": "entering",
    "find": "catalogue",
    "start": "entering",
}
__all__ = ["Lesson", "Observation", "Prediction", "checkpoints", "find", "start"]

if TYPE_CHECKING:
    from workbench.lessons.catalogue import Lesson, find
    from workbench.lessons.entering import checkpoints, start
    from workbench.lessons.predicting import Observation, Prediction


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"workbench.lessons.{_HOME[name]}"), name)
    raise AttributeError(f"module 'workbench.lessons' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
