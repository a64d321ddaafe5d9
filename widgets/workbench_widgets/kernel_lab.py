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
from workbench_widgets._base import STATIC, View, join_modules
from workbench_widgets._kernel_choice import KernelChoice, layers_of, model_named, named_models
from workbench_widgets._worker import Latest, Runner

_MODULES = (
    "maths.js", "dom.js", "link.js", "run.js", "code.js", "kernel_lab_maths.js", "kernel_lab_choose.js",
    "kernel_lab_kernels.js", "kernel_lab_pattern.js", "kernel_lab_bars.js", "kernel_lab_roof.js",
    "kernel_lab_balance.js", "kernel_lab_read.js", "kernel_lab.js",
)  # fmt: skip
_IDLE = {"kind": "", "state": "idle", "text": "", "fraction": 0.0}
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


class KernelLab(View):
    """The widget. Its traits are what is on the screen; ``result`` holds the figures.

    Parameters
    ----------
    models
        As for `kernel_lab`.
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
    _css = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in ("studio.css", "kernel_lab.css"))

    options = t.Dict().tag(sync=True)
    choice = t.Dict().tag(sync=True, echo_update=False)
    request = t.Int(0).tag(sync=True, echo_update=False)
    frame = t.Dict().tag(sync=True)
    whole = t.Bytes(b"").tag(sync=True)
    corner = t.Bytes(b"").tag(sync=True)
    job = t.Dict(default_value=dict(_IDLE)).tag(sync=True)
    error = t.Dict().tag(sync=True)
    timings = t.Dict().tag(sync=True)
    listing = t.Dict().tag(sync=True)
    controls = t.Bool(True).tag(sync=True)
    live = t.Bool(True).tag(sync=True)

    def __init__(self, models: Any = None, *, timings: Any = None, **settings: Any) -> None:
        self._given, self.result, self._partial = models, timings, None
        self._settings = KernelChoice().changed(settings)
        self._latest: Latest[int] = Latest(self._draw, self._report)
        self._inspector: Latest[tuple[str, str, int]] = Latest(self._list, self._report)
        self._runner = Runner(self._told, self._found, self._report)
        traits: dict[str, Any] = {"choice": self._settings.plain()}
        if timings is not None:
            traits |= _kernel_state.finished_pattern(timings)
            traits |= {"controls": False, "timings": _kernel_state.figures(timings, complete=True)}
        super().__init__(options=self._options(), **traits)
        self.observe(self._chosen, ["choice", "request"])
        self.on_msg(self._heard)
        if timings is None:
            self._latest.ask(0)

    # Work: each of these returns at once

    def choose(self, **changes: Any) -> None:
        """Change settings, e.g. ``choose(sparsity=0.9, values=("fp32", "int8"))``."""
        self._refuse_if_busy()
        self._settings = self._settings.changed(changes)
        self.publish(choice=self._settings.plain())

    def run(self) -> None:
        """Time what is chosen; figures appear as they come."""
        self._refuse_if_busy()
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
        self._runner.run("time", "Timing", begun, self._timed, self._untimed)

    def cancel(self) -> None:
        """Ask what runs to stop; it does within a second, and what was timed stays on the screen."""
        if self._runner.cancel():
            self.publish(job={**self.job, "state": "cancelling", "text": "Cancelling…"})

    @property
    def busy(self) -> bool:
        """Whether kernels are timed, or a pattern or a list of instructions is being made."""
        return bool(self._runner.kind) or self._latest.busy or self._inspector.busy

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
            self._report(error)
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

    def _heard(self, _: Any, content: dict[str, Any], __: Any) -> None:
        commands: dict[str, Callable[[], Any]] = {
            "run": self.run,
            "cancel": self.cancel,
            "models": lambda: self.publish(options=self._options()),
            "instructions": lambda: self._inspector.ask((content["format"], content["values"], content["tokens"])),
            "code": lambda: self.send({"code": self.to_python()}),
        }
        with self._reporting():
            commands[content["command"]]()

    # Inside

    def _options(self) -> dict[str, Any]:
        return _kernel_state.options(named_models(self._given), self._settings)

    def _draw(self, request: int) -> None:
        try:
            self.publish(**_kernel_state.pattern(self._settings, named_models(self._given), request))
        except WorkbenchError as error:
            self._report(error)
            self.publish(frame={**self.frame, "request": request})  # the front end waits for an answer

    def _list(self, wanted: tuple[str, str, int]) -> None:
        with _alone(Progress()):
            self.publish(listing=_kernel_state.listing(wanted))

    def _told(self, job: dict[str, Any]) -> None:
        if job["state"] == "cancelled":
            job = {**job, "text": _EMPTY if self._partial is None else _STOPPED}
        self.publish(job=job)

    def _found(self, _: str, partial: Any) -> None:
        self._partial = partial
        self.publish(timings=_kernel_state.figures(partial, complete=False))

    def _timed(self, result: Any) -> None:
        self.result = result
        self.publish(timings=_kernel_state.figures(result, complete=True))

    def _untimed(self) -> None:
        """Cancelled or failed: what was timed stays, else what was there before comes back."""
        if self._partial is not None:
            self.result = self._partial
        elif self.result is not None:
            self.publish(timings=_kernel_state.figures(self.result, complete=True))

    def _refuse_if_busy(self) -> None:
        if self._runner.kind:
            raise ArgumentError(f"the lab is busy ({self.job['text']}): wait or press Cancel")

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Show what goes wrong in a callback; an exception there would be lost."""
        try:
            yield
        except WorkbenchError as error:
            self._report(error)

    def _report(self, error: BaseException) -> None:
        text = str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
        self.publish(error={"id": self.error.get("id", 0) + 1, "text": text})

    # Without a kernel

    def frozen(self) -> dict[str, Any]:
        """A page without a kernel: nothing runs, and nothing can be started."""
        return {"live": False, "job": dict(_IDLE), "error": {}}

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
