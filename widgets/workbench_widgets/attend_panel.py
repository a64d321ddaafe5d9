"""The panel Attend: let the variant that is looked at read a text, and see its attention in the lens.

The study that `Session.study` makes of the text is shown in a `Lens`, one for each variant that has read something.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import traitlets as t

from workbench.errors import ArgumentError
from workbench.session import Session
from workbench_widgets import _session_state as state
from workbench_widgets._base import join_modules, join_sheets
from workbench_widgets._desk import Desk, desk_of
from workbench_widgets._lens_state import seen_maps
from workbench_widgets._panel import Framed
from workbench_widgets._worker import Latest
from workbench_widgets.lens import Lens

MOST = 3  # studies that are kept open; each has states in a temporary file
TEXT = (
    "The lighthouse keeper wrote down the weather every morning. On Monday the wind came from the north and the sea "
    "was grey. On Tuesday the wind came from the south and the sea was green. On Wednesday there was no wind at all, "
    "and the keeper wrote that the sea was as flat as the page on which he wrote. A ship had passed in the night "
    "without a light. He had heard it, but he had not seen it, and so he did not write it down. On Thursday the wind "
    "came from the north again, and the keeper turned back three pages to see what he had written on Monday."
)


class AttendPanel(Framed):
    """The widget.

    Parameters
    ----------
    session
        Whose variants read, or the `Desk` of a studio.
    """

    _esm = join_modules("maths.js", "dom.js", "primitives.js", "run.js", "inside.js", "attend_panel.js")
    _css = join_sheets("joined.css")

    variant = t.Dict().tag(sync=True)
    text = t.Unicode(TEXT).tag(sync=True)
    reads = t.Dict().tag(sync=True)

    def __init__(self, session: Session | Desk) -> None:
        self._lenses: OrderedDict[int, Lens] = OrderedDict()
        self._counter: Latest[str] = Latest(self._count, self.report)
        desk = desk_of(session)
        super().__init__(desk, variant=state.looked_at(desk))
        self.observe(lambda change: self._counter.ask(change["new"]), "text")
        self._counter.ask(self.text)

    def study(self, *, patterns: bool = False, kv: bool = False) -> None:
        """Read the text with what is looked at, as far as the model can; the lens opens when it is done."""
        self.desk.refuse_if_busy()
        if not self.text.strip():
            raise ArgumentError("there is no text to read: write some, at least two words")
        number, text, session = self._number, self.text, self.session
        chosen: dict[str, Any] = {"patterns": "all" if patterns else (), "kv": "all" if kv else ()}

        def work(progress: Any) -> Lens:
            tokens = _tokens(session.dense, text)[: _most(session.dense)]
            return Lens(session.study(tokens, variant=number, states=True, progress=progress, **chosen))

        def finished(lens: Lens) -> None:
            self._keep(number, lens)
            self._open()

        self.publish(error={})
        self.desk.run(self, "study", "Reading", work, finished)

    @property
    def busy(self) -> bool:
        """Whether a text is read, or its tokens are counted."""
        return super().busy or self._counter.busy

    def _count(self, text: str) -> None:
        lm = self.session.dense
        self.publish(reads={} if lm.tokenizer is None else {"tokens": len(_tokens(lm, text)), "most": _most(lm)})

    @property
    def _number(self) -> int:
        """Of the weights that read; those of a compiled variant are its parent's."""
        base = self.desk.pruned
        return 0 if base is None else base.number

    def _keep(self, number: int, lens: Lens) -> None:
        old = self._lenses.pop(number, None)
        self._lenses[number] = lens
        gone = [old] if old is not None else []
        if len(self._lenses) > MOST:
            gone.append(self._lenses.popitem(last=False)[1])
        if self.inside in gone:
            self.show(None, keep=True)
        for one in gone:
            _end(one)

    def _open(self) -> None:
        self.show(self._lenses.get(self._number), keep=True, variant=state.looked_at(self.desk))

    def commands(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """What the buttons do."""
        return {"study": lambda asked: self.study(patterns=bool(asked.get("patterns")), kv=bool(asked.get("kv")))}

    def selection_changed(self) -> None:
        """Show what this variant has read, if anything."""
        self._open()

    def close(self) -> None:
        """Take it off the screen, with every lens."""
        lenses = getattr(self, "_lenses", {})
        for lens in lenses.values():
            _end(lens)
        lenses.clear()
        super().close()

    def static_text(self) -> str:
        """The study that is shown."""
        return "Attend: nothing was read yet" if self.inside is None else self.inside.static_text()

    def static_html(self) -> str:
        """The study that is shown, without scripts."""
        return "" if self.inside is None else self.inside.static_html()


def _tokens(lm: Any, text: str) -> list[int]:
    """Token ids of a text, however long it is."""
    if lm.tokenizer is None:
        raise ArgumentError("the model has no tokenizer: it cannot read text")
    return list(lm.tokenizer(text, verbose=False)["input_ids"])


def _most(lm: Any) -> int:
    """Tokens that the model takes."""
    return int(lm.module.config.max_position_embeddings)


def _end(lens: Lens) -> None:
    """Close a lens and the temporary file of its states."""
    lens.close()
    maps = seen_maps(lens.study)
    if maps is not None:
        maps.close()
