"""The kernel lab: pick a matrix, see its zeros, time the kernels that suit it. A thin view over `time_kernels`.

    choice --latest wins--> pattern        Run --Runner--> workbench.time_kernels --partial KernelTimings--> figures

Callbacks only start work; threads only publish traits; nothing is printed.
"""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import traitlets as t

from workbench import execute, render
from workbench.errors import ArgumentError, WorkbenchError
from workbench.jobs import Progress
from workbench_widgets import _kernel_state
from workbench_widgets._base import join_modules, join_sheets
from workbench_widgets._desk import desk_of
from workbench_widgets._kernel_choice import KernelChoice, layers_of, model_named, named_models
from workbench_widgets._panel import Panel
from workbench_widgets._worker import Latest

_MODULES = (
    "maths.js", "dom.js", "primitives.js", "canvas_view.js", "canvas_map.js", "link.js", "run.js", "code.js",
    "axes.js", "kernel_lab_maths.js", "kernel_lab_choose.js", "kernel_lab_kernels.js", "kernel_lab_pattern.js",
    "kernel_lab_bars.js", "kernel_lab_roof.js", "kernel_lab_balance.js", "kernel_lab_read.js", "kernel_lab.js",
)  # fmt: skip
_TURN = threading.Lock()  # what runs at the same time would be timed too
_STOPPED = "Cancelled: figures show what was timed so far"
_EMPTY = "Cancelled: nothing was timed"


def kernel_lab(
    model: Any = None, layer: str | None = None, *, shape: tuple[int, int] | None = None, **settings: Any
) -> KernelLab:
    """Open the kernel lab.

    Parameters
    ----------
    model
        Where layers come from: an `LM`, a pruned result, a transformers model, a `Session` with its variants, or a
        mapping of names to these; None for random matrices only; or a finished `KernelTimings`.
    layer
        Which layer to begin with, e.g. ``"layers.3.mlp.up_proj"``.
    shape
        Outputs and inputs of the random matrix to begin with.
    **settings
        What to choose first: ``pattern``, ``sparsity``, ``formats``, ``values``, ``tokens``, ``threads``,
        ``repeats``, ``cold``, ``break_even``, as for `workbench.time_kernels`.

    Raises
    ------
    ArgumentError
        If a setting is unknown or wrong.

    Examples
    --------
    >>> workbench.kernel_lab(shape=(1536, 576), pattern="16x1", sparsity=0.8)        # doctest: +SKIP
    """
    if isinstance(model, execute.KernelTimings):
        return KernelLab(timings=model)
    if shape is not None:
        if len(shape) != 2:
            raise ArgumentError(f"shape={shape!r}: two whole numbers, outputs and inputs")
        settings |= {"rows": shape[0], "columns": shape[1]}
    if layer is not None:
        names = list(named_models(model))
        if not names:
            raise ArgumentError(f"layer={layer!r} without a model: pass the model it belongs to")
        settings |= {"model": names[-1], "layer": layer}
    return KernelLab(model, **settings)


@contextmanager
def _alone(progress: Progress) -> Iterator[None]:
    """Wait until no other lab uses the kernels."""
    while not _TURN.acquire(timeout=0.05):
        progress.check()
    try:
        yield
    finally:
        _TURN.release()


