"""A study whose attention is planted, so that everything a lens shows of it is known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from workbench.attention import METRICS, Captured, HeadTable, Settings, classify
from workbench.attention.kv.history import KVHistory
from workbench.attention.patterns.curves import CurvePoint, PatternCurves
from workbench.attention.studying import AttentionStudy
from workbench.results import Provenance

LAYERS, HEADS, TOKENS, CELLS = 3, 4, 700, 256
WORDS = (" the", " cat", " sat", "\n", " on", " a", " mat", ".", "  ", " <b>", "é")


def planted(layer: int, head: int, tokens: int = TOKENS) -> np.ndarray:
    """Shares ``[S, S]``: a sink, the token before, one column, and what is left spread evenly or near by."""
    i, j = np.arange(tokens)[:, None], np.arange(tokens)[None]
    logits = np.zeros((tokens, tokens))
    if head == 0:
        logits += 9.0 * (j == 0)
    elif head == 1:
        logits += 11.0 * (i - j == 1)
    elif head == 2:
        logits -= (i - j) / (4.0 + 2 * layer)
    else:
        logits += 8.0 * (j == 40 * (layer + 1))
    logits[np.broadcast_to(j > i, logits.shape)] = -np.inf
    p = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(p / p.sum(1, keepdims=True), np.float32)


def cells(p: np.ndarray, size: int) -> np.ndarray:
    """Means over cells of size x size, those at the end over what there is."""
    starts = np.arange(0, len(p), size)
    wide = np.diff(np.append(starts, len(p)))
    sums = np.add.reduceat(np.add.reduceat(p.astype(np.float64), starts, 0), starts, 1)
    return np.asarray(sums / (wide[:, None] * wide), np.float32)


class PlantedMaps:
    """What `Maps` promises, from whole matrices; remembers what was asked."""

    cells = CELLS

    def __init__(self, shares: np.ndarray) -> None:
        self.shares, self.asked = shares, []
        self.layers, self.heads, self.length = shares.shape[:3]
        self.sizes = (3, 2, 1)

    def tile(self, layer: int, head: int, size: int, row: int, column: int) -> np.ndarray:
        self.asked.append((layer, head, size, row, column))
        found = cells(self.shares[layer, head], size)[row * CELLS :, column * CELLS :][:CELLS, :CELLS]
        return np.pad(found, [(0, CELLS - n) for n in found.shape])

    def row(self, layer: int, head: int, query: int) -> np.ndarray:
        return self.shares[layer, head, query].copy()


@cache
def captured(tokens: int) -> Captured:
    """What capture would have kept of it, without maps."""
    shares = shares_of(tokens)
    settings, block = Settings(), -(-tokens // CELLS)
    i, j = np.arange(tokens)[:, None], np.arange(tokens)[None]
    later, logs = np.arange(tokens, 0, -1), np.log(np.maximum(shares, 1e-30))
    slash = np.stack([np.diagonal(shares, -d, 2, 3).mean(-1) for d in range(tokens)], -1)
    ordered = np.sort(shares, -1)[..., ::-1].cumsum(-1)
    needed = np.stack([(ordered[:, :, 64:] < m - 1e-6).sum(-1).mean(-1) + 1 for m in (0.9, 0.95, 0.99)], -1)
    picture = np.stack([[cells(p, block) for p in layer] for layer in shares])
    return Captured(
        np.arange(tokens) % len(WORDS), settings, entropy=-(shares * logs).sum(-1), sink=shares[..., :4].sum(-1),
        local=(shares * (i - j < 64)).sum(-1), waad=(shares * np.clip(i - j, 0, 64)).sum(-1),
        column=(shares.sum(2) / later).astype(np.float32), fai=shares.max(2), slash=slash, needed=needed,
        picture=picture, block=block,
    )  # fmt: skip


def curves(tokens: int = TOKENS) -> PatternCurves:
    """Two patterns at three budgets; kept blocks are those within a distance, and the first column."""
    count = -(-tokens // 64)
    rows, columns = np.tril_indices(count)
    found = []
    for name, slope in (("near", 0.6), ("far", 0.3)):
        for budget in (0.1, 0.25, 0.5):
            keep = (rows - columns <= max(1, budget * count)) | ((columns == 0) & (name == "far"))
            packed = np.broadcast_to(np.packbits(keep), (LAYERS, HEADS, -(-len(keep) // 8)))
            read = budget == 0.25
            lost = np.linspace(0, 0.2, tokens, dtype=np.float32) if read else None
            recalls = np.clip(np.linspace(budget, 1, LAYERS * HEADS).reshape(LAYERS, HEADS) ** slope, 0, 1)
            costs = np.full((LAYERS, HEADS), keep.mean())
            figures = float(recalls.mean()), float(keep.mean()), *((0.1, 0.5) if read else (np.nan, np.nan))
            found.append(CurvePoint(name, budget, {"share": budget}, *figures, recalls, costs, lost, packed))
    return PatternCurves("planted", tokens, 1.0, tuple(found), Provenance.here())


def history(tokens: int = TOKENS, steps: int = 20) -> KVHistory:
    """One method that keeps the newest rows, one that keeps every second of the prompt."""
    prompt, shape = tokens - steps, (LAYERS, 2, tokens)
    at = np.arange(tokens)
    budget = prompt // 4
    window = np.where(at < prompt - budget, prompt, np.where(at + budget < tokens, at + budget, -1))
    second = np.where((at < prompt) & (at % 4 > 0), prompt, -1)
    dropped = {"window": np.broadcast_to(window, shape), "second": np.broadcast_to(second, shape)}
    dense = 1000 * np.arange(prompt, tokens + 1)
    nbytes = {"window": np.full(steps + 1, 1000 * budget), "second": dense - 750 * prompt}
    names = tuple(dropped)
    return KVHistory("planted", prompt, steps, 0.25, names, dropped, nbytes, dense, Provenance.here())


@cache
def shares_of(tokens: int = TOKENS) -> np.ndarray:
    return np.stack([[planted(layer, head, tokens) for head in range(HEADS)] for layer in range(LAYERS)])


def study(*, maps: bool = True, more: bool = True, tokens: int = TOKENS) -> AttentionStudy:
    """All of it."""
    seen = replace(captured(tokens), maps=PlantedMaps(shares_of(tokens)) if maps else None)
    metrics = {name: np.asarray(f(seen), np.float32) for name, (_, f) in METRICS.items()}
    metrics["induction"] = np.zeros((LAYERS, HEADS), np.float32)
    metrics["induction"][1, 3] = 0.9
    table = HeadTable("planted", tokens, metrics, classify(metrics, tokens), seen, Provenance.here(seed=0))
    pieces = tuple(WORDS[n % len(WORDS)] for n in range(tokens))
    return AttentionStudy(table, pieces, curves(tokens) if more else None, history(tokens) if more else None)
