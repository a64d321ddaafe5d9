"""The studio: choose a method, see what would go, prune, compare, keep. A thin view over `workbench.session`.

    slider --latest wins--> Preview.at --> cells        buttons --Runner--> Session.prune / export --> figures

Callbacks only start work; threads only publish traits; nothing is printed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import traitlets as t

from workbench.errors import ArgumentError
from workbench.session import Choice, Session
from workbench_widgets import _state
from workbench_widgets._base import join_modules, join_sheets
from workbench_widgets._desk import QUIET, Desk, desk_of
from workbench_widgets._panel import Panel
from workbench_widgets._static import studio_html
from workbench_widgets._worker import Latest

_MODULES = (
    "maths.js", "dom.js", "primitives.js", "canvas_view.js", "canvas_map.js", "link.js", "run.js", "code.js",
    "picture.js", "axes.js", "chart.js", "choose.js", "see.js", "compare.js", "keep.js", "prune_panel.js",
)  # fmt: skip


def prune_panel(model: Any, calibration: Any = None, evaluation: Any = None, **options: Any) -> PrunePanel:
    """Open the pruning panel on a model.

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
    >>> prune_panel(workbench.load(), method="magnitude")                            # doctest: +SKIP
    """
    return PrunePanel(session_of(model, calibration, evaluation, **options))


def session_of(model: Any, calibration: Any = None, evaluation: Any = None, **options: Any) -> Session:
    """The session given, or a new one of a model; ``options`` as for `prune_panel`."""
    first = {k: options.pop(k) for k in tuple(options) if k in Choice.__dataclass_fields__}
    given = calibration is not None or evaluation is not None or bool(options)
    if isinstance(model, Session) and given:
        raise ArgumentError("a session has its texts and sizes already: pass it alone, or a model with them")
    session = model if isinstance(model, Session) else Session(model, calibration, evaluation, **options)
    if first:
        session.choose(**first)
    return session


class PrunePanel(Panel):
    """The widget. Its traits are what is on the screen; ``session`` holds everything else.

    Parameters
    ----------
    session
        What to show and to work on, or the `Desk` of a studio.
    """

    _esm = join_modules(*_MODULES)
    _css = join_sheets()

    catalogue: t.List[Any] = t.List().tag(sync=True)
    options = t.Dict().tag(sync=True)
    facts = t.Dict().tag(sync=True)
    choice = t.Dict().tag(sync=True)
    sparsity = t.Float(0.5, min=0.0, max=0.99).tag(sync=True, echo_update=False)
    request = t.Int(0).tag(sync=True, echo_update=False)
    frame = t.Dict().tag(sync=True)
    cells = t.Bytes(b"").tag(sync=True)
    kept = t.Bytes(b"").tag(sync=True)
    quality = t.Dict().tag(sync=True)
    size = t.Dict().tag(sync=True)
    speed = t.Dict().tag(sync=True)
    samples = t.Dict().tag(sync=True)
    prompt = t.Unicode().tag(sync=True)
    variants: t.List[Any] = t.List().tag(sync=True)
    selected = t.Int(-1).tag(sync=True)
    history = t.Dict().tag(sync=True)
    exported = t.Dict().tag(sync=True)

    def __init__(self, session: Session | Desk) -> None:
        desk = desk_of(session)
        self._latest: Latest[tuple[float, int]] = Latest(self._draw, self.report)
        begun = desk.session
        self._wanted = (begun.choice.sparsity, 0)
        super().__init__(desk, **_state.beginning(begun))
        self.publish(selected=desk.selected or -1, **self._figures())
        self.observe(self._chosen, "choice")
        self.observe(self._moved, ["sparsity", "request"])
        self.observe(self._prompted, "prompt")
        self.observe(self._picked, "selected")
        self._score()

    # From the front end: no callback works for long

    def _chosen(self, change: Any) -> None:
        with self.reporting():
            self.session.choose(**change["new"])
            self.publish(error={}, sparsity=self.session.choice.sparsity)  # which an N:M pattern fixes
            self._score()

    def _moved(self, _: Any) -> None:
        with self.reporting():
            self.session.choose(sparsity=self.sparsity)
            wanted = (self.sparsity, self.request)
            if wanted != self._wanted and self.session.ready:  # both traits change in one message
                self._latest.ask(wanted)
            self._wanted = wanted

    def _prompted(self, change: Any) -> None:
        self.session.prompt = change["new"]

    def _picked(self, change: Any) -> None:
        with self.reporting():
            self.desk.select(max(0, change["new"]))
            self.publish(**self._figures())

    def commands(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """What the buttons do."""
        return {
            "prune": lambda _: self.prune(),
            "apply": lambda _: self.move(lambda: self.session.apply(self._variant())),
            "undo": lambda _: self.move(self.session.undo),
            "redo": lambda _: self.move(self.session.redo),
            "export": lambda content: self.export(content.get("folder", "")),
            "code": lambda _: self.send({"code": self._python()}),
        }

    # Work: each of these returns at once

    def prune(self) -> None:
        """Prune as chosen and measure; figures appear as they come."""
        self.desk.refuse_if_busy()
        self.publish(quality={}, size={}, speed={}, samples={}, exported={}, error={})
        self.desk.run(self, "prune", "Pruning", self.session.prune, self._pruned, self._unpruned)

    def export(self, folder: str | Path) -> None:
        """Write the selected variant as a checkpoint."""
        if not str(folder).strip():
            raise ArgumentError("the folder has no name: say where the checkpoint should go")
        self.desk.refuse_if_busy()
        variant = self._variant()
        self.publish(exported={}, error={})
        self.desk.run(
            self,
            "export",
            "Writing",
            lambda progress: self.session.export(folder, variant, progress),
            self._exported,
        )

    @property
    def busy(self) -> bool:
        """Whether a job runs or a picture is being made."""
        return super().busy or self._latest.busy

    def _score(self) -> None:
        """Draw when the scores of the choice are there; else compute them first, unless something else runs."""
        ask = self._latest.ask
        if self.session.ready:
            self.desk.cancel_quiet()
            ask((self.sparsity, self.request))
        elif not self.desk.locked:
            work = self.session.preview
            self.desk.run(self, QUIET, "Scoring", work, lambda _: ask((self.sparsity, self.request)))

    def _draw(self, wanted: tuple[float, int]) -> None:
        if self.session.ready:
            preview, first = self.session.preview(), not self.cells
            self.publish(**_state.frame(preview.at(wanted[0]), preview.modules, wanted[1]))
            if first:
                self.desk.redraw_soon()

    # From the desk

    def found(self, part: str, partial: Any) -> None:
        """Show what is found while pruning."""
        if self.desk.kind != QUIET:
            self.publish(**_state.found(part, partial, self.quality))

    def selection_changed(self) -> None:
        """Show the figures of the variant that is looked at."""
        self.publish(selected=self.desk.selected or -1, **self._figures())

    def variants_changed(self) -> None:
        """List the variants; draw what is current now."""
        self.publish(**_state.keeping(self.session))
        self._score()

    def at_rest(self) -> None:
        """Score what had to wait for another job."""
        if self.desk.job["kind"] != QUIET and not self.session.ready:
            self._score()

    # Inside

    def _pruned(self, variant: Any) -> None:
        self.desk.changed(variant.number)

    def _unpruned(self) -> None:
        self.publish(**self._figures())

    def _exported(self, saved: Any) -> None:
        self.publish(exported=_state.exported(saved))

    def _selected(self) -> Any:
        return self.desk.variant

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

    # Without a kernel

    def static_text(self) -> str:
        """Model and choice."""
        return f"Pruning: {self.facts.get('name', '')}, {self.session.choice}"

    def static_html(self) -> str:
        """The picture and the figures as they are now."""
        return studio_html(self, str(self.session.choice), self.session.variants)
