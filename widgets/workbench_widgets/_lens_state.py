"""What the lens's front end gets: one header and one run of deflated bytes; tiles, rows and blocks on demand.

A share p is sent as a whole number on a logarithmic scale: 0 for no cell (above the diagonal), 1 for ``floor`` and
less, the largest for 1:

    code(p) = 1 + round((top - 1) (1 - log p / log floor)),   top = 255 for pictures, 65535 for tiles
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.attention import METRICS
from workbench.attention.kv._method import METHODS
from workbench.attention.patterns._pattern import BLOCK, PATTERNS
from workbench.attention.studying import LOOKS, AttentionStudy, floor_of, pooled
from workbench.errors import ArgumentError
from workbench.results import json_ready
from workbench_widgets._arrays import pack

SIDE = 128  # cells of a head's picture
BINS = 4096  # of a line over positions
DIVERGENCES = 512
LIMIT = 256 << 20  # bytes before they are deflated; a front end gives up long before Python does
KEPT_LIMIT = 24 << 20  # of blocks in a page without a kernel
_APART = {  # not from the text itself
    "induction": "mean share of what followed the same token earlier, in random tokens said twice",
    "successor": "how often what a head writes for a word is what comes after it in order",
}


def codes(shares: np.ndarray, floor: float, top: int) -> np.ndarray:
    """Shares as whole numbers 1 to ``top``, uint8 or uint16."""
    share = 1 - np.log(np.clip(shares, floor, 1.0)) / np.log(floor)
    return np.asarray(1 + np.rint((top - 1) * share), np.uint8 if top < 256 else np.uint16)


def triangle(coded: np.ndarray, first: int = 0) -> np.ndarray:
    """The same with 0 where no query sees a key, changed in place; the first row is cell ``first`` of the columns."""
    rows, columns = coded.shape[-2:]
    coded[..., np.arange(columns)[None] > np.arange(rows)[:, None] + first] = 0
    return coded


def binned(values: np.ndarray, bins: int) -> np.ndarray:
    """Means of the last axis over at most so many equal stretches (the last may be shorter)."""
    step = -(-values.shape[-1] // bins)
    edges = np.arange(0, values.shape[-1], step)
    widths = np.diff(np.append(edges, values.shape[-1]))
    return np.asarray(np.add.reduceat(values, edges, axis=-1) / widths, np.float32)


def lens_state(study: AttentionStudy) -> tuple[dict[str, Any], bytes]:
    """Header, and bytes deflated.

    Raises
    ------
    ArgumentError
        If the study is too large for a page.
    """
    table, floor = study.table, floor_of(study.table.tokens)
    seen = table.captured
    picture, cell = pooled(seen.picture, seen.length, seen.block, SIDE)
    maps = seen_maps(study)
    header = {
        "source": table.source, "tokens": table.tokens, "pieces": list(study.pieces),
        "layers": table.kinds.shape[0], "heads": table.kinds.shape[1], "cells": picture.shape[-1], "cell": cell,
        "floor": floor, "sizes": [] if maps is None else [int(s) for s in maps.sizes], "sinks": seen.settings.sinks,
        "kinds": [[kind, *look] for kind, look in LOOKS.items()],
        "metrics": [[name, METRICS[name][0] if name in METRICS else _APART.get(name, "")] for name in table.metrics],
        "provenance": str(table.provenance),
    }  # fmt: skip
    arrays = {
        "picture": triangle(codes(picture, floor, 255)),
        "metrics": np.stack(list(table.metrics.values())).astype(np.float32),
        "kinds": np.vectorize(list(LOOKS).index)(table.kinds).astype(np.uint8),
        "column": codes(binned(seen.column, BINS), floor, 255),
    }
    for more, found in (_patterns(study), _kv(study)):
        header |= more
        arrays |= found
    places, data = pack(arrays)
    if len(data) > LIMIT:
        raise ArgumentError(f"the study has {len(data) >> 20} MB, more than the {LIMIT >> 20} a page holds: shorten it")
    return json_ready({**header, "arrays": places}), zlib.compress(data, 6)


def seen_maps(study: AttentionStudy) -> Any:
    """`Maps` of the study, None where states were not kept."""
    return getattr(study.table.captured, "maps", None)


def titled(name: str, known: Mapping[str, Any]) -> str:
    """What a method is called in short, "StreamingLLM" of "StreamingLLM (sinks and window)"; its name if unknown."""
    found = known.get(name)
    return name if found is None else str(found.title).partition(" (")[0]


def _patterns(study: AttentionStudy) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    curves = study.curves
    if curves is None or not curves.rows:
        return {"points": []}, {}
    points = [
        {
            "name": titled(row.name, PATTERNS), "budget": row.budget, "parameters": row.parameters,
            "recall": row.recall, "cost": row.cost, "divergence": row.divergence,
            "ratio": row.seconds / max(curves.dense_seconds, 1e-9), "read": row.divergences is not None,
        }
        for row in curves.rows
    ]  # fmt: skip
    arrays = {name: np.stack([getattr(row, name) for row in curves.rows]) for name in ("recalls", "costs")}
    unread = np.full(curves.tokens, np.nan, np.float32)
    lost = np.stack([unread if row.divergences is None else row.divergences for row in curves.rows])
    arrays["divergences"] = binned(lost, DIVERGENCES)
    return {"points": points, "blocks": curves.blocks, "block": BLOCK}, arrays


def blocks_of(study: AttentionStudy, point: int, layer: int, head: int) -> bytes:
    """Blocks up to the diagonal that a pattern keeps, row by row, eight to a byte."""
    return np.asarray(study.curves.rows[point].packed[layer, head], np.uint8).tobytes()


def all_blocks(study: AttentionStudy) -> bytes:
    """Those of every point and head, deflated; empty where they are too many for a page."""
    rows = () if study.curves is None else study.curves.rows
    if not 0 < sum(row.packed.size for row in rows) <= KEPT_LIMIT:
        return b""
    packer = zlib.compressobj(6)
    return b"".join([*(packer.compress(np.ascontiguousarray(row.packed).tobytes()) for row in rows), packer.flush()])


def _kv(study: AttentionStudy) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    history = study.history
    if history is None:
        return {"kv": None}, {}
    names = list(history.methods)
    told = {
        "prompt": int(history.prompt), "steps": int(history.steps), "budget": float(history.budget),
        "methods": [titled(name, METHODS) for name in names],
        "heads": int(history.dropped[names[0]].shape[1]),
    }  # fmt: skip
    dropped = np.stack([history.dropped[n] for n in names]) + 1  # 0: still there at the end
    small = dropped.max(initial=0) < 1 << 16
    sizes = np.stack([np.asarray(history.dense_nbytes), *(np.asarray(history.nbytes[n]) for n in names)])
    return {"kv": told}, {
        "dropped": dropped.astype(np.uint16 if small else np.int32),
        "nbytes": sizes.astype(np.float32),
    }
