"""The roofline as a static picture: GFLOP/s over FLOPs per byte, both logarithmic, every kernel a labelled point."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from workbench._charts import OKABE_ITO, _svg
from workbench._format import number

_LEFT, _TOP, _WIDTH, _HEIGHT = 56, 14, 400, 240
_SHAPES = ("circle", "square", "diamond", "triangle")


def roofline_chart(rows: Iterable[Any], roof: Any) -> str:
    """Kernels under the roofs of a machine.

    Parameters
    ----------
    rows
        With ``name``, ``tokens``, ``intensity`` (FLOPs per byte) and ``gflops``.
    roof
        With ``fp32``, ``bf16``, ``int8`` in GFLOP/s and ``dram``, ``cache_l3``, ``cache_l2`` in GB/s.

    Returns
    -------
    str
        SVG; its title states every point.
    """
    points = [r for r in rows if r.intensity > 0 and r.gflops > 0]
    peaks = {"fp32": roof.fp32, "bf16": roof.bf16, "int8": roof.int8}
    used = {k: v for k, v in peaks.items() if k == "fp32" or any(r.computes == k for r in points)}
    x0, x1 = _decades([r.intensity for r in points] + [used["fp32"] / roof.dram])
    y0, y1 = _decades([r.gflops for r in points] + list(used.values()))

    def place(x: float, y: float) -> tuple[float, float]:
        px = _LEFT + _WIDTH * (math.log10(x) - x0) / (x1 - x0)
        return px, _TOP + _HEIGHT * (y1 - math.log10(y)) / (y1 - y0)

    parts = [_frame(x0, x1, y0, y1), *_roofs(used, roof, place, (10.0**x0, 10.0**x1, 10.0**y0))]
    tokens = sorted({r.tokens for r in points})
    names = list(dict.fromkeys(r.name for r in points))
    for r in points:
        at = place(r.intensity, r.gflops)
        tip = f"{r.name}, {r.tokens} tokens: {number(r.gflops, 3)} GFLOP/s, {number(r.intensity, 3)} FLOP/byte"
        parts.append(_mark(at, tokens.index(r.tokens), OKABE_ITO[names.index(r.name) % 8], tip))
    parts += [_label(place(r.intensity, r.gflops), r.name) for r in _worth_naming(points)]
    parts += _legend(names, tokens)
    stated = "; ".join(f"{r.name} at {r.tokens} tokens {number(r.gflops, 3)} GFLOP/s" for r in points)
    height = max(_TOP + _HEIGHT + 44, 30 + 15 * (len(names) + len(tokens)))
    return _svg(620, height, f"Roofline: {stated}", "".join(parts))


def roofline_figure(title: str, rows: Iterable[Any], roof: Any) -> Any:
    """The same by plotly: a line a kernel over numbers of tokens, under the machine's roofs."""
    from workbench.figures import Chart

    given = list(rows)
    points = [r for r in given if r.intensity > 0 and r.gflops > 0]
    picture = roofline_chart(given, roof)
    chart = Chart(f"Roofline: {title}", "FLOPs per byte moved", "GFLOP/s", picture, log_x=True, log_y=True)
    low = min([r.intensity for r in points], default=0.1) / 2
    high = max([roof.fp32 / roof.dram, *(r.intensity for r in points)]) * 2
    for kind, peak in (("fp32", roof.fp32), ("bf16", roof.bf16), ("int8", roof.int8)):
        if kind == "fp32" or any(r.computes == kind for r in points):
            chart.rule(
                [low, peak / roof.dram, max(high, peak / roof.dram)], [low * roof.dram, peak, peak], f"{kind} peak"
            )
    for n, name in enumerate(dict.fromkeys(r.name for r in points)):
        mine = [r for r in points if r.name == name]
        told = [f"<b>{name}</b>, {r.tokens} tokens<br>{r.gflops:.3g} GFLOP/s, {r.ratio:.2f} x torch" for r in mine]
        chart.line(name, [r.intensity for r in mine], [r.gflops for r in mine], told, n=n)
    return chart


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _frame(x0: int, x1: int, y0: int, y1: int) -> str:
    bottom, right = _TOP + _HEIGHT, _LEFT + _WIDTH
    parts = [f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="currentColor" opacity="0.6"/>']
    for n in range(x0, x1 + 1):
        x = _LEFT + _WIDTH * (n - x0) / (x1 - x0)
        parts.append(f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="currentColor" opacity="0.12"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{number(10.0**n)}</text>')
    for n in range(y0, y1 + 1):
        y = _TOP + _HEIGHT * (y1 - n) / (y1 - y0)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="currentColor" opacity="0.12"/>')
        parts.append(f'<text x="{_LEFT - 4}" y="{y + 4:.1f}" text-anchor="end">{number(10.0**n)}</text>')
    middle = _TOP + _HEIGHT / 2
    parts.append(f'<text x="{_LEFT + _WIDTH / 2}" y="{bottom + 32}" text-anchor="middle">FLOPs per byte moved</text>')
    parts.append(f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">GFLOP/s</text>')
    return "".join(parts)


def _roofs(peaks: dict[str, float], roof: Any, place: Any, ends: tuple[float, float, float]) -> list[str]:
    low, high, floor = ends
    parts = []
    for name, peak in peaks.items():
        ridge = max(low, peak / roof.cache_l2)
        (ax, ay), (bx, _) = place(ridge, peak), place(high, peak)
        parts.append(f'<path d="M{ax:.1f} {ay:.1f}H{bx:.1f}" stroke="currentColor" stroke-width="1.5"/>')
        parts.append(f'<text x="{bx - 4:.1f}" y="{ay - 4:.1f}" text-anchor="end" font-size="10">{name} peak</text>')
    top = max(peaks.values())
    for name, speed in (("memory", roof.dram), ("last cache", roof.cache_l3), ("second cache", roof.cache_l2)):
        start, end = max(low, floor / speed), min(high, top / speed)
        if end <= start:
            continue
        (ax, ay), (bx, by) = place(start, start * speed), place(end, end * speed)
        dash = "" if name == "memory" else ' stroke-dasharray="4 3"'
        parts.append(f'<path d="M{ax:.1f} {ay:.1f}L{bx:.1f} {by:.1f}" stroke="currentColor"{dash} fill="none"/>')
        angle = math.degrees(math.atan2(by - ay, bx - ax))
        parts.append(
            f'<text transform="translate({ax + 6:.1f} {ay - 8:.1f}) rotate({angle:.1f})" font-size="10">{name}</text>'
        )
    return parts


def _mark(at: tuple[float, float], kind: int, colour: str, tip: str) -> str:
    x, y = at
    shape = {
        "circle": f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"',
        "square": f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"',
        "diamond": f'<path d="M{x:.1f} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z"',
        "triangle": f'<path d="M{x:.1f} {y - 5:.1f}l5 9h-10z"',
    }[_SHAPES[kind % len(_SHAPES)]]
    tag = shape[1:].split(" ", 1)[0]
    return f'{shape} fill="{colour}" stroke="currentColor" stroke-width="0.6"><title>{html.escape(tip)}</title></{tag}>'


def _worth_naming(points: Sequence[Any]) -> list[Any]:
    """All points if they are few, else the best of each number of tokens: names must not cover each other."""
    if len(points) <= 9:
        return list(points)
    best: dict[int, Any] = {}
    for r in points:
        if r.tokens not in best or r.gflops > best[r.tokens].gflops:
            best[r.tokens] = r
    return list(best.values())


def _label(at: tuple[float, float], name: str) -> str:
    x, anchor = (at[0] + 7, "start") if at[0] < _LEFT + _WIDTH - 80 else (at[0] - 7, "end")
    return f'<text x="{x:.1f}" y="{at[1] + 3:.1f}" text-anchor="{anchor}" font-size="10">{html.escape(name)}</text>'


def _legend(names: Sequence[str], tokens: Sequence[int]) -> list[str]:
    x, parts = _LEFT + _WIDTH + 16, []
    for i, name in enumerate(names):
        y = _TOP + 15 * i
        parts.append(f'<rect x="{x}" y="{y}" width="10" height="10" fill="{OKABE_ITO[i % 8]}"/>')
        parts.append(f'<text x="{x + 15}" y="{y + 9}">{html.escape(name)}</text>')
    for i, count in enumerate(tokens):
        y = _TOP + 15 * (len(names) + i) + 8
        parts.append(_mark((x + 5, y + 5), i, "none", f"{count} tokens"))
        parts.append(f'<text x="{x + 15}" y="{y + 9}">{count} token{"" if count == 1 else "s"}</text>')
    return parts
