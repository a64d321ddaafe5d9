"""The panel Decode: let the variant that is looked at speak, or draft for the dense model, and watch it step by step.

What `Session.generate` makes of a prompt and a method is shown in a `Theatre`, alone or beside another one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import traitlets as t

from workbench.errors import ArgumentError
from workbench.session import Session
from workbench_widgets import _generations as made
from workbench_widgets import _session_state as state
from workbench_widgets._base import join_modules, join_sheets
from workbench_widgets._desk import Desk, desk_of
from workbench_widgets._panel import Framed
from workbench_widgets.theatre import Theatre

MOST = 8  # generations that are kept


class DecodePanel(Framed):
    """The widget.

    Parameters
    ----------
    session
        Whose variants decode, or the `Desk` of a studio.

    Attributes
    ----------
    generations : dict of int to Generation
        The last ones.
    """

    _esm = join_modules("maths.js", "dom.js", "run.js", "inside.js", "decode_panel.js")
    _css = join_sheets("joined.css")

    methods: t.List[Any] = t.List().tag(sync=True)
    variant = t.Dict().tag(sync=True)
    prompt = t.Unicode().tag(sync=True)
    rows: t.List[Any] = t.List().tag(sync=True)
    shown: t.List[Any] = t.List().tag(sync=True)

    def __init__(self, session: Session | Desk) -> None:
        desk = desk_of(session)
        self.generations: dict[int, Any] = {}
        self._count = 0
        prompt = desk.session.prompt if desk.session is not None else ""
        super().__init__(desk, methods=made.methods(), variant=state.looked_at(desk), prompt=prompt)

    def generate(
        self,
        method: str = "greedy",
        *,
        use: str = "model",
        tokens: int = 64,
        temperature: float = 0.0,
        pattern: str = "",
    ) -> None:
        """Continue the prompt; the theatre opens when it is done.

        Parameters
        ----------
        use
            "model": what is looked at decodes; "draft": it drafts for the dense model.
        pattern
            A regular expression, for methods that are held to one.
        """
        self.desk.refuse_if_busy()
        chosen = made.asked(method, use, self.desk, {"max_new_tokens": tokens, "temperature": temperature}, pattern)
        prompt, session = self.prompt, self.session

        def work(progress: Any) -> Any:
            return session.generate(prompt, method, progress=progress, **chosen)

        row = {"method": method, "who": made.who(self.desk, use), "prompt": prompt}
        self.publish(error={})
        self.desk.run(self, "decode", "Decoding", work, lambda made_: self._made(made_, row))

    def see(self, *numbers: int) -> None:
        """Show one generation, or two side by side."""
        missing = [n for n in numbers if n not in self.generations]
        if missing or not 1 <= len(numbers) <= 2:
            raise ArgumentError(f"numbers={numbers!r}: one or two of {sorted(self.generations)}")
        rows = {row["number"]: row for row in self.rows}
        titles = {entry["name"]: entry["title"] for entry in self.methods}
        names = [f"{titles.get(rows[n]['method'], rows[n]['method'])} · {rows[n]['who']}" for n in numbers]
        stage = Theatre(*(self.generations[n] for n in numbers), names=names)
        self.show(stage, shown=list(numbers))

    def _made(self, generation: Any, row: dict[str, Any]) -> None:
        self._count += 1
        self.generations[self._count] = generation
        rows = [*self.rows, {"number": self._count, **row, **made.figures(generation)}][-MOST:]
        self.generations = {r["number"]: self.generations[r["number"]] for r in rows}
        self.publish(rows=rows)
        self.see(self._count)

    def commands(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """What the buttons do."""
        return {
            "generate": lambda asked: self.generate(**{k: v for k, v in asked.items() if k != "command"}),
            "see": lambda asked: self.see(*(int(n) for n in asked["numbers"])),
        }

    def selection_changed(self) -> None:
        """Say which variant it is."""
        self.publish(variant=state.looked_at(self.desk))

    def static_text(self) -> str:
        """What is shown."""
        return "Decode: nothing was decoded yet" if self.inside is None else self.inside.static_text()

    def static_html(self) -> str:
        """What is shown, without scripts."""
        return "" if self.inside is None else self.inside.static_html()
