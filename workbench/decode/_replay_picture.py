"""A replay as static HTML and text: for readers without a kernel. Part of `workbench.decode.replay`."""

from __future__ import annotations

import html
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import render
from workbench.decode.trace import KINDS

if TYPE_CHECKING:
    from workbench.decode._replay_trees import Node
    from workbench.decode.replay import Placed, Replay

#: What an origin is called, its colour, and a line that tells it apart without colour.
LOOKS = {
    "plain": ("plain step", "#999999", "solid"),
    "accepted": ("accepted from the draft", "#009E73", "solid"),
    "corrected": ("corrected by the target", "#D55E00", "double"),
    "bonus": ("bonus after a whole draft", "#0072B2", "dotted"),
    "constrained": ("under a constraint", "#CC79A7", "dashed"),
    "exited": ("exited at layer n", "#E69F00", "dashed"),
    "unmasked": ("unmasked at step n", "#56B4E9", "dotted"),
    "searched": ("found by search", "#0072B2", "double"),
}
_SHOWN = 600  # tokens of text in a static picture
_MARKS = {"accept": "✓", "reject": "✗", "untried": "·"}


def sections(replay: Replay) -> tuple[render.Section, ...]:
    """Text, the most telling draft, acceptance, maps, cost: what the trace has."""
    found = [_text(replay), _cost(replay)]
    if len(replay.drafts):
        found += [_draft(replay), *replay.trace.acceptance.sections()]
    if "search" in replay.panels:
        found.append(_search(replay))
    if "exits" in replay.panels:
        found.append(_exits(replay))
    if "unmask" in replay.panels:
        found.append(_unmask(replay))
    return tuple(found)


def _text(replay: Replay) -> render.Section:
    placed = replay.text(-1)
    counts = Counter(p.origin for p in placed)
    legend = "".join(
        f'<span style="margin-right:14px;white-space:nowrap">{_styled(LOOKS[o][0], o)} {n}</span>'
        for o, n in counts.most_common()
    )
    gap = " " if replay.loose else ""
    body = gap.join(_token(replay, p) for p in placed[:_SHOWN])
    more = f" … and {len(placed) - _SHOWN} tokens" if len(placed) > _SHOWN else ""
    shown = (
        f'<p style="margin:4px 0">{legend}</p><p style="margin:6px 0;white-space:pre-wrap;overflow-wrap:anywhere;'
        f'line-height:1.9">{body}{more}</p>'
    )
    said = gap.join(replay.trace.piece(p.token) for p in placed)
    tally = ", ".join(f"{LOOKS[o][0]} {n}" for o, n in counts.most_common())
    return render.Section("Text", f"{said}\n\n{tally}", shown)


def _token(replay: Replay, placed: Placed) -> str:
    number = f'<sub style="font-size:9px">{placed.number}</sub>' if placed.number >= 0 else ""
    return _styled(replay.trace.piece(placed.token), placed.origin, placed_at(placed)) + number


def placed_at(placed: Placed) -> str:
    """What a token's tooltip says."""
    return f"{LOOKS[placed.origin][0].removesuffix(' n')}{f' {placed.number}' if placed.number >= 0 else ''}"


def _styled(text: str, origin: str, title: str = "") -> str:
    _, colour, line = LOOKS[origin]
    width = 3 if line == "double" else 2
    told = f' title="{html.escape(title)}"' if title else ""
    return (
        f'<span{told} style="border-bottom:{width}px {line} {colour};background:{colour}22">{html.escape(text)}</span>'
    )


def _draft(replay: Replay) -> render.Section:
    """The step whose draft was accepted furthest."""
    drafts = replay.drafts
    hits = np.diff(drafts.accepted.sum(axis=1), prepend=0)
    best = int(np.argmax(hits + 1e-3 * np.diff(drafts.first)))
    nodes = drafts.tree(replay.trace, best)
    lines = [_line(replay, n) for n in nodes]
    last = int(drafts.last[best])
    if last >= 0:
        kind, token = KINDS[replay.trace.columns["kind"][last]], int(replay.trace.columns["token"][last])
        at = int(drafts.last_parent[best])
        lines.append("  " * (nodes[at].depth + 1 if at >= 0 else 0) + f"→ {replay.trace.piece(token)!r} {kind}")
    return _mono(f"Draft of step {int(replay.frames.label[best])}, the one accepted furthest", "\n".join(lines))


