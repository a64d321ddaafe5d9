"""The panel Compare: every variant beside the dense model, what each costs and gives, and what two of them say.

`Session.compare` makes the table and the pictures; each row and point leads back to its recipe. `Session.generate` says
a prompt with two of them, and the `Theatre` shows both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import traitlets as t

from workbench.session import Session
from workbench_widgets import _session_state as state
from workbench_widgets._base import join_modules, join_sheets
from workbench_widgets._desk import Desk, desk_of
from workbench_widgets._panel import Framed
from workbench_widgets.theatre import Theatre

TOKENS = 48


class ComparePanel(Framed):
    """The widget.

    Parameters
    ----------
    session
        Whose variants are compared, or the `Desk` of a studio.
    """

    _esm = join_modules("maths.js", "dom.js", "run.js", "inside.js", "axes.js", "scatter.js", "compare_panel.js")
    _css = join_sheets("joined.css")

    table = t.Dict().tag(sync=True)
    recipe = t.Dict().tag(sync=True)
    selected = t.Int(0).tag(sync=True)
    prompt = t.Unicode().tag(sync=True)

    def __init__(self, session: Session | Desk) -> None:
        desk = desk_of(session)
        prompt = desk.session.prompt if desk.session is not None else ""
        super().__init__(desk, prompt=prompt, **self._now(desk))

    @staticmethod
    def _now(desk: Desk) -> dict[str, Any]:
        return {"table": state.table(desk.session), "recipe": state.recipe(desk), "selected": desk.selected}

    def beside(self, left: int = 0, right: int | None = None, tokens: int = TOKENS) -> None:
        """Continue the prompt greedily with two variants (0 is the dense model), and show both step by step."""
        self.desk.refuse_if_busy()
        prompt, session = self.prompt, self.session
        second = self.desk.selected if right is None else right
        called = {row.number: row.name for row in session.compare().rows}
        names = [called.get(number, str(number)) for number in (left, second)]

        def work(progress: Any) -> Theatre:
            both = [
                session.generate(prompt, "greedy", variant=number, max_new_tokens=tokens, progress=progress)
                for number in (left, second)
            ]
            return Theatre(*both, names=names)

        self.publish(error={})
        self.desk.run(self, "beside", "Decoding both", work, self.show)

    def commands(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """What the buttons do."""
        return {
            "select": lambda asked: self.desk.select(int(asked["number"])),
            "beside": lambda asked: self.beside(int(asked["left"]), int(asked["right"])),
        }

    def selection_changed(self) -> None:
        """Mark the variant, and say how it came about."""
        self.publish(recipe=state.recipe(self.desk), selected=self.desk.selected)

    def variants_changed(self) -> None:
        """Draw the table and the pictures anew."""
        self.publish(table=state.table(self.session))

    def static_text(self) -> str:
        """The table."""
        return str(self.session.compare().to_text())

    def static_html(self) -> str:
        """The table and the pictures."""
        return str(self.session.compare().to_html())
