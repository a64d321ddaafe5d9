"""The studio: Prune, Execute, Attend, Decode and Compare over one session. Each panel is a widget of its own.

    panel --> Desk (one session, one variant that is looked at, one job) --> every panel

A panel is made when it is first visited, and closed with the studio.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import traitlets as t

from workbench.errors import unknown
from workbench.session import Session
from workbench_widgets import _exports, _state
from workbench_widgets import _session_state as state
from workbench_widgets._base import View, join_modules, join_sheets
from workbench_widgets._desk import Desk, desk_of
from workbench_widgets._panel import Panel
from workbench_widgets.attend_panel import AttendPanel
from workbench_widgets.compare_panel import ComparePanel
from workbench_widgets.decode_panel import DecodePanel
from workbench_widgets.execute_panel import ExecutePanel
from workbench_widgets.prune_panel import PrunePanel, session_of

PANELS: dict[str, tuple[str, type[Panel]]] = {
    "prune": ("Prune", PrunePanel),
    "execute": ("Execute", ExecutePanel),
    "attend": ("Attend", AttendPanel),
    "decode": ("Decode", DecodePanel),
    "compare": ("Compare", ComparePanel),
}


def studio(
    model: Any = None, calibration: Any = None, evaluation: Any = None, *, panel: str = "prune", **options: Any
) -> Studio:
    """Open the studio.

    Parameters
    ----------
    model
        A `Session`, e.g. of `workbench.open`, which keeps what is made; or an `LM`, a pruned result or a transformers
        model, whose variants end with this process. None opens the kept session of the default model.
    calibration, evaluation
        Tokens or text, as for `workbench.session.Session`.
    panel
        Which panel to begin with: "prune", "execute", "attend", "decode" or "compare".
    **options
        What to choose first, e.g. ``method`` and ``sparsity``; the rest goes to `Session`.

    Raises
    ------
    ArgumentError
        If a name is unknown, or a session is passed together with texts.

    Examples
    --------
    >>> workbench.studio(workbench.open())                                           # doctest: +SKIP
    """
    if model is None:
        from workbench.session import open as open_session

        model = open_session()
    return Studio(session_of(model, calibration, evaluation, **options), panel=panel)


class Studio(Panel):
    """The widget.

    Parameters
    ----------
    session
        What to work on.
    panel
        Which panel to begin with.

    Attributes
    ----------
    panels : dict
        Those that were visited, by name.
    """

    _esm = join_modules("maths.js", "dom.js", "primitives.js", "inside.js", "export.js", "studio.js")
    _css = join_sheets("joined.css")

    titles: t.List[Any] = t.List().tag(sync=True)
    facts = t.Dict().tag(sync=True)
    panel = t.Unicode().tag(sync=True)
    places = t.Dict().tag(sync=True)
    chooser = t.Dict().tag(sync=True)
    written = t.Dict().tag(sync=True)

    def __init__(self, session: Session | Desk, *, panel: str = "prune") -> None:
        if panel not in PANELS:
            raise unknown("panel", panel, PANELS)
        desk = desk_of(session)
        self.panels: dict[str, Panel] = {}
        super().__init__(
            desk,
            titles=[[name, title] for name, (title, _) in PANELS.items()],
            facts=_state.facts(desk.session),
            panel=panel,
            chooser=state.chooser(desk),
        )
        self.visit(panel)
        self.observe(lambda change: self.visit(change["new"]), "panel")

    # Panels

    def visit(self, name: str) -> Panel:
        """Go to a panel; it is made when it is visited first."""
        if name not in PANELS:
            raise unknown("panel", name, PANELS)
        if name not in self.panels:
            self.panels[name] = PANELS[name][1](self.desk)
            self.publish(places={n: p.reference for n, p in self.panels.items()})
        self.panel = name
        return self.panels[name]

    @property
    def busy(self) -> bool:
        """Whether something is being worked out in any panel."""
        return super().busy or any(panel.busy for panel in self.panels.values())

    def close(self) -> None:
        """Take everything off the screen; what runs is cancelled. The session stays open."""
        for panel in getattr(self, "panels", {}).values():
            panel.close()
        super().close()

    # From the front end

    def commands(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """What the header does."""
        return {
            "select": lambda asked: self.desk.select(int(asked["number"])),
            "undo": lambda _: self.move(self.session.undo),
            "redo": lambda _: self.move(self.session.redo),
            "export": lambda asked: self.export(asked["what"], asked.get("folder", "")),
        }

    def export(self, what: str, folder: str | Path = "exports") -> None:
        """Write into a folder: "model" (a checkpoint), "recipe" (JSON), "python" or "report" (HTML).

        What is written of a variant is of the one that is looked at.
        """
        work = _exports.writing(self, what, folder)
        self.publish(written={}, error={})
        self.desk.run(self, "export", "Writing", work, lambda told: self.publish(written=told))

    # From the desk

    def job_told(self, job: dict[str, Any], mine: bool) -> None:
        """The header shows the job of any panel."""
        del mine
        super().job_told(job, True)

    def selection_changed(self) -> None:
        """Show which variant is looked at."""
        self.publish(chooser=state.chooser(self.desk))

    def variants_changed(self) -> None:
        """List the variants, as `selection_changed` does, which follows."""

    # Without a kernel

    def views(self) -> tuple[View, ...]:
        """The panels that were visited."""
        return tuple(self.panels.values())

    def to_html(self, path: str | Path | None = None) -> str:
        """A page with the comparison and every panel that was visited: traces, maps and masks still move."""
        if "compare" not in self.panels:
            self.panels["compare"] = ComparePanel(self.desk)
            self.publish(places={n: p.reference for n, p in self.panels.items()})
        return super().to_html(path)

    def frozen(self) -> dict[str, Any]:
        """A page shows what was visited only."""
        return {**super().frozen(), "titles": [pair for pair in self.titles if pair[0] in self.panels], "written": {}}

    def static_text(self) -> str:
        """Model and variants."""
        return f"Studio: {self.facts.get('name', '')}, {len(self.session.variants)} variants"

    def static_html(self) -> str:
        """The comparison, and the pruning panel's picture and figures."""
        prune = self.panels.get("prune")
        shown = "" if prune is None else prune.static_html()
        return shown if not self.session.variants and shown else self.session.compare().to_html() + shown