def _line(replay: Replay, node: Node) -> str:
    figures = [f"{n} {v:.2f}" for n, v in (("p", node.p), ("q", node.q), ("u", node.u)) if np.isfinite(v)]
    told = {"accept": "accepted", "reject": "refused"}.get(node.state, "not looked at")
    piece = repr(replay.trace.piece(node.token))
    return " ".join([f"{'  ' * node.depth}{_MARKS[node.state]}", piece, told, *figures])


def _mono(title: str, text: str) -> render.Section:
    style = "margin:4px 0;white-space:pre-wrap;background:none;color:inherit;font-size:12px;line-height:1.5"
    return render.Section(title, text, f'<pre style="{style}">{html.escape(text)}</pre>')


def _search(replay: Replay) -> render.Section:
    search = replay.search
    alive, chosen = int((search.gone == len(replay)).sum()), np.flatnonzero(search.chosen)
    rows: list[tuple[str, Any]] = [
        ("hypotheses", len(search)),
        ("of them dropped", len(search) - alive),
        ("tokens of the longest", int(search.depth.max(initial=0))),
    ]
    if len(chosen):
        rows.append(("score of the chosen one", float(search.score[chosen[-1]])))
    return render.section("Search", rows)


def _exits(replay: Replay) -> render.Section:
    """Confidence by layer and place; grey where nothing was computed."""
    c, rows = replay.trace.columns, replay.trace.rows("exit")
    places = np.unique(c["position"][rows])
    image = np.full((max(replay.layers, 1), len(places)), np.nan)
    image[c["layer"][rows], np.searchsorted(places, c["position"][rows])] = np.nan_to_num(c["value"][rows], nan=1.0)
    deepest = [p.number for p in replay.text(-1) if p.origin == "exited"]
    mean = float(np.mean(deepest)) if deepest else float("nan")
    title = f"Layers (down) by token (across): confidence; on average out at layer {mean:.1f} of {replay.layers}"
    picture = render.heatmap_png(image, title=title, zoom=max(2, 480 // max(image.shape)))
    rows_ = [("tokens that left early", len(deepest)), ("mean layer", mean), ("layers", replay.layers)]
    return render.section("Where tokens left the model", rows_, picture=picture)


def _unmask(replay: Replay) -> render.Section:
    """When each place was unmasked."""
    c, rows = replay.trace.columns, replay.trace.rows("unmask")
    places, steps = np.unique(c["position"][rows]), np.unique(c["step"][rows])
    image = np.full((len(steps), len(places)), np.nan)
    at = np.searchsorted(steps, c["step"][rows]), np.searchsorted(places, c["position"][rows])
    image[at] = np.nan_to_num(c["value"][rows], nan=1.0)
    title = f"Steps (down) by place (across): {len(rows)} tokens unmasked in {len(steps)} steps"
    picture = render.heatmap_png(image, title=title, zoom=max(2, 480 // max(image.shape)))
    figures = [("tokens unmasked", len(rows)), ("steps", len(steps)), ("tokens a step", len(rows) / max(len(steps), 1))]
    return render.section("Order of unmasking", figures, picture=picture)


def _cost(replay: Replay) -> render.Section:
    from workbench.decode.replay import SPENT

    rows = [(name, value) for name, value in replay.trace.cost.table() if np.isfinite(value)]
    total = replay.spent[-1].sum()
    for name, seconds in zip(SPENT, replay.spent[-1], strict=True):
        if seconds > 0 and total > 0:
            rows.append((f"time in {name}", f"{seconds:.3g} s ({seconds / total:.0%})"))
    return render.section("Cost", rows)
