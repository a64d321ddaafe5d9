"""The theatre: a trace, step by step. A thin view over `workbench.decode.replay`; nothing is decoded here.

    trace --replay--> arrays --once, as bytes--> front end, which scrubs by itself

No step costs a message, so a saved page scrubs as well as a notebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import traitlets as t

from workbench.decode.replay import Replay, replay
from workbench.decode.trace import Trace, as_trace
from workbench.errors import ArgumentError
from workbench_widgets import _theatre_state
from workbench_widgets._base import View, join_modules, join_sheets

_MODULES = (
    "maths.js", "dom.js", "primitives.js", "canvas_view.js", "canvas_map.js", "link.js", "theatre_data.js",
    "theatre_maths.js", "theatre_text.js", "theatre_token.js", "theatre_nodes.js", "theatre_draft.js",
    "theatre_search.js", "axes.js", "theatre_cost.js", "theatre_maps.js", "theatre_events.js", "theatre_stage.js",
    "theatre_transport.js", "theatre.js",
)  # fmt: skip


def theatre(trace: Any, other: Any = None, *, frame: int = -1, names: Sequence[str] = ()) -> Theatre:
    """Watch a decode step by step: every token, every draft, what it cost.

    Parameters
    ----------
    trace
        What `workbench.generate` returned, its `Trace`, or a saved trace's file. No model is needed.
    other
        A second one on the same prompt, to be shown beside it.
    frame
        Where to begin: 0 is the prompt, -1 the end.
    names
        What to call them, where the methods' names do not tell them apart.

    Raises
    ------
    ArgumentError
        If it is no trace, or the prompts differ.

    Examples
    --------
    >>> workbench.theatre(workbench.generate(lm, "Copy: a b c", "prompt-lookup"))      # doctest: +SKIP
    """
    return Theatre(trace, other, frame=frame, names=names)


class Theatre(View):
    """The widget; its traits are set once.

    Parameters
    ----------
    trace, other, frame, names
        As for `theatre`.

    Attributes
    ----------
    replays : tuple of Replay
        What is on the stage, for looking at it in Python.
    """

    _esm = join_modules(*_MODULES)
    _css = join_sheets("theatre.css")

    plays: t.List[Any] = t.List().tag(sync=True)
    data = t.Bytes(b"").tag(sync=True)
    start = t.Int(-1).tag(sync=True)
    names: t.List[Any] = t.List().tag(sync=True)

    def __init__(self, trace: Any, other: Any = None, *, frame: int = -1, names: Sequence[str] = ()) -> None:
        self.replays = tuple(replay(value) for value in _traces(trace, other))
        plays, data = _theatre_state.pack([_theatre_state.stage(r) for r in self.replays])
        if not isinstance(frame, int) or not -1 <= frame < len(self.replays[0]):
            raise ArgumentError(f"frame={frame!r}: 0 to {len(self.replays[0]) - 1}, or -1 for the end")
        super().__init__(plays=plays, data=data, start=frame, names=list(names))

    def static_text(self) -> str:
        """The figures of what is shown."""
        return "\n\n".join(r.to_text() for r in self.replays)

    def static_html(self) -> str:
        """Text, one draft, maps and figures, without scripts."""
        shown = [Replay.to_html(r) for r in self.replays]
        if len(shown) == 1:
            return shown[0]
        columns = "".join(f'<div style="flex:1 1 380px;min-width:0">{html}</div>' for html in shown)
        return f'<div style="display:flex;flex-wrap:wrap;gap:24px">{columns}</div>'


def _traces(trace: Any, other: Any) -> list[Trace]:
    found = [as_trace(trace)]
    if other is None:
        return found
    second = as_trace(other)
    if second.prompt.tolist() != found[0].prompt.tolist():
        raise ArgumentError(
            f"other={second!r} answers another prompt ({len(second.prompt)} tokens, not {len(found[0].prompt)} or not "
            "the same): decode both from one prompt"
        )
    return [*found, second]
