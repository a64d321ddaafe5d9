"""Charts of results with plotly, for a closer look: hover, zoom, restyle. A result's ``.figure()`` makes them.

Every result draws itself without plotly too; these are for notebooks and for people who want the numbers under the
pointer. They need no network, and the button that would send data to a server is not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from workbench._charts import OKABE_ITO

#: What plotly is told in a notebook and in a page: no logo, nothing that leaves the machine.
CONFIG: Mapping[str, Any] = {"displaylogo": False, "modeBarButtonsToRemove": ["sendChartToCloud"]}
_INK, _GRID = "#767676", "rgba(128, 128, 128, 0.25)"  # readable on white and on black
_MARKS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


class Chart(go.Figure):
    """A plotly figure in the workbench's colours.

    Parameters
    ----------
    title, x_label, y_label
        What is shown.
    static
        The same as SVG, for readers without plotly.
    log_x, log_y
        Whether an axis is logarithmic.
    """

    def __init__(
        self, title: str, x_label: str, y_label: str, static: str = "", *, log_x: bool = False, log_y: bool = False
    ) -> None:
        super().__init__()
        self._static, self._said = static, title
        axis = {"gridcolor": _GRID, "zeroline": False, "linecolor": _INK, "ticks": "outside", "tickcolor": _INK}
        self.update_layout(
            title={"text": title, "font": {"size": 15}},
            colorway=list(OKABE_ITO),
            font={"color": _INK, "family": "system-ui, sans-serif", "size": 13},
            paper_bgcolor="rgba(0, 0, 0, 0)",
            plot_bgcolor="rgba(0, 0, 0, 0)",
            margin={"l": 64, "r": 24, "t": 48, "b": 56},
            height=380,
            xaxis={"title": {"text": x_label}, "type": "log" if log_x else "linear", **axis},
            yaxis={"title": {"text": y_label}, "type": "log" if log_y else "linear", **axis},
        )

    def line(self, name: str, x: Sequence[float], y: Sequence[float], told: Sequence[str] = (), *, n: int = 0) -> None:
        """Add a line with points; ``n`` chooses its colour, dash and mark, ``told`` is said under the pointer."""
        self.add_trace(
            go.Scatter(
                x=list(x), y=list(y), name=name, mode="lines+markers", customdata=list(told) or None,
                line={"color": OKABE_ITO[n % 8], "dash": _DASHES[n % 6]},
                marker={"symbol": _MARKS[n % 8], "size": 8},
                hovertemplate="%{customdata}<extra></extra>" if told else None,
            )
        )  # fmt: skip

    def points(self, name: str, rows: Iterable[tuple[str, float, float, str]], *, filled: bool = True) -> None:
        """Add named points: a short label, x, y, and what is said under the pointer."""
        labels, x, y, told = zip(*rows, strict=True)
        self.add_trace(
            go.Scatter(
                x=x, y=y, name=name, mode="markers+text", text=labels, textposition="top center", customdata=told,
                marker={"symbol": "circle" if filled else "circle-open", "size": 11, "color": OKABE_ITO[0]},
                hovertemplate="%{customdata}<extra></extra>",
            )
        )  # fmt: skip

    def rule(self, x: Sequence[float], y: Sequence[float], name: str) -> None:
        """Add a thin line that is no data, such as a roof."""
        line = {"color": _INK, "width": 1}
        self.add_trace(go.Scatter(x=list(x), y=list(y), name=name, mode="lines", line=line, hoverinfo="name"))

    _ipython_display_ = None  # plotly's own would put its buttons back

    def _repr_mimebundle_(self, *_: Any, **__: Any) -> dict[str, Any]:
        data = {**json.loads(str(self.to_json())), "config": dict(CONFIG)}
        words = {"text/html": self._static} if self._static else {}
        return {"application/vnd.plotly.v1+json": data, "text/plain": f"Chart({self._said!r})", **words}

    def to_html(self, *args: Any, **given: Any) -> str:
        """A page that holds plotly itself and works from a file; arguments as plotly's own."""
        return str(super().to_html(*args, **{"config": dict(CONFIG), "include_plotlyjs": True, **given}))
