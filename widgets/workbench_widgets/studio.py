"""The studio: choose a method, see what would go, prune, compare, keep. A thin view over `workbench.session`.

    slider --latest wins--> Preview.at --> cells        buttons --Runner--> Session.prune / export --> figures

Callbacks only start work; threads only publish traits; nothing is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import traitlets as t

from workbench.errors import ArgumentError, WorkbenchError
from workbench.session import Choice, Session
from workbench_widgets import _state
from workbench_widgets._base import STATIC, View, join_modules
from workbench_widgets._static import studio_html
from workbench_widgets._worker import Latest, Runner

_MODULES = (
    "maths.js", "dom.js", "link.js", "run.js", "code.js", "picture.js", "chart.js", "choose.js", "see.js",
    "compare.js", "keep.js", "studio.js",
)  # fmt: skip
_IDLE = {"kind": "", "state": "idle", "text": "", "fraction": 0.0}


def studio(model: Any, calibration: Any = None, evaluation: Any = None, **options: Any) -> Studio:
    """Open the pruning studio on a model.

    Parameters
    ----------
    model
        An `LM`, a pruned result, a transformers model, or a `Session` to go on with.
    calibration, evaluation
        Tokens or text, as for `workbench.session.Session`.
    **options
        What to choose first, e.g. ``method`` and ``sparsity``; the rest goes to `Session`.

    Examples
    --------
    >>> workbench.studio(workbench.load(), method="magnitude")                       # doctest: +SKIP
    """
    first = {k: options.pop(k) for k in tuple(options) if k in Choice.__dataclass_fields__}
    session = model if isinstance(model, Session) else Session(model, calibration, evaluation, **options)
    if first:
        session.choose(**first)
    return Studio(session)


class Studio(View):
    """The widget. Its traits are what is on the screen; ``session`` holds everything else.

    Parameters
    ----------
    session
        What to show and to work on.
    """

    _esm = join_modules(*_MODULES)
    _css = (STATIC / "studio.css").read_text(encoding="utf-8")

    catalogue: t.List[Any] = t.List().tag(sync=True)
    options = t.Dict().tag(sync=True)
    facts = t.Dict().tag(sync=True)
    choice = t.Dict().tag(sync=True)
    sparsity = t.Float(0.5, min=0.0, max=0.99).tag(sync=True, echo_update=False)
    request = t.Int(0).tag(sync=True, echo_update=False)
    frame = t.Dict().tag(sync=True)
    cells = t.Bytes(b"").tag(sync=True)
    kept = t.Bytes(b"").tag(sync=True)
    job = t.Dict(default_value=dict(_IDLE)).tag(sync=True)
    error = t.Dict().tag(sync=True)
    quality = t.Dict().tag(sync=True)
    size = t.Dict().tag(sync=True)
    speed = t.Dict().tag(sync=True)
    samples = t.Dict().tag(sync=True)
    prompt = t.Unicode().tag(sync=True)
    variants: t.List[Any] = t.List().tag(sync=True)
    selected = t.Int(-1).tag(sync=True)
    history = t.Dict().tag(sync=True)
    exported = t.Dict().tag(sync=True)
    live = t.Bool(True).tag(sync=True)

    def __init__(self, session: Session) -> None:
        self.session = session
        self._latest: Latest[tuple[float, int]] = Latest(self._draw, self._report)
        self._runner = Runner(lambda job: self.publish(job=job), self._found, self._report)
        self._wanted = (session.choice.sparsity, 0)
        super().__init__(**_state.beginning(session))
        self.observe(self._chosen, "choice")
        self.observe(self._moved, ["sparsity", "request"])
        self.observe(self._prompted, "prompt")
        self.observe(self._picked, "selected")
        self.on_msg(self._heard)
        self._score()

    # From the front end: no callback works for long

    def _chosen(self, change: Any) -> None:
        with self._reporting():
            self.session.choose(**change["new"])
            self.publish(error={}, sparsity=self.session.choice.sparsity)  # which an N:M pattern fixes
            self._score()

    def _moved(self, _: Any) -> None:
        with self._reporting():
            self.session.choose(sparsity=self.sparsity)
            wanted = (self.sparsity, self.request)
            if wanted != self._wanted and self.session.ready:  # both traits change in one message
                self._latest.ask(wanted)
            self._wanted = wanted

    def _prompted(self, change: Any) -> None:
        self.session.prompt = change["new"]

    def _picked(self, _: Any) -> None:
        self.publish(**self._figures())

    def _heard(self, _: Any, content: dict[str, Any], __: Any) -> None:
        commands: dict[str, Callable[[], Any]] = {
            "prune": self.prune,
            "cancel": self.cancel,
            "apply": lambda: self._move(lambda: self.session.apply(self._variant())),
            "undo": lambda: self._move(self.session.undo),
            "redo": lambda: self._move(self.session.redo),
            "export": lambda: self.export(content.get("folder", "")),
            "code": lambda: self.send({"code": self._python()}),
        }
        with self._reporting():
            commands[content["command"]]()

    # Work: each of these returns at once

    def prune(self) -> None:
        """Prune as chosen and measure; figures appear as they come."""
        self._refuse_if_busy()
        self.publish(quality={}, size={}, speed={}, samples={}, exported={}, error={})
        self._runner.run("prune", "Pruning", self.session.prune, self._pruned, self._unpruned)

    def export(self, folder: str | Path) -> None:
        """Write the selected variant as a checkpoint."""
        if not str(folder).strip():
            raise ArgumentError("the folder has no name: say where the checkpoint should go")
        self._refuse_if_busy()
        variant = self._variant()
        self.publish(exported={}, error={})
        self._runner.run(
            "export",
            "Writing",
            lambda progress: self.session.export(folder, variant, progress),
            self._exported,
        )

    def cancel(self) -> None:
        """Ask what runs to stop; it does within a second, and nothing is changed."""
        if self._runner.cancel():
            self.publish(job={**self.job, "state": "cancelling", "text": "Cancelling…"})

    @property
    def busy(self) -> bool:
        """Whether a job runs or a picture is being made."""
        return bool(self._runner.kind) or self._latest.busy

    # Inside

    def _score(self) -> None:
        """Draw when the scores of the choice are there; else compute them first."""
        if self.session.ready:
            if self._runner.kind == "score":
                self._runner.cancel()
            self._latest.ask((self.sparsity, self.request))
        else:
            ask = self._latest.ask
            self._runner.run("score", "Scoring", self.session.preview, lambda _: ask((self.sparsity, self.request)))

    def _draw(self, wanted: tuple[float, int]) -> None:
        if self.session.ready:
            preview = self.session.preview()
            self.publish(**_state.frame(preview.at(wanted[0]), preview.modules, wanted[1]))

    def _found(self, part: str, partial: Any) -> None:
        self.publish(**_state.found(part, partial, self.quality))

    def _pruned(self, variant: Any) -> None:
        self.publish(**_state.keeping(self.session), selected=variant.number)
        self.publish(**self._figures())
        if not self.session.ready:
            self._score()

    def _unpruned(self) -> None:
        self.publish(**self._figures())

    def _exported(self, saved: Any) -> None:
        self.publish(exported=_state.exported(saved))

    def _move(self, action: Callable[[], Any]) -> None:
        self._refuse_if_busy()
        action()
        self.publish(**_state.keeping(self.session), error={})
        self._score()

    def _selected(self) -> Any:
        return next((v for v in self.session.variants if v.number == self.selected), None)

    def _variant(self) -> Any:
        chosen = self._selected()
        if chosen is None:
            raise ArgumentError("no variant is selected: prune, then pick one of the list")
        return chosen

    def _figures(self) -> dict[str, Any]:
        """Figures of the selected variant; empty panels where there is none."""
        chosen = self._selected()
        empty: dict[str, Any] = {"quality": {}, "size": {}, "speed": {}, "samples": {}}
        return empty if chosen is None else _state.figures(chosen)

    def _python(self) -> str:
        """Of the selected variant, or of what is chosen now where that is something else."""
        chosen = self._selected()
        same = chosen is not None and chosen.lineage[-1] == self.session.choice
        return self.session.to_python(chosen) if same else self.session.choice_to_python()

    def _refuse_if_busy(self) -> None:
        if self._runner.kind not in ("", "score"):
            raise ArgumentError(f"the studio is busy ({self.job['text']}): wait or press Cancel")

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
        """Model and choice."""
        return f"Pruning studio: {self.facts.get('name', '')}, {self.session.choice}"

    def static_html(self) -> str:
        """The picture and the figures as they are now."""
        return studio_html(self, str(self.session.choice), self.session.variants)
