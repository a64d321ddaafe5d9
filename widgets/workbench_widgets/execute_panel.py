"""The panel Execute: time the masks of a variant kernel by kernel, then compile all of it into a variant that is run.

The kernel lab says which format pays; `Session.compile` makes the new variant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import traitlets as t

from workbench.execute.compiled import FORMATS
from workbench.session import Session
from workbench_widgets import _session_state as state
from workbench_widgets._base import join_modules, join_sheets
from workbench_widgets._desk import Desk, desk_of
from workbench_widgets._panel import Framed
from workbench_widgets.kernel_lab import KernelLab

VALUES = ("fp32", "bf16", "int8")


class ExecutePanel(Framed):
    """The widget.

    Parameters
    ----------
    session
        Whose variants are timed and compiled, or the `Desk` of a studio.
    """

    _esm = join_modules("maths.js", "dom.js", "run.js", "inside.js", "execute_panel.js")
    _css = join_sheets("joined.css")

    options = t.Dict().tag(sync=True)
    variant = t.Dict().tag(sync=True)

    def __init__(self, session: Session | Desk) -> None:
        desk = desk_of(session)
        super().__init__(desk, options={"formats": list(FORMATS), "values": list(VALUES)})
        lab = KernelLab(desk)
        self.show(lab, variant=state.looked_at(desk))
        lab.selection_changed()

    def compile(self, format: str = "auto", values: str = "fp32") -> None:  # noqa: A002 - as in `workbench.compile`
        """Compile what is looked at into a variant."""
        self.desk.refuse_if_busy()
        base, session = self.desk.pruned, self.session
        number = 0 if base is None else base.number

        def work(progress: Any) -> Any:
            return session.compile(format, values, variant=number, progress=progress)

        self.publish(error={})
        self.desk.run(self, "compile", "Compiling", work, lambda made: self.desk.changed(made.number))

    def commands(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """What the buttons do."""
        return {"compile": lambda asked: self.compile(asked["format"], asked["values"])}

    def selection_changed(self) -> None:
        """Say which variant it is."""
        self.publish(variant=state.looked_at(self.desk))

    def static_text(self) -> str:
        """Which variant is looked at."""
        return f"Execute: {self.variant['name']}"

    def static_html(self) -> str:
        """The kernel lab as it stands."""
        return "" if self.inside is None else self.inside.static_html()
