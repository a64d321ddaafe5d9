"""SpecKV: keys that the answer will look at, as a draft model expects the answer to be.

Kevin Galim, Ethan Ewer, Wonjun Kang, Minjae Lee, Hyung Il Koo, Kangwook Lee. Draft-based Approximate Inference for
LLMs. ICLR 2026. arXiv:2506.08373.

    y ~ draft's greedy answer to the prompt;  the model reads y too, for its queries alone
    s_j = max over |k - j| <= pool / 2 of max over heads and over the last w queries and those of y of P[i, k]

The last w keys stay, and those of y go. Departs from the paper: y has 32 tokens, where the paper drafts the answer's
whole length; w counts prompt tokens whose keys stay (its code looks at one query more); the prompt is read with full
attention, where the paper makes that sparse too; the draft is by default the model itself in int8, where the paper has
a smaller one of the same family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from workbench._citation import Citation
from workbench.attention.kv._drafts import continued
from workbench.attention.kv._method import HeadView, KVMethod, kv_method
from workbench.attention.kv.claims import Needles
from workbench.attention.kv.snapkv import pooled
from workbench.claims import Claim
from workbench.errors import ArgumentError
from workbench.models import LM


@kv_method
@dataclass(frozen=True)
class SpecKV(KVMethod):
    """What the window and a drafted answer attend to.

    Attributes
    ----------
    recent
        w, the observation window.
    pool
        Odd width over which scores are pooled, so that neighbours of a key stay with it.
    tokens
        Of the drafted answer; with the window at most 128.
    draft
        A model with the same tokens: a handle, pruned, compiled, or a transformers causal LM. None for a copy of the
        model itself, rounded to int8.
    """

    name: ClassVar[str] = "speckv"
    title: ClassVar[str] = "SpecKV (drafted look-ahead)"
    formula: ClassVar[str] = "s_j = max-pooled max of P_ij over the last w queries and those of a drafted answer"
    observes: ClassVar[int] = 128
    citation: ClassVar[Citation] = Citation(
        "Kevin Galim, Ethan Ewer, Wonjun Kang, Minjae Lee, Hyung Il Koo, Kangwook Lee",
        "Draft-based Approximate Inference for LLMs",
        2026,
        "2506.08373",
        "ICLR",
    )
    claim: ClassVar[Claim] = Claim(
        "Keys chosen by a drafted answer keep more of what the model knew than those that the prompt's end looks at.",
        "Qwen2.5-14B with 0.5B, Llama-3.1-8B with 1B; RULER and LongBench, 256 to 1024 keys, against SnapKV and others",
        Needles(than="snapkv", budget=0.15),
    )

    sinks: int = 0
    recent: int = 32
    pool: int = 7
    tokens: int = 32
    draft: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool < 1 or self.pool % 2 == 0:
            raise ArgumentError(f"pool={self.pool}: an odd number")
        if self.tokens < 0 or self.recent + self.tokens > self.observes:
            raise ArgumentError(
                f"tokens={self.tokens}, recent={self.recent}: not negative, and together at most {self.observes}"
            )

    def ahead(self, lm: LM, ids: Sequence[int]) -> Sequence[int]:
        """The drafted answer."""
        return continued(lm, self.draft, ids, self.tokens) if self.tokens else ()

    def score(self, view: HeadView) -> torch.Tensor:
        """Pooled attention of window and answer; keys of the window, which stay, lend nothing to their neighbours."""
        count = self.recent + (0 if view.ahead is None else len(view.ahead))
        most = view.attention()[:, -count:].amax((0, 1))
        most[view.positions >= view.length - self.recent] = 0
        return pooled(most, self.pool)
