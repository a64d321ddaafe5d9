"""Several answers, and a choice among them."""

from __future__ import annotations

from workbench.decode.search import best_of_n, particle_filter, rpc  # noqa: F401 - importing registers
from workbench.decode.search._hypotheses import Hypothesis
from workbench.decode.search.scorers import PMI, LogProbability, Scorer, Verifier, Votes
from workbench.decode.search.tasks import TASKS, Accuracy, Question, Task, accuracy

__all__ = [
    "PMI",
    "TASKS",
    "Accuracy",
    "Hypothesis",
    "LogProbability",
    "Question",
    "Scorer",
    "Task",
    "Verifier",
    "Votes",
    "accuracy",
]
