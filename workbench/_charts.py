"""Bars, lines and heat maps as static SVG or PNG, from plain numbers. Public in `workbench.render`."""

from __future__ import annotations

import base64
import html
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench._format import number
from workbench.errors import ArgumentError

#: Okabe and Ito's eight colours, told apart by nearly everyone; black is left to the page's own text colour.
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#999999")
#: Ten anchors of cividis (Nunez, Anderton and Renslow 2018), dark to light; linear in between.
CIVIDIS = (
    "#00224e",
    "#123570",
    "#3b496c",
    "#575d6d",
    "#707173",
    "#8a8678",
    "#a59c74",
    "#c3b369",
    "#e1cc55",
    "#fee838",
)


def cividis(values: Any) -> np.ndarray:
    """Colours of magnitudes.

    Parameters
    ----------
    values
        Numbers in [0, 1]; outside is clipped, NaN is grey.

    Returns
    -------
    uint8 [..., 3]
    """
    values = np.asarray(values, dtype=np.float64)
    anchors = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in CIVIDIS], dtype=np.float64)
    at = np.clip(np.nan_to_num(values), 0, 1) * (len(anchors) - 1)
    mixed = np.stack([np.interp(at, np.arange(len(anchors)), anchors[:, i]) for i in range(3)], axis=-1)
    return np.where(np.isnan(values)[..., None], 136, np.rint(mixed)).astype(np.uint8)


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    *,
    title: str,
    unit: str = "",
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
) -> str:
    """A horizontal bar chart.

    Parameters
    ----------
    labels, values
        One bar each, from zero; values must not be negative.
    title
        What is shown; the numbers are added to it for screen readers.
    unit
        Written behind every value.
    low, high
        Ends of an interval, drawn as a whisker.
    """
    if len(labels) != len(values):
        raise ArgumentError(f"{len(labels)} labels for {len(values)} values: give one label per bar")
    ends = list(values) + list(high if high is not None else [])
    top = max([v for v in ends if math.isfinite(v)], default=1.0) or 1.0
    parts, row = [], 22
    for i, (label, value) in enumerate(zip(labels, values, strict=True)):
        y, length = i * row + 4, _scaled(value, top)
        parts.append(
            f'<text x="150" y="{y + 12}" text-anchor="end">{html.escape(_short(str(label), 24))}</text>'
            f'<rect x="156" y="{y}" width="{length:.1f}" height="14" fill="{OKABE_ITO[i % 8]}"/>'
        )
        tip = length
        if low is not None and high is not None:
            a, tip = _scaled(low[i], top), max(length, _scaled(high[i], top))
            b = _scaled(high[i], top)
            parts.append(f'<path d="M{156 + a:.1f} {y + 7}H{156 + b:.1f}" stroke="currentColor" fill="none"/>')
        parts.append(f'<text x="{162 + tip:.1f}" y="{y + 12}">{html.escape(number(value) + unit)}</text>')
    stated = "; ".join(f"{n} {number(v)}{unit}" for n, v in zip(labels, values, strict=True))
    return _svg(560, len(values) * row + 6, f"{title}: {stated}", "".join(parts))


