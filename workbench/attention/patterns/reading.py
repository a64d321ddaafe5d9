"""Reading a prompt with sparse attention: how much of attention is kept, at what cost, and what the answer loses.

recall   mass of dense attention that lies in kept blocks, mean over queries
cost     kept blocks / blocks that dense attention computes
KL       of the dense model's next-token distribution from the sparse one's, nats, mean over positions
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from workbench_kernels.attention_prefill import BLOCK

from workbench import render
from workbench.attention.patterns._pattern import Pattern, attend, blocks, registry, resolve
from workbench.attention.watching import Passing, watched
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.models import LM, as_lm
from workbench.results import Provenance, Result


@dataclass(frozen=True, eq=False)
class PatternRow:
    """One pattern: means, its recall and cost for every head ``[layers, heads]``, and seconds of the pass."""

    name: str
    recall: float
    cost: float
    divergence: float
    seconds: float
    recalls: np.ndarray
    costs: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class SparsePrefill(Result):
    """Patterns on one text.

    Attributes
    ----------
    source : str
    tokens : int
    rows : tuple of PatternRow
    dense_seconds : float
        Of the dense pass through the same kernel.
    provenance : Provenance
    """

    source: str
    tokens: int
    rows: tuple[PatternRow, ...]
    dense_seconds: float
    provenance: Provenance = field(repr=False)

    def _headline(self) -> str:
        best = max(self.rows, key=lambda r: r.recall)
        return f"SparsePrefill({self.source}, {self.tokens} tokens; {best.name} keeps {best.recall:.1%} of the mass)"

    def _sections(self) -> tuple[render.Section, ...]:
        rows = [
            (r.name, f"{r.recall:.1%}", f"{r.cost:.1%}", r.divergence, self.dense_seconds / r.seconds)
            for r in self.rows
        ]
        header = ("pattern", "recall", "blocks", "KL, nats", "times as fast as dense")
        return (render.section("Patterns", rows, header), render.prose("Provenance", str(self.provenance)))


def sparse_prefill(
    model: Any,
    ids: Sequence[int] | np.ndarray,
    patterns: str | Sequence[str | Pattern] = "all",
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> SparsePrefill:
    """Read a text densely, then with each pattern, and compare.

    Parameters
    ----------
    model
        A model handle, pruned result or transformers causal LM whose layers see all keys.
    ids
        Tokens of one text, read at once.
    patterns
        Names or `Pattern` objects, or ``"all"``.
    threads
        Of the kernel.
    progress
        Hears after every layer; cancels.

    Raises
    ------
    ArgumentError
        If the text is too long or too short, or a name is unknown.
    ModelError
        If a layer has a window or caps its scores.
    """
    lm, progress = as_lm(model), progress or Progress()
    tokens = np.asarray(ids, np.int64).reshape(-1)
    most = int(lm.module.config.max_position_embeddings)
    if not 2 <= tokens.size <= most:
        raise ArgumentError(f"ids has {tokens.size} tokens: 2 to {most}")
    names = sorted(registry()) if patterns == "all" else [patterns] if isinstance(patterns, str) else patterns
    chosen = [resolve(p) for p in names]
    watcher = _Watcher(lm, progress, threads, 1 + len(chosen))
    dense, seconds = watcher.read(tokens, None)
    rows = []
    for one in chosen:
        found, took = watcher.read(tokens, one)
        recalls, costs = watcher.figures()
        loss = float((dense.exp() * (dense - found)).sum(-1).mean())
        name = one.name if chosen.count(one) == 1 and [c.name for c in chosen].count(one.name) == 1 else repr(one)
        rows.append(PatternRow(name, float(recalls.mean()), float(costs.mean()), loss, took, recalls, costs))
    return SparsePrefill(lm.source, tokens.size, tuple(rows), seconds, Provenance.here())


class _Watcher:
    """Reads texts with a pattern, and adds up what it keeps of dense attention."""

    def __init__(self, lm: LM, progress: Progress, threads: int, passes: int) -> None:
        config = lm.module.config
        self.lm, self.progress, self.threads = lm, progress, threads
        self.shape = int(config.num_hidden_layers), int(config.num_attention_heads)
        self.total, self.done = passes * self.shape[0], 0
        self.pattern: Pattern | None = None
        self.mass: dict[int, np.ndarray] = {}

    def read(self, tokens: np.ndarray, pattern: Pattern | None) -> tuple[torch.Tensor, float]:
        """Log-probabilities ``[S, V]``, and seconds of attention and all else but the counting."""
        self.pattern, self.aside = pattern, 0.0
        self.kept = np.zeros(self.shape), np.zeros(self.shape)
        start = time.perf_counter()
        with torch.no_grad(), watched(self.lm, self._attend):
            logits = self.lm.module(torch.from_numpy(tokens)[None], use_cache=False).logits[0]
        return torch.log_softmax(logits.float(), -1), time.perf_counter() - start - self.aside

    def figures(self) -> tuple[np.ndarray, np.ndarray]:
        """Recall and cost of every head ``[layers, heads]``."""
        return self.kept

    def _attend(self, passing: Passing) -> torch.Tensor:
        self.progress.check()
        count = blocks(passing.key.shape[1])
        lower = np.tri(count, dtype=bool)
        if self.pattern is None:
            masks = np.broadcast_to(lower, (len(passing.query), count, count))
            begun = time.perf_counter()
            self.mass[passing.layer] = block_mass(passing)
            self.aside += time.perf_counter() - begun
        else:
            masks = self.pattern.masks(passing)
            recall, cost = self.kept
            recall[passing.layer] = (self.mass[passing.layer] * masks).sum((1, 2)) / passing.query.shape[1]
            cost[passing.layer] = masks.sum((1, 2)) / lower.sum()
        self.done += 1
        self.progress.step("reading with patterns", self.done, self.total)
        return attend(passing, masks, self.threads)


def block_mass(passing: Passing) -> np.ndarray:
    """Attention summed over blocks of 64 x 64: float32 ``[H, B, B]``."""
    count, length = blocks(passing.key.shape[1]), passing.key.shape[1]
    found = np.zeros((len(passing.query), count, count), np.float32)
    for head in range(len(found)):
        p = torch.softmax(passing.scores(head), -1)
        wide = torch.nn.functional.pad(p, (0, count * BLOCK - length, 0, count * BLOCK - length))
        found[head] = wide.reshape(count, BLOCK, count, BLOCK).sum((1, 3)).numpy()
    return found
