"""Static pictures of lessons: a guess and results on one line, and text that is folded away."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Mapping

from workbench._charts import OKABE_ITO
from workbench._format import number

WIDTH, LEFT, RIGHT, ROW = 580, 24, 556, 22
_EMPHASIS = re.compile(r"\*(\S[^*\n]*?)\*")
DIGITS = 3  # of what is said: nobody guesses more
STEEP = 30.0  # from this ratio on the scale is logarithmic


def scale(
    guess: float | None, results: Mapping[str, float], *, title: str, unit: str = "", asked: tuple[float, ...] = ()
) -> str:
    """A line with the results as dots and the guess as a triangle, each with its name and number.

    Parameters
    ----------
    guess
        None where there was none.
    results
        By name.
    title
        What is shown; the numbers are added to it for screen readers.
    asked
        Ends of the scale that the guess was made on: the line reaches at least as far.
    """
    marks = [*results.items(), *([("your guess", guess)] if guess is not None else [])]
    values = [*(value for _, value in marks), *asked]
    steep = min(values) > 0 and max(values) / min(values) > STEEP
    place = _places(values, steep)
    base = 14 + ROW * len(marks)
    parts = [f'<path d="M{LEFT} {base}H{RIGHT}" stroke="currentColor" opacity="0.6"/>']
    middle = (LEFT + RIGHT) / 2
    inwards = sorted(marks, key=lambda mark: (place(mark[1]) > middle, -abs(place(mark[1]) - middle)))
    for row, (name, value) in enumerate(inwards):  # the outer ones higher: no line goes through a label
        x, y = place(value), 16 + ROW * row
        own = name == "your guess" and guess is not None and value == guess and name not in results
        colour = OKABE_ITO[1 if own else 0]
        shape = (
            f'<path d="M{x:.1f} {base - 7}l6 -10h-12z" fill="{colour}"/>'
            if own
            else f'<circle cx="{x:.1f}" cy="{base}" r="5" fill="{colour}"/>'
        )
        end = x > middle
        label = html.escape(f"{name} {number(value, DIGITS)} {unit}".strip())
        parts.append(
            f'<path d="M{x:.1f} {y + 2}V{base}" stroke="{colour}" stroke-dasharray="2 3"/>{shape}'
            f'<text x="{x + (-6 if end else 6):.1f}" y="{y}" text-anchor="{"end" if end else "start"}">{label}</text>'
        )
    low, high = _ends(values, steep)
    ends = f"{number(low, DIGITS)} to {number(high, DIGITS)}{', logarithmic' if steep else ''}"
    stated = html.escape(
        f"{title}: " + "; ".join(f"{name} {number(value, DIGITS)} {unit}".strip() for name, value in marks)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{stated}" width="{WIDTH}" '
        f'height="{base + 24}" '
        f'viewBox="0 0 {WIDTH} {base + 24}" style="max-width:100%;height:auto" font-size="12" '
        f'font-family="system-ui,sans-serif" fill="currentColor"><title>{stated}</title>{"".join(parts)}'
        f'<text x="{RIGHT}" y="{base + 20}" text-anchor="end" opacity="0.75">{ends}</text></svg>'
    )


def _ends(values: list[float], steep: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if not steep and 0 < low < 0.5 * high:
        low = 0.0  # a ratio is seen where the line begins at nothing
    return low, high


def _places(values: list[float], steep: bool) -> Callable[[float], float]:
    def to(value: float) -> float:
        return math.log(value) if steep else value

    low, high = map(to, _ends(values, steep))
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return LEFT + 10 + (RIGHT - LEFT - 20) * (to(value) - low) / span

    return place


def folded(summary: str, text: str) -> str:
    """Text behind a line that opens it: paragraphs, `code` and *emphasis*."""
    pieces = html.escape(text.strip()).split("`")
    marked = "".join(
        f"<code>{piece}</code>" if n % 2 else _EMPHASIS.sub(r"<em>\1</em>", piece) for n, piece in enumerate(pieces)
    )
    paragraphs = "".join(f"<p>{part.strip()}</p>" for part in marked.split("\n\n"))
    return f"<details><summary>{html.escape(summary)}</summary>{paragraphs}</details>"