def lines(
    series: Mapping[str, Mapping[str, Sequence[float]]], *, title: str, x_label: str = "", y_label: str = ""
) -> str:
    """A line chart with interval bands, e.g. of a perplexity that converges.

    Parameters
    ----------
    series
        Name to ``{"x": ..., "y": ..., "low": ..., "high": ...}``; the band is optional.
    title, x_label, y_label
        What is shown; the last value of each line is added to the title for screen readers.
    """
    data = {k: {n: np.asarray(v, dtype=np.float64) for n, v in s.items()} for k, s in series.items()}
    xs = np.concatenate([s["x"] for s in data.values()] or [np.zeros(1)])
    ys = np.concatenate([s[n] for s in data.values() for n in ("y", "low", "high") if n in s] or [np.zeros(1)])
    (x0, x1), (y0, y1) = _span(xs), _span(ys)

    def place(x: np.ndarray, y: np.ndarray) -> list[str]:
        px, py = 56 + 360 * (x - x0) / (x1 - x0), 186 - 170 * (y - y0) / (y1 - y0)
        return [f"{a:.1f},{b:.1f}" for a, b in zip(px, py, strict=True) if math.isfinite(a + b)]

    parts = [_axes(x0, x1, y0, y1, x_label, y_label)]
    for i, (name, s) in enumerate(data.items()):
        colour = OKABE_ITO[i % 8]
        if "low" in s and "high" in s:
            band = place(s["x"], s["high"]) + place(s["x"][::-1], s["low"][::-1])
            parts.append(f'<polygon points="{" ".join(band)}" fill="{colour}" opacity="0.22"/>')
        points = " ".join(place(s["x"], s["y"]))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(
            f'<rect x="430" y="{16 + 18 * i}" width="10" height="10" fill="{colour}"/>'
            f'<text x="445" y="{25 + 18 * i}">{html.escape(_short(name, 22))}</text>'
        )
    last = "; ".join(f"{k} ends at {number(float(s['y'][-1]))}" for k, s in data.items() if len(s["y"]))
    return _svg(580, 222, f"{title}: {last}", "".join(parts))


def scatter(
    points: Sequence[tuple[str, float, float, bool]], *, title: str, x_label: str = "", y_label: str = ""
) -> str:
    """Named points; those that count are filled and joined, in the order of x.

    Parameters
    ----------
    points
        Name, x, y, and whether it counts (on a Pareto front, say); what is not finite is left out.
    title, x_label, y_label
        What is shown; the points that count are added to the title for screen readers.
    """
    known = [p for p in points if math.isfinite(p[1] + p[2])]
    (x0, x1), (y0, y1) = (_span(np.array([p[n] for p in known] or [0.0])) for n in (1, 2))
    (x0, x1), (y0, y1) = ((low - 0.06 * (high - low), high + 0.06 * (high - low)) for low, high in ((x0, x1), (y0, y1)))
    places = [(56 + 360 * (x - x0) / (x1 - x0), 186 - 170 * (y - y0) / (y1 - y0)) for _, x, y, _ in known]
    front = sorted(place for place, point in zip(places, known, strict=True) if point[3])
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in front)
    parts = [_axes(x0, x1, y0, y1, x_label, y_label)]
    parts.append(f'<polyline points="{path}" fill="none" stroke="{OKABE_ITO[0]}" stroke-dasharray="4 3"/>')
    for i, ((x, y), (name, a, b, counts)) in enumerate(zip(places, known, strict=True)):
        fill = OKABE_ITO[0] if counts else "none"
        note, mark = html.escape(f"{name}: {number(a)}, {number(b)}"), html.escape(name.split(":")[0])
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="{OKABE_ITO[0]}" stroke-width="2">'
            f"<title>{note}</title></circle>"
            f'<text x="{x + 8:.1f}" y="{y - 6 + 12 * (i % 2):.1f}" font-size="11">{mark}</text>'
        )
    stated = "; ".join(f"{name} {number(a)}, {number(b)}" for name, a, b, counts in known if counts)
    return _svg(580, 222, f"{title}: {stated}", "".join(parts))


