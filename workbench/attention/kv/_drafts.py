"""What methods with a draft model ask of it: how a text goes on, and what its own attention heeds in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import DynamicCache

from workbench.attention.watching import Passing, watched
from workbench.decode.speculative._own_draft import middle, own_draft, without_layers
from workbench.decode.target import TransformersTarget, as_target
from workbench.errors import ArgumentError
from workbench.models import LM, as_lm

BLOCK = 256  # tokens that go through a draft at once


def continued(lm: LM, draft: Any, ids: Sequence[int], count: int) -> list[int]:
    """The most likely tokens after a text by the draft model, at most ``count``, one that ends an answer the last.

    Parameters
    ----------
    lm
        The model that the draft is for.
    draft
        A model handle, pruned result, compiled model or transformers causal LM; None for a copy of ``lm`` rounded to
        int8, or without a tenth of its layers where there is no compiled runtime, or no room in it.

    Raises
    ------
    ArgumentError
        If the draft knows other tokens, or has no room for the text.
    """
    target = as_target(_own(lm, len(ids)) if draft is None else draft)
    known = int(lm.module.get_output_embeddings().weight.shape[0])
    if target.vocabulary != known:
        raise ArgumentError(f"draft knows {target.vocabulary} tokens, the model {known}: take one with the same tokens")
    try:
        for start in range(0, len(ids), BLOCK):
            logits = target.forward(ids[start : start + BLOCK], last=True).logits
        found: list[int] = []
        for _ in range(min(count, 1 + target.context - len(ids))):
            found.append(int(logits[-1].argmax()))
            if found[-1] in target.end_tokens or len(found) == count or target.length == target.context:
                break
            logits = target.forward([found[-1]]).logits
        return found
    finally:
        target.crop()


def _own(lm: LM, length: int) -> Any:
    """A draft of the model itself; the compiled copy has room for some texts only, one without layers for all."""
    whole = TransformersTarget(lm)
    draft = own_draft(whole)
    return draft if as_target(draft).context > length else without_layers(whole, middle(whole, 0.1))


def shallow(lm: LM, depth: float) -> LM:
    """The model's first layers, this share of them, at least one; weights are shared, and it is made once."""
    total = lm.architecture.num_layers
    kept = max(1, round(depth * total))
    return lm if kept == total else as_lm(without_layers(TransformersTarget(lm), range(kept, total)))


def heeded(lm: LM, ids: Sequence[int], start: int, window: int) -> torch.Tensor:
    """How much the last queries of a text heed each of its tokens, at most, over layers, heads and queries.

    Parameters
    ----------
    start
        First layer that counts; the last one does always.
    window
        Queries; their shares are weighted from 0 (the oldest) to 1 (the newest), evenly.

    Returns
    -------
    Tensor of float32 [S]
    """
    window, start = min(window, len(ids)), min(start, lm.architecture.num_layers - 1)
    weights = torch.linspace(0, 1, window)[:, None] if window > 1 else torch.ones(1, 1)
    most = torch.zeros(len(ids))

    def observer(passing: Passing) -> torch.Tensor:
        if passing.layer >= start and passing.key.shape[1] == len(ids):
            newest = replace(passing, query=passing.query[:, -window:])
            for head in range(len(passing.query)):
                share = torch.softmax(newest.scores(head), -1) * weights
                torch.maximum(most, share.amax(0), out=most)
        return passing.dense()

    tokens, cache = torch.tensor([list(ids)]), DynamicCache()
    head = len(ids) - window  # the window goes through in one pass
    ends = [*range(BLOCK, head, BLOCK), *([head] if head else []), len(ids)]
    with torch.no_grad(), watched(lm, observer):
        for first, end in zip([0, *ends], ends, strict=False):
            lm.module.base_model(tokens[:, first:end], past_key_values=cache, use_cache=True)
    return most
