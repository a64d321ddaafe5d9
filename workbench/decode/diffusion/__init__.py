"""Masked diffusion: tokens are unmasked in any order, several at a time."""

from __future__ import annotations

from workbench.decode.diffusion import confidence, localleap, plain, radd  # noqa: F401 - importing registers
from workbench.decode.diffusion.model import ListModel, MaskedModel, Oracle, load
from workbench.decode.diffusion.quality import ParallelQuality, parallel_quality
from workbench.decode.diffusion.radd import expected_evaluations
from workbench.decode.diffusion.tasks import TASKS, ListTask, independent_accuracy, sample
from workbench.decode.diffusion.training import Trained, train_diffusion

__all__ = [
    "TASKS",
    "ListModel",
    "ListTask",
    "MaskedModel",
    "Oracle",
    "ParallelQuality",
    "Trained",
    "expected_evaluations",
    "independent_accuracy",
    "load",
    "parallel_quality",
    "sample",
    "train_diffusion",
]
