"""Drafting and verifying: several tokens per pass of the target, and the text that it would have said anyway."""

from __future__ import annotations

from workbench.decode.speculative import (  # noqa: F401 - importing registers
    auto,
    draft_model,
    hydra,
    layer_skip,
    medusa,
    multi_candidate,
    opt_tree,
    prompt_lookup,
    rsd_c,
    rsd_s,
    stand,
    token_recycling,
)
from workbench.decode.speculative._base import Drafter, Speculative, softmax

__all__ = ["Drafter", "Speculative", "softmax"]