def heatmap_svg(
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    low: float = 0.0,
    high: float = 1.0,
) -> str:
    """A small labelled heat map whose every cell carries its number.

    Parameters
    ----------
    values : [rows, columns]
        Magnitudes; NaN is grey.
    low, high
        The values of the darkest and the lightest colour.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (len(rows), len(columns)):
        raise ArgumentError(f"values of shape {values.shape} for {len(rows)} rows and {len(columns)} columns")
    colours = cividis((values - low) / ((high - low) or 1.0))
    cell, top, left = (max(14, min(46, 460 // max(1, len(columns)))), 70, 90)
    parts = [
        f'<text transform="translate({left + cell * (j + 0.5):.0f} {top - 6}) rotate(-40)">'
        f"{html.escape(_short(name, 12))}</text>"
        for j, name in enumerate(columns)
    ]
    for i, name in enumerate(rows):
        y = top + 14 * i
        label = html.escape(_short(name, 13))
        parts.append(f'<text x="{left - 6}" y="{y + 11}" text-anchor="end">{label}</text>')
        for j, column in enumerate(columns):
            r, g, b = (int(c) for c in colours[i, j])
            tip = html.escape(f"{name} {column}: {number(float(values[i, j]))}")
            parts.append(
                f'<rect x="{left + cell * j}" y="{y}" width="{cell - 1}" height="13" fill="rgb({r},{g},{b})">'
                f"<title>{tip}</title></rect>"
            )
    known = values[np.isfinite(values)]
    stated = f"{number(float(known.min()))} to {number(float(known.max()))}" if known.size else "no values"
    width, height = left + cell * len(columns) + 40, top + 14 * len(rows) + 6
    return _svg(width, height, f"{title}: {len(rows)} x {len(columns)}, {stated}", "".join(parts))


def heatmap_png(values: Any, *, title: str, low: float = 0.0, high: float = 1.0, zoom: int = 1) -> str:
    """A heat map of any size as one ``img`` with its pixels inside.

    Parameters
    ----------
    values : [height, width]
        Magnitudes; NaN is grey.
    low, high
        The values of the darkest and the lightest colour.
    zoom
        Screen pixels per value.
    """
    values = np.asarray(values, dtype=np.float64)
    pixels = cividis((values - low) / ((high - low) or 1.0))
    data = base64.b64encode(png(pixels)).decode()
    known = values[np.isfinite(values)]
    stated = f"{number(float(known.min()))} to {number(float(known.max()))}" if known.size else "no values"
    label = html.escape(f"{title}: {values.shape[0]} x {values.shape[1]}, {stated}")
    return (
        f'<img alt="{label}" title="{label}" width="{values.shape[1] * zoom}" '
        f'height="{values.shape[0] * zoom}" style="image-rendering:pixelated" '
        f'src="data:image/png;base64,{data}"/>'
    )


def png(pixels: np.ndarray) -> bytes:
    """Encode ``uint8 [height, width]`` (grey) or ``[height, width, 3]`` (RGB) as PNG."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise ArgumentError(f"pixels {pixels.dtype} {pixels.shape}: want uint8 [height, width] or [height, width, 3]")
    height, width = pixels.shape[:2]
    flat = pixels.reshape(height, -1)
    raw = np.hstack([np.zeros((height, 1), np.uint8), flat]).tobytes()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def _svg(width: float, height: float, label: str, body: str) -> str:
    label = html.escape(label)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'style="max-width:100%;height:auto" font-size="12" '
        f'font-family="system-ui,sans-serif" fill="currentColor"><title>{label}</title>{body}</svg>'
    )


def _axes(x0: float, x1: float, y0: float, y1: float, x_label: str, y_label: str) -> str:
    return (
        '<path d="M56 16V186H416" fill="none" stroke="currentColor" opacity="0.6"/>'
        f'<text x="56" y="202">{number(x0)}</text><text x="416" y="202" text-anchor="end">{number(x1)}</text>'
        f'<text x="52" y="186" text-anchor="end">{number(y0)}</text>'
        f'<text x="52" y="26" text-anchor="end">{number(y1)}</text>'
        f'<text x="236" y="216" text-anchor="middle">{html.escape(x_label)}</text>'
        f'<text transform="translate(14 101) rotate(-90)" text-anchor="middle">{html.escape(y_label)}</text>'
    )


def _span(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def _scaled(value: float, top: float) -> float:
    return 300.0 * min(max(value, 0.0), top) / top if not math.isnan(value) else 0.0


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
