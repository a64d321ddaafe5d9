"""The studio for readers without a kernel: the picture as an image, the figures as a table."""

from __future__ import annotations

import html
from typing import Any

import numpy as np

from workbench import render
from workbench.results import Result


def picture(frame: dict[str, Any], cells: bytes, kept: bytes) -> str:
    """The picture of what is kept, with the share of each kind of module below it."""
    layers, modules, tile = frame["layers"], len(frame["names"]), frame["tile"]
    tiles = np.frombuffer(cells, np.uint8).reshape(layers, modules, tile, tile)
    image = tiles.transpose(1, 2, 0, 3).reshape(modules * tile, layers * tile) / 255.0
    shares = np.frombuffer(kept, "<f4").reshape(layers, modules).mean(axis=0)
    names = ", ".join(frame["names"])
    title = f"Kept at {frame['sparsity']:.0%} sparsity, layers from left to right, {names} down"
    rows = [(name, f"{share:.1%}") for name, share in zip(frame["names"], shares, strict=True)]
    return render.heatmap_png(image, title=title) + render.table(rows, ("module", "kept"))


def studio_html(traits: Any, choice: str, variants: tuple[Result, ...]) -> str:
    """Everything that a studio shows, without scripts.

    Parameters
    ----------
    traits
        Has ``facts``, ``frame``, ``cells`` and ``kept``.
    choice
        What is chosen, in words.
    variants
        What was pruned.
    """
    parts = [f"<p>{html.escape(choice)}</p>"]
    if traits.frame:
        parts.append(picture(traits.frame, traits.cells, traits.kept))
    parts.extend(v.to_html() for v in variants)
    parts.append("<p>Run the notebook to use the studio.</p>")
    sections = [render.Section("Pruning studio", choice, "".join(parts))]
    return render.join(f"Pruning studio: {traits.facts.get('name', '')}", sections)[1]
