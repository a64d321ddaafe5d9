"""Reading a text densely once, and what patterns keep of it; then again with the patterns whose answer is wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from workbench.attention.patterns._mass import mass
from workbench.attention.patterns._pattern import Pattern, attend, blocks
from workbench.attention.watching import Passing, watched
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.measure._head import split_head
from workbench.models import LM

CHUNK, _PROBE = 256, 8


@dataclass(frozen=True, eq=False)
class Kept:
    """What a pattern keeps of dense attention: recall and cost ``[L, H]``, and blocks, packed ``[L, H, bytes]``."""

    recalls: np.ndarray
    costs: np.ndarray
    packed: np.ndarray

    @classmethod
    def empty(cls, layers: int, heads: int, count: int) -> Kept:
        """Nothing yet."""
        cells = count * (count + 1) // 2
        packed = np.zeros((layers, heads, -(-cells // 8)), np.uint8)
        return cls(np.zeros((layers, heads)), np.zeros((layers, heads)), packed)

    def blocks(self, layer: int, head: int, count: int) -> np.ndarray:
        """Bool ``[B, B]``."""
        lower = np.tri(count, dtype=bool)
        found = np.zeros((count, count), bool)
        found[lower] = np.unpackbits(self.packed[layer, head], count=int(lower.sum())).astype(bool)
        return found


class Passes:
    """A text, a model, and patterns.

    Parameters
    ----------
    lm
    tokens : ndarray of int64 [S]
    patterns
        Bound to the model here.
    again
        How many of them will be read with.
    threads
        Of the kernel.
    progress
        Hears after every layer; cancels.

    Raises
    ------
    ArgumentError
        If the text is too short or too long.
    """

    def __init__(
        self, lm: LM, tokens: np.ndarray, patterns: Sequence[Pattern], again: int, threads: int, progress: Progress
    ) -> None:
        config = lm.module.config
        most = int(config.max_position_embeddings)
        if not 2 <= tokens.size <= most:
            raise ArgumentError(f"ids has {tokens.size} tokens: 2 to {most}")
        self.lm, self.tokens, self.threads, self.progress = lm, tokens, threads, progress
        self.count = blocks(tokens.size)
        self.patterns = [p.bound(lm) for p in patterns]
        layers, heads = int(config.num_hidden_layers), int(config.num_attention_heads)
        self.kept = [Kept.empty(layers, heads, self.count) for _ in patterns]
        self.done, self.total = 0, layers * (1 + again)
        self.aside = 0.0
        self._ids = torch.from_numpy(tokens)[None]
        self._states, self.logits = split_head(lm.module, self._ids[:, :_PROBE])

    def dense(self) -> tuple[torch.Tensor, float]:
        """Final states ``[S, X]`` and seconds of the pass, with all blocks by the kernel; fills `kept` meanwhile."""
        return self._read(self._dense)

    def sparse(self, number: int) -> tuple[torch.Tensor, float]:
        """Final states and seconds of a pass with one of the patterns, its choice of blocks included."""
        chosen = self.patterns[number]
        return self._read(lambda passing: chosen.attend(passing, chosen.masks(passing), self.threads))

    def divergences(self, first: torch.Tensor, others: Sequence[torch.Tensor]) -> np.ndarray:
        """KL of the first answer from each other at every position: float32 ``[others, S]``, nats."""
        found = np.zeros((len(others), len(first)), np.float32)
        with torch.no_grad():
            for start in range(0, len(first) if others else 0, CHUNK):
                self.progress.check()
                part = slice(start, start + CHUNK)
                true = self.logits(first[part]).float()
                shares, level = torch.softmax(true, -1), true.logsumexp(-1)
                for n, other in enumerate(others):
                    off = self.logits(other[part]).float()
                    gap = torch.einsum("sv,sv->s", shares, true - off) - level + off.logsumexp(-1)
                    found[n, part] = gap.clamp(min=0).numpy()  # below 0 is rounding
        return found

    def _read(self, attention: Callable[[Passing], torch.Tensor]) -> tuple[torch.Tensor, float]:
        def counted(passing: Passing) -> torch.Tensor:
            self.progress.check()
            found = attention(passing)
            self.done += 1
            self.progress.step("reading with patterns", self.done, self.total)
            return found

        self.aside, start = 0.0, time.perf_counter()
        with torch.no_grad(), watched(self.lm, counted):
            found = self._states(self._ids)
        return found, time.perf_counter() - start - self.aside

    def _dense(self, passing: Passing) -> torch.Tensor:
        lower = np.tri(self.count, dtype=bool)
        found = attend(passing, np.broadcast_to(lower, (len(passing.query), *lower.shape)), self.threads)
        begun = time.perf_counter()
        full = mass(passing)
        for chosen, kept in zip(self.patterns, self.kept, strict=True):
            self.progress.check()
            chosen.learn(passing, full)
            masks = chosen.masks(passing)
            kept.recalls[passing.layer] = (full * masks).sum((1, 2), dtype=np.float64) / len(self.tokens)
            kept.costs[passing.layer] = masks.sum((1, 2)) / lower.sum()
            kept.packed[passing.layer] = np.packbits(masks[:, lower], axis=1)
        self.aside += time.perf_counter() - begun
        return found
