"""Static pictures of results: pure functions from figures to escaped HTML or SVG, and their text twins.

What these build needs no kernel, no JavaScript and no network, and reads in dark and light themes: text takes
the page's own colour, categories are Okabe-Ito, magnitudes cividis. Every picture is an ``img`` to a screen
reader, with a title that states the numbers. Charts are in `workbench._charts` and are named here too.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench._charts import CIVIDIS, OKABE_ITO, bars, cividis, heatmap_png, heatmap_svg, lines, png
from workbench._format import amount, number, share

__all__ = [
    "CIVIDIS",
    "OKABE_ITO",
    "Section",
    "amount",
    "bars",
    "bundle",
    "cividis",
    "figures",
    "heatmap_png",
    "heatmap_svg",
    "join",
    "lines",
    "number",
    "png",
    "prose",
    "section",
    "share",
    "side_by_side",
    "table",
    "text_table",
]

_FRAME = (
    "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;"
    "color:var(--jp-ui-font-color1,currentColor);max-width:760px"
)
_LINE = "border-bottom:1px solid var(--jp-border-color2,#8888)"


@dataclass(frozen=True, slots=True)
class Section:
    """One titled part of a result, in both forms; the text states whatever the picture shows."""

    title: str
    text: str
    html: str


def section(title: str, rows: Iterable[Sequence[Any]], header: Sequence[str] = (), *, picture: str = "") -> Section:
    """A section from one table: text and HTML say the same.

    Parameters
    ----------
    title
        Heading of the section.
    rows, header
        As for `table`.
    picture
        HTML that is put above the table, e.g. of `bars`; the table must state its numbers.
    """
    kept = [list(row) for row in rows]
    return Section(title, text_table(kept, header), picture + table(kept, header))


def prose(title: str, text: str) -> Section:
    """A section that is a paragraph."""
    return Section(title, text, f'<p style="margin:4px 0;white-space:pre-wrap">{html.escape(text)}</p>')


def table(rows: Iterable[Sequence[Any]], header: Sequence[str] = ()) -> str:
    """An HTML table; numbers are right-aligned, everything is escaped.

    Examples
    --------
    >>> "<td" in table([("a < b", 1)]), "a &lt; b" in table([("a < b", 1)])
    (True, True)
    """
    head = "".join(
        f'<th scope="col" style="text-align:left;padding:2px 10px;{_LINE}">{html.escape(str(h))}</th>' for h in header
    )
    body = "".join(f"<tr>{''.join(_cell(x) for x in row)}</tr>" for row in rows)
    return (
        '<table style="border-collapse:collapse;margin:6px 0;font-variant-numeric:tabular-nums">'
        f"{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"
    )


def text_table(rows: Iterable[Sequence[Any]], header: Sequence[str] = ()) -> str:
    """The same table in characters, columns aligned.

    Examples
    --------
    >>> print(text_table([("dense", 12.5), ("pruned", 103.0)], ("model", "perplexity")))
    model   perplexity
    dense         12.5
    pruned         103
    """
    cells = [[_words(x) for x in row] for row in rows]
    right = [[isinstance(x, int | float) and not isinstance(x, bool) for x in row] for row in rows] if cells else []
    lines_ = ([list(map(str, header))] if header else []) + cells
    if not lines_:
        return ""
    widths = [max(len(row[i]) if i < len(row) else 0 for row in lines_) for i in range(max(map(len, lines_)))]
    sides = ([[False] * len(header)] if header else []) + right
    return "\n".join(
        "  ".join(x.rjust(w) if r else x.ljust(w) for x, w, r in zip(row, widths, side, strict=False)).rstrip()
        for row, side in zip(lines_, sides, strict=True)
    )


def figures(pairs: Mapping[str, Any]) -> str:
    """Key figures side by side: a small label above a large value.

    Parameters
    ----------
    pairs
        Label to value.
    """
    tiles = "".join(
        '<div style="margin:4px 22px 4px 0">'
        f'<div style="opacity:.75;font-size:12px">{html.escape(label)}</div>'
        f'<div style="font-size:20px;font-weight:600">{html.escape(_words(value))}</div></div>'
        for label, value in pairs.items()
    )
    return f'<div style="display:flex;flex-wrap:wrap">{tiles}</div>'


def side_by_side(before: str, after: str, titles: tuple[str, str] = ("before", "after")) -> str:
    """Two texts next to each other, line breaks kept.

    Parameters
    ----------
    before, after
        Any text, e.g. what the dense and the pruned model write.
    titles
        Headings of the two columns.
    """
    columns = "".join(
        '<div style="flex:1 1 240px;min-width:0">'
        f'<div style="font-weight:600;{_LINE}">{html.escape(title)}</div>'
        '<div style="white-space:pre-wrap;overflow-wrap:anywhere;padding:4px 0">'
        f"{html.escape(text)}</div></div>"
        for title, text in zip(titles, (before, after), strict=True)
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:18px">{columns}</div>'


def join(title: str, sections: Iterable[Section]) -> tuple[str, str]:
    """Text and HTML of a whole result.

    Parameters
    ----------
    title
        The result's one line.
    sections
        In reading order; both forms name each of them.

    Returns
    -------
    tuple of str
        Text, HTML.
    """
    parts = tuple(sections)
    text = "\n\n".join([title, *(f"{part.title}\n{_indent(part.text)}" for part in parts)])
    inner = "".join(
        f'<section aria-label="{html.escape(part.title)}"><h4 style="margin:10px 0 2px;font-size:13px">'
        f"{html.escape(part.title)}</h4>{part.html}</section>"
        for part in parts
    )
    markup = f'<div style="{_FRAME}"><div style="font-weight:600">{html.escape(title)}</div>{inner}</div>'
    return text, markup


def bundle(text: str, html: str) -> dict[str, str]:
    """What ``_repr_mimebundle_`` returns: text for terminals and search, HTML for pages."""
    return {"text/plain": text, "text/html": html}


def _words(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    return number(value) if isinstance(value, int | float) else str(value)


def _cell(value: Any) -> str:
    numeric = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    side = "right" if numeric else "left"
    return f'<td style="text-align:{side};padding:2px 10px;vertical-align:top">{html.escape(_words(value))}</td>'


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.splitlines())
