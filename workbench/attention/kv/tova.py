"""TOVA: token omission via attention: at every step the key that the newest query heeds least goes.

Matanel Oren, Michael Hassid, Nir Yarden, Yossi Adi, Roy Schwartz. Transformers are Multi-State RNNs. EMNLP 2024.
arXiv:2401.06104.

    s_j = mean over query heads of P[newest, j]

Departs from the paper: the mean runs over the query heads of one KV head, where the paper's runs over the whole layer;
so that each KV head keeps its own keys, as with the other methods here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from workbench._citation import Citation
from workbench.attention.kv._method import HeadView, KVMethod, kv_method
from workbench.attention.kv.claims import Continuation
from workbench.claims import Claim


@kv_method
@dataclass(frozen=True)
class TOVA(KVMethod):
    """Attention of the newest query."""

    name: ClassVar[str] = "tova"
    title: ClassVar[str] = "TOVA"
    formula: ClassVar[str] = "s_j = mean_h P_nj of the newest query n"
    always: ClassVar[bool] = True
    citation: ClassVar[Citation] = Citation(
        "Matanel Oren, Michael Hassid, Nir Yarden, Yossi Adi, Roy Schwartz",
        "Transformers are Multi-State RNNs",
        2024,
        "2401.06104",
        "EMNLP",
    )
    claim: ClassVar[Claim] = Claim(
        "Dropping what the newest token heeds least beats windows with sinks and heavy hitters at equal size.",
        "LLaMA-2, Mistral, Yi 7B; PG-19 and others, in some cases an eighth of the cache nearly on par with all of it",
        Continuation(than="h2o"),
    )

    sinks: int = 0
    recent: int = 1

    def score(self, view: HeadView) -> torch.Tensor:
        """The newest query's probabilities."""
        return view.attention()[:, -1].mean(0)
