"""A study of attention as static HTML and text: for readers without a kernel. Part of `attention.studying`."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench import render
from workbench.attention.metrics import HeadTable

#: Letter and colour (Okabe-Ito) of every kind of head.
LOOKS = {
    "sink": ("S", "#E69F00"), "previous token": ("P", "#0072B2"), "induction": ("I", "#009E73"),
    "successor": ("N", "#CC79A7"), "local": ("L", "#56B4E9"), "retrieval": ("R", "#D55E00"), "broad": ("B", "#999999"),
}  # fmt: skip
_TILE = 24  # pixels of a head's small map
_PAPER = 236  # grey of what no query sees
_READ = 240  # tokens of text in a static picture
_FEW = 64  # the newest keys are left out of lists: few queries see them, so that their means say little
_COLUMNS = 256  # of a picture over positions


def pooled(picture: np.ndarray, length: int, block: int, side: int) -> tuple[np.ndarray, int]:
    """Means over larger cells: pictures ``[..., n, n]`` with at most ``side`` cells a side.

    Parameters
    ----------
    picture
        Mean share per cell of ``block`` x ``block`` tokens; the last cells may reach past the end.
    length
        Tokens.
    side
        Cells wanted at most.

    Returns
    -------
    tuple of ndarray of float32 [..., m, m], int
        The picture and the tokens of a cell's side.
    """
    count = picture.shape[-1]
    step = -(-count // side)
    starts = np.arange(0, count, step)
    size = np.diff(np.minimum(np.arange(count + 1) * block, length)).astype(np.float32)
    sums = np.add.reduceat(picture * (size[:, None] * size), starts, axis=-1)
    sums = np.add.reduceat(sums, starts, axis=-2)
    wide = np.add.reduceat(size, starts)
    return (sums / (wide[:, None] * wide)).astype(np.float32), step * block


def floor_of(length: int) -> float:
    """The least share that a picture tells from none: a power of ten, well below ``1 / length``."""
    return float(10.0 ** np.floor(np.log10(0.05 / length)))


def overview(table: HeadTable) -> render.Section:
    """All heads as small maps: layers from left to right, heads down."""
    seen, floor = table.captured, floor_of(table.tokens)
    layers, heads = table.kinds.shape
    small, _ = pooled(seen.picture, seen.length, seen.block, _TILE)
    small = np.repeat(np.repeat(small, max(1, _TILE // small.shape[-1]), -1), max(1, _TILE // small.shape[-1]), -2)
    share = np.log10(np.maximum(small, floor)) / -np.log10(floor) + 1
    above = np.triu(np.ones(share.shape[-2:], bool), 1)
    pixels = render.cividis(share)
    pixels[..., above, :] = _PAPER
    side = share.shape[-1] + 2
    image = np.full((heads, side, layers, side, 3), _PAPER, np.uint8)
    image[:, : side - 2, :, : side - 2] = pixels.transpose(1, 2, 0, 3, 4)
    title = f"Attention of {layers} x {heads} heads, layers from left to right, heads down, logarithmic"
    picture = _image(image.reshape(heads * side, layers * side, 3), title)
    rows = [(f"{LOOKS[kind][0]} {kind}", _named(table, kind)) for kind in LOOKS]
    return render.section("Every head", rows, ("kind", "heads, as layer.head"), picture=picture + _letters(table))


def _image(pixels: np.ndarray, title: str) -> str:
    """Pixels as one ``img``."""
    data, label = base64.b64encode(render.png(pixels)).decode(), html.escape(title)
    style = "max-width:100%;height:auto;image-rendering:pixelated"
    return f'<img alt="{label}" title="{label}" style="{style}" src="data:image/png;base64,{data}"/>'


def _named(table: HeadTable, kind: str, most: int = 14) -> str:
    """Heads of a kind."""
    found = [f"{layer}.{head}" for layer, head in np.argwhere(table.kinds == kind)]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more if found else "-"


def _letters(table: HeadTable) -> str:
    """Kinds in the places of the picture above, as letters on their colours."""
    cells = []
    for row in table.kinds.T:
        letters = "".join(
            f'<td title="{html.escape(kind)}" style="background:{LOOKS[kind][1]}44;text-align:center;padding:0 3px">'
            f"{LOOKS[kind][0]}</td>"
            for kind in row
        )
        cells.append(f"<tr>{letters}</tr>")
    style = "border-collapse:collapse;font-size:10px;line-height:1.3;margin:6px 0"
    return (
        f'<table aria-label="Kind of each head, layers across" style="{style}"><tbody>{"".join(cells)}</tbody></table>'
    )


def text(table: HeadTable, pieces: Sequence[str]) -> render.Section:
    """The text's beginning, shaded by what later tokens look at, the first tokens left out of the scale."""
    seen = table.captured
    column = seen.column.mean((0, 1))
    skip = min(seen.settings.sinks, len(column) - 1)
    top = max(float(column[skip:_READ].max(initial=0.0)), 1e-12)
    marks = [
        f'<span title="{100 * share:.3g} % of later attention" style="background:rgba(230,159,0,'
        f'{min(1, share / top):.2f})">{html.escape(piece)}</span>'
        for piece, share in zip(pieces[:_READ], column, strict=False)
    ]
    more = f" … and {len(pieces) - _READ} tokens" if len(pieces) > _READ else ""
    style = "margin:4px 0;white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.8"
    shown = f'<p style="{style}">{"".join(marks)}{more}</p>'
    best = [int(j) for j in np.argsort(-column[: max(1, len(column) - _FEW)])[:12]]
    rows = [(j, _sign(pieces[j]), f"{100 * column[j]:.3g} %") for j in best]
    head = ("position", "token", "mean share of later queries, over all heads")
    return render.Section("What later tokens look at", render.text_table(rows, head), shown + render.table(rows, head))