class KernelLab(Panel):
    """The widget. Its traits are what is on the screen; ``result`` holds the figures.

    Parameters
    ----------
    models
        As for `kernel_lab`; or the `Desk` of a studio.
    timings
        A finished result, to be shown without controls.
    **settings
        Fields of the choice.

    Attributes
    ----------
    result : KernelTimings or None
        What was timed last; after Cancel as far as it got.
    """

    _esm = join_modules(*_MODULES)
    _css = join_sheets("kernel_lab.css")

    options = t.Dict().tag(sync=True)
    choice = t.Dict().tag(sync=True, echo_update=False)
    request = t.Int(0).tag(sync=True, echo_update=False)
    frame = t.Dict().tag(sync=True)
    whole = t.Bytes(b"").tag(sync=True)
    corner = t.Bytes(b"").tag(sync=True)
    timings = t.Dict().tag(sync=True)
    listing = t.Dict().tag(sync=True)
    controls = t.Bool(True).tag(sync=True)

    def __init__(self, models: Any = None, *, timings: Any = None, **settings: Any) -> None:
        desk = desk_of(models)
        self._given, self.result, self._partial = desk.session if desk.session is not None else models, timings, None
        self._settings = KernelChoice().changed(settings)
        self._latest: Latest[int] = Latest(self._draw, self.report)
        self._inspector: Latest[tuple[str, str, int]] = Latest(self._list, self.report)
        traits: dict[str, Any] = {"choice": self._settings.plain()}
        if timings is not None:
            traits |= _kernel_state.finished_pattern(timings)
            traits |= {"controls": False, "timings": _kernel_state.figures(timings, complete=True)}
        super().__init__(desk, options=self._options(), **traits)
        self.observe(self._chosen, ["choice", "request"])
        if timings is None:
            self._latest.ask(0)

    # Work: each of these returns at once

    def choose(self, **changes: Any) -> None:
        """Change settings, e.g. ``choose(sparsity=0.9, values=("fp32", "int8"))``."""
        self.desk.refuse_if_busy()
        self._settings = self._settings.changed(changes)
        self.publish(choice=self._settings.plain())

    def run(self) -> None:
        """Time what is chosen; figures appear as they come."""
        self.desk.refuse_if_busy()
        settings, models = self._settings, named_models(self._given)
        target = (
            (model_named(settings.model, models), settings.layer)
            if settings.model
            else (settings.rows, settings.columns)
        )
        arguments = settings.arguments()

        def work(progress: Progress) -> Any:
            with _alone(progress):
                return execute.time_kernels(target, progress=progress, **arguments)

        self._partial = None
        self.publish(timings={}, error={})
        begun = _kernel_state.in_parts(work, settings.break_even)
        self.desk.run(self, "time", "Timing", begun, self._timed, self._untimed)

    @property
    def busy(self) -> bool:
        """Whether kernels are timed, or a pattern or a list of instructions is being made."""
        return super().busy or self._latest.busy or self._inspector.busy

    def to_python(self) -> str:
        """The call of `workbench.time_kernels` that does what is chosen."""
        return self._settings.python()

    # From the front end: no callback works for long

    def _chosen(self, _: Any) -> None:
        try:
            self._settings = self._settings.changed(self.choice)
            if self._settings.model:
                self._complete_layer()
        except WorkbenchError as error:
            self.report(error)
            self.publish(frame={**self.frame, "request": self.request})  # the front end waits for an answer
        else:
            self.publish(error={})
            self._latest.ask(self.request)

    def _complete_layer(self) -> None:
        """A model that was just picked begins with its first layer where it lacks the one chosen."""
        layers = layers_of(model_named(self._settings.model, named_models(self._given)))
        if self._settings.layer not in layers:
            self._settings = self._settings.changed({"layer": layers[0]})
        self.publish(options=self._options(), choice=self._settings.plain())

    def commands(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """What the buttons do."""
        return {
            "run": lambda _: self.run(),
            "models": lambda _: self.publish(options=self._options()),
            "instructions": lambda asked: self._inspector.ask((asked["format"], asked["values"], asked["tokens"])),
            "code": lambda _: self.send({"code": self.to_python()}),
        }

    # From the desk

    def job_told(self, job: dict[str, Any], mine: bool) -> None:
        """Show how far it is; what was timed before Cancel stays."""
        if mine and job["state"] == "cancelled":
            job = {**job, "text": _EMPTY if self._partial is None else _STOPPED}
        super().job_told(job, mine)

    def found(self, _: str, partial: Any) -> None:
        """Show what was timed so far."""
        self._partial = partial
        self.publish(timings=_kernel_state.figures(partial, complete=False))

    def variants_changed(self) -> None:
        """Offer the layers of every variant."""
        self.publish(options=self._options())

    def selection_changed(self) -> None:
        """Take the layer from the variant that is looked at; from what it was made of if it is compiled."""
        chosen = self.desk.pruned
        name = "dense" if chosen is None else chosen.name
        if self.controls and name != self._settings.model:
            self._settings = self._settings.changed({"model": name})
            self._complete_layer()
            self._latest.ask(self.request)

    # Inside

    def _options(self) -> dict[str, Any]:
        return _kernel_state.options(named_models(self._given), self._settings)

    def _draw(self, request: int) -> None:
        try:
            self.publish(**_kernel_state.pattern(self._settings, named_models(self._given), request))
        except WorkbenchError as error:
            self.report(error)
            self.publish(frame={**self.frame, "request": request})  # the front end waits for an answer

    def _list(self, wanted: tuple[str, str, int]) -> None:
        with _alone(Progress()):
            self.publish(listing=_kernel_state.listing(wanted))

    def _timed(self, result: Any) -> None:
        self.result = result
        self.publish(timings=_kernel_state.figures(result, complete=True))

    def _untimed(self) -> None:
        """Cancelled or failed: what was timed stays, else what was there before comes back."""
        if self._partial is not None:
            self.result = self._partial
        elif self.result is not None:
            self.publish(timings=_kernel_state.figures(self.result, complete=True))

    # Without a kernel

    def static_text(self) -> str:
        """The result in full, or what is chosen."""
        return self.result.to_text() if self.result is not None else f"Kernel lab: {self._settings}"

    def static_html(self) -> str:
        """The last result with its charts and tables; before the first run, the pattern that is chosen."""
        if self.result is not None:
            return str(self.result.to_html())
        drawn = ""
        with self._traits_lock:  # both belong to one picture
            whole, shape = self.whole, self.frame.get("whole")
        if whole:
            image = np.frombuffer(whole, np.uint8).reshape(shape) / 255
            drawn = render.heatmap_png(
                image, title=f"Density of {self._settings}", zoom=max(1, 256 // max(image.shape))
            )
        told = "<p>Run the notebook to time kernels.</p>"
        return f"<p>Kernel lab: {html.escape(str(self._settings))}</p>{drawn}{told}"
