"""Lines over a common axis, as a picture in a notebook and as numbers elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench import render


@dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """A static picture and what it says in words."""

    svg: str
    words: str

    def _repr_html_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return self.words


def plot(
    x: Sequence[float], lines: Mapping[str, Sequence[float]], *, title: str, x_label: str = "", y_label: str = ""
) -> Picture:
    """Draw lines.

    Parameters
    ----------
    x
        Common to all lines.
    lines
        Name to values, as many as in ``x``.

    Examples
    --------
    >>> plot([0, 1], {"error": [0.5, 0.25]}, title="Halved")
    Halved
    error  0.5 0.25
    """
    largest = max((abs(float(v)) for values in lines.values() for v in values), default=0.0)
    digits = 2 - math.floor(math.log10(largest)) if largest > 0 else 0  # more would not fit beside the axis
    rounded = {name: [round(float(v), digits) for v in values] for name, values in lines.items()}
    series = {name: {"x": list(x), "y": values} for name, values in rounded.items()}
    svg = render.lines(series, title=title, x_label=x_label, y_label=y_label)
    width = max(map(len, lines), default=0)
    rows = [f"{name:{width}}  {' '.join(f'{v:.4g}' for v in values)}" for name, values in lines.items()]
    return Picture(svg, "\n".join([title, *rows]))