def _sign(piece: str) -> str:
    """A token with its spaces and line breaks to be seen."""
    return piece.replace(" ", "·").replace("\n", "⏎")


def recall(curves: Any) -> render.Section:
    """Recall against cost, one line per pattern."""
    series: dict[str, dict[str, list[float]]] = {}
    for row in sorted(curves.rows, key=lambda r: r.cost):
        line = series.setdefault(row.name, {"x": [], "y": []})
        line["x"].append(float(row.cost))
        line["y"].append(float(row.recall))
    drawn = render.lines(series, title="Attention kept against blocks read", x_label="cost", y_label="recall")
    rows = [
        (r.name, r.budget, r.recall, r.cost, *_known(r.divergence, r.seconds / max(curves.dense_seconds, 1e-9)))
        for r in curves.rows
    ]
    head = ("pattern", "budget", "recall", "cost", "KL to dense, nats", "time / dense")
    return render.section("Sparse patterns", rows, head, picture=drawn)


def _known(*values: float) -> tuple[Any, ...]:
    """Numbers; a dash for what was not measured."""
    return tuple("-" if math.isnan(v) else v for v in values)


def harm(curves: Any) -> render.Section:
    """KL to dense by position, of the points that the text was read with; the largest budget of each pattern."""
    chosen = {row.name: row for row in sorted(curves.rows, key=lambda r: r.budget) if row.divergences is not None}
    series, rows = {}, []
    for name, row in chosen.items():
        values = np.asarray(row.divergences, np.float64)
        edges = np.linspace(0, len(values), min(len(values), 64) + 1).astype(int)[:-1]
        means = np.add.reduceat(values, edges) / np.diff(np.append(edges, len(values)))
        series[f"{name} {row.budget:g}"] = {"x": edges.tolist(), "y": means.tolist()}
        half = len(values) // 2
        rows.append((name, row.budget, float(values[:half].mean()), float(values[half:].mean()), float(values.max())))
    drawn = render.lines(series, title="KL to dense", x_label="position", y_label="nats") if series else ""
    head = ("pattern", "budget", "first half", "second half", "worst")
    return render.section("What sparsity does to the output", rows, head, picture=drawn)


def kept(history: Any) -> render.Section:
    """Share of layers and heads that still hold each position at the end: methods down, positions across."""
    names = list(history.methods)
    total = history.prompt + history.steps
    edges = np.linspace(0, total, min(total, _COLUMNS) + 1).astype(int)[:-1]
    wide = np.diff(np.append(edges, total))
    image = [np.add.reduceat((history.dropped[n] < 0).mean((0, 1)), edges) / wide for n in names]
    tall = np.repeat(np.asarray(image), 10, axis=0)
    title = f"Rows held at the end by {', '.join(names)} (down), positions across"
    picture = render.heatmap_png(tall, title=title, zoom=2).replace('style="', 'style="max-width:100%;height:auto;', 1)
    rows = [(n, float((history.dropped[n][..., : history.prompt] < 0).mean())) for n in names]
    return render.section("What smaller KV caches keep", rows, ("method", "share of the prompt kept"), picture=picture)


def grown(history: Any) -> render.Section:
    """Bytes of every cache over time."""
    x = list(range(history.steps + 1))
    series = {"full cache": {"x": x, "y": (np.asarray(history.dense_nbytes) / 1e6).tolist()}}
    series |= {n: {"x": x, "y": (np.asarray(history.nbytes[n]) / 1e6).tolist()} for n in history.methods}
    rows = [(n, s["y"][0], s["y"][-1], s["y"][-1] / series["full cache"]["y"][-1]) for n, s in series.items()]
    drawn = render.lines(series, title="Size of the cache", x_label="tokens after the prompt", y_label="MB")
    return render.section(
        "Size of the cache", rows, ("cache", "MB after the prompt", "at the end", "of full"), picture=drawn
    )
