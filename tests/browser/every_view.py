"""Every view as it looks when there is much to see: the studio after its whole loop, and the made-up ones."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kernel_lab_state
import studio_state
from workbench_widgets import KernelLab, Lens, PrunePanel, Studio, Theatre
from workbench_widgets.predict import Predict

import workbench
from workbench.lessons import Prediction

sys.path.append(str(Path(__file__).parents[1]))
import lens_studies
import theatre_traces
from test_session_kept import SIZES, compilable

TRACES = tuple(theatre_traces.ALL)
TEXT = "the cat sat on the mat. " * 6


def settled(studio: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while studio.busy:
        assert time.monotonic() < end, studio.job
        time.sleep(0.005)


def worked_through(folder: Path) -> Studio:
    """A studio in which everything was done once."""
    session = workbench.open(folder, compilable(), **SIZES)
    session.prune(method="magnitude", sparsity=0.5, speed=False)
    session.compile("auto", "fp32", speed=False)
    studio = workbench.studio(session)
    settled(studio)
    studio.visit("execute")
    attend, decode = studio.visit("attend"), studio.visit("decode")
    attend.set_state({"text": TEXT})
    attend._heard(None, {"command": "study"}, [])
    settled(studio)
    for number in (0, 1):
        studio.desk.select(number)
        if number:
            studio.panels["prune"]._heard(None, {"command": "apply"}, [])
            settled(studio)
        decode.generate("greedy", tokens=8)
        settled(studio)
    decode.see(1, 2)
    studio.visit("compare").beside(0, 1, tokens=4)
    settled(studio)
    studio.visit("prune")
    return studio


def made_up() -> dict[str, Callable[[], dict[str, Any]]]:
    """What `ViewHost.mount` takes for each view that needs no session."""

    def whole(view: Any) -> dict[str, Any]:
        return {"view": view}

    def of(kind: Any, state: dict[str, Any]) -> dict[str, Any]:
        return {"view": state, "esm": kind._esm, "css": kind._css}

    error = {"error": {"id": 1, "text": "folder='pruned-model' holds something already: name a new one"}}
    views: dict[str, Callable[[], dict[str, Any]]] = {
        "prune-panel": lambda: of(PrunePanel, {**studio_state.beginning(), **studio_state.pruned(), **error}),
        "kernel-lab": lambda: of(KernelLab, {**kernel_lab_state.beginning(), **kernel_lab_state.timed(), **error}),
        "lens": lambda: whole(Lens(lens_studies.study(), head=(1, 3))),
        "predict-number": lambda: whole(Predict(Prediction("What will it be?", low=1, high=64, unit="x"))),
        "predict-options": lambda: whole(Predict(Prediction("Which?", options=("faster", "equal", "slower")))),
    }
    for name in TRACES:
        views[f"theatre-{name}"] = lambda name=name: whole(Theatre(theatre_traces.ALL[name](), frame=8))
    views["theatre-pair"] = lambda: whole(Theatre(theatre_traces.plain(), theatre_traces.speculative(), frame=8))
    return views
