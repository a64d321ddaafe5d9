"""What a sparse attention pattern is: which blocks of keys each block of queries sees; and the dict that holds them.

    queries and keys of a layer -> Pattern.keep -> blocks of 64 x 64 -> the block-sparse prefill kernel

A pattern is a frozen dataclass in a file of its own. Whatever it says, every query sees its own block, and none sees
what comes after it. What a pattern remembers while it reads stands in fields that are not compared.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
import torch
from workbench_kernels.attention_prefill import BLOCK, KeptBlocks, prefill_attention

from workbench._citation import Citation
from workbench._registry import Registry
from workbench.attention.watching import Passing
from workbench.errors import ArgumentError, ModelError
from workbench.models import LM


@dataclass(frozen=True)
class Pattern(ABC):
    """Base of the patterns.

    Attributes
    ----------
    name, title, formula, citation, claim
        As with pruning methods.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    formula: ClassVar[str]
    citation: ClassVar[Citation | None] = None
    claim: ClassVar[Any] = None

    @abstractmethod
    def keep(self, passing: Passing, head: int) -> np.ndarray:
        """Blocks that a query head sees: bool ``[B, B]``, B blocks of 64 tokens; only what is not later counts."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters, ready for JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.compare}

    @abstractmethod
    def within(self, budget: float, tokens: int) -> Self:
        """The same pattern at about this share of the blocks of a text; at 1 it keeps all of them."""

    def bound(self, lm: LM) -> Self:
        """The same pattern, knowing what it needs of the model it reads with."""
        del lm
        return self

    def learn(self, passing: Passing, mass: np.ndarray) -> None:
        """Make what is made offline of an example whose dense attention by blocks ``[H, B, B]`` is known."""
        del passing, mass

    def attend(self, passing: Passing, masks: np.ndarray, threads: int = 1) -> torch.Tensor:
        """Attention over its blocks: ``[H, S, D]``."""
        return attend(passing, masks, threads)

    def masks(self, passing: Passing) -> np.ndarray:
        """Blocks of all heads, bool ``[H, B, B]``: the diagonal always, nothing above it."""
        kept = np.stack([self.keep(passing, head) for head in range(len(passing.query))])
        return causal(kept)


def causal(kept: np.ndarray) -> np.ndarray:
    """Bool ``[..., B, B]`` with the diagonal, and without what lies above it."""
    count = kept.shape[-1]
    found: np.ndarray = (kept | np.eye(count, dtype=bool)) & np.tri(count, dtype=bool)
    return found


def blocks(tokens: int) -> int:
    """Blocks of 64 that hold so many tokens."""
    return -(-tokens // BLOCK)


def attend(passing: Passing, masks: np.ndarray, threads: int = 1) -> torch.Tensor:
    """Attention over kept blocks by the kernel: ``[H, S, D]``.

    Parameters
    ----------
    passing
        Of a whole text at once.
    masks
        Bool ``[H, B, B]``.
    threads
        Of the kernel.

    Raises
    ------
    ModelError
        If the layer has a window or caps its scores, or is not given the whole text.
    """
    if passing.offset or passing.softcap or 0 < passing.window < passing.key.shape[1]:
        raise ModelError("patterns run on whole texts and layers that see all keys, without capped scores")
    q, k, v = (np.ascontiguousarray(x.float().numpy()) for x in (passing.query, passing.key, passing.value))
    dim = q.shape[2]
    if dim % 16:
        q, k, v = (np.pad(x, ((0, 0), (0, 0), (0, -dim % 16))) for x in (q, k, v))
    kept = KeptBlocks.from_mask(masks, q.shape[1])
    found = prefill_attention(q, k, v, blocks=kept, scale=passing.scaling, threads=threads)
    return torch.from_numpy(found[:, :, :dim]).to(passing.query.dtype)


def share(name: str, value: float) -> None:
    """Refuse what is no share."""
    if not 0 < value <= 1:
        raise ArgumentError(f"{name}={value}: above 0, at most 1")


PATTERNS: Registry[Pattern] = Registry(Pattern, "pattern")
pattern, registry, resolve = PATTERNS.register, PATTERNS.classes, PATTERNS.resolve
