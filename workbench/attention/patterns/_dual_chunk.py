"""Dual-chunk attention: positions that never leave the trained length, however long the text.

Chenxin An, Fei Huang, Jun Zhang, Shansan Gong et al. Training-Free Long-Context Scaling of Large Language Models.
ICML 2024. arXiv:2402.17463. With chunks of s tokens and w tokens of neighbourhood, s + w at most the trained length:

    key j                            stands at   j mod s
    query i, keys of its own chunk         at    i mod s                      (distance i - j, as always)
             keys of the chunk before      at    min(i mod s + s, s + w)      (i - j for the first w queries of a chunk)
             keys of chunks further back   at    s + w

One softmax over all three kinds. The block-sparse kernel has no parts to merge, so that queries stand three times side
by side, once for each kind, and a key has zeros in the two places that are not for it: products are the same, each
three times as dear. One call a chunk of queries; texts of one chunk are plain attention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from workbench_kernels.attention_prefill import BLOCK

from workbench.attention.patterns._pattern import attend
from workbench.attention.rotating import Rotation
from workbench.attention.watching import Passing

View = Callable[[int, int, int], np.ndarray]


@dataclass(frozen=True, eq=False)
class DualChunk:
    """Positions of one model.

    Attributes
    ----------
    rotation
    chunk, local
        Tokens s, a multiple of 64, and w.
    """

    rotation: Rotation
    chunk: int
    local: int

    def targets(self, length: int) -> torch.Tensor:
        """Positions of queries for the three kinds of keys: int64 ``[3, S]``."""
        inside = torch.arange(length) % self.chunk
        far = self.chunk + self.local
        return torch.stack([inside, (inside + self.chunk).clamp(max=far), torch.full_like(inside, far)])

    def turned(self, passing: Passing) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries for the three kinds ``[3, H, S, D]``, and keys ``[Hkv, S, D]``."""
        plain = torch.arange(passing.key.shape[1])
        queries = [self.rotation.turn(passing.query, to - plain) for to in self.targets(len(plain))]
        return torch.stack(queries), self.rotation.turn(passing.key, plain % self.chunk - plain)

    def view(self, passing: Passing) -> View:
        """How a few queries see all keys before them: ``(head, first, end) -> shares [end - first, end]``."""
        queries, keys = self.turned(passing)

        def shares(head: int, first: int, end: int) -> np.ndarray:
            own = keys[head // passing.group, :end]
            asked = torch.arange(first, end)
            kinds = (asked[:, None] // self.chunk - torch.arange(end) // self.chunk).clamp(0, 2)
            scores = torch.stack([one[head, first:end] @ own.T for one in queries]) * passing.scaling
            seen = scores.gather(0, kinds[None])[0].masked_fill(torch.arange(end) > asked[:, None], -1e30)
            return torch.softmax(seen, -1).numpy()

        return shares

    def attend(self, passing: Passing, masks: np.ndarray, threads: int = 1) -> torch.Tensor:
        """Attention over kept blocks ``[H, S, D]``."""
        length, dim = passing.key.shape[1], passing.query.shape[2]
        if length <= self.chunk:
            return attend(passing, masks, threads)
        queries, keys = self.turned(passing)
        wide = replace(
            passing,
            query=torch.cat(list(queries), -1),
            key=torch.zeros(*keys.shape[:2], 3 * dim),
            value=torch.nn.functional.pad(passing.value.float(), (0, 2 * dim)),
        )
        found = torch.empty(passing.query.shape, dtype=torch.float32)
        for number, start in enumerate(range(0, length, self.chunk)):
            wide.key.zero_()
            for other in range(number + 1):
                part, kind = slice(other * self.chunk, (other + 1) * self.chunk), min(number - other, 2)
                wide.key[:, part, kind * dim : (kind + 1) * dim] = keys[:, part]
            end = min(start + self.chunk, length)
            upto = replace(wide, query=wide.query[:, :end], key=wide.key[:, :end], value=wide.value[:, :end])
            rows = masks[:, : -(-end // BLOCK), : -(-end // BLOCK)].copy()
            rows[:, : start // BLOCK] = False
            found[:, start:end] = attend(upto, rows, threads)[:, start:end, :dim]
        return found.to(passing.query.dtype)
