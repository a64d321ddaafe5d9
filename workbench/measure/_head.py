"""A model in two halves: final states of a text, and logits of some of them; states are small where logits are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Half = Callable[[torch.Tensor], torch.Tensor]


def split_head(module: Any, probe: torch.Tensor) -> tuple[Half, Half]:
    """How to read token ids ``[1, T]`` to states ``[T, X]``, and how to make logits ``[n, vocabulary]`` of some.

    Where a model makes its logits in its own way, which ``probe`` (a few token ids) finds out, they are the states.
    """
    base, head = getattr(module, "base_model", module), module.get_output_embeddings()
    cap = getattr(module.config.get_text_config(), "final_logit_softcapping", None)

    def states(ids: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = base(input_ids=ids, use_cache=False)[0][0]
        return found

    def logits(part: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = head(part)
        return cap * torch.tanh(found / cap) if cap else found

    def whole(ids: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = module(input_ids=ids, use_cache=False).logits[0]
        return found

    if base is not module and head is not None:
        with torch.no_grad():
            probe = probe.to(module.device)
            own, true = logits(states(probe)).float(), whole(probe).float()
        if own.shape == true.shape and torch.allclose(own, true, rtol=1e-3, atol=1e-3):
            return states, logits
    return whole, lambda part: part
