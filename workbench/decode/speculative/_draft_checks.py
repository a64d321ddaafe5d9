"""Draft models for the checks of claims: the model at hand, pruned, so that there is something to refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.decode.claims import DecodingContext


def pruned_draft(context: DecodingContext) -> Mapping[str, Any]:
    """``draft``: half of the weights pruned by Wanda, the rest in int8 bitmaps; without a model handle the default."""
    from workbench.execute.compiled import compile  # noqa: A004
    from workbench.prune.pipeline import prune

    if context.lm is None:
        return {}
    lm = context.lm

    def make() -> Any:
        return compile(prune(lm, "wanda", 0.5), "bitmap", "int8", threads=context.threads)

    return {"draft": context.once("wanda-0.5, bitmap, int8", make)}


def pruned_chain(context: DecodingContext, tokens: int) -> Mapping[str, Any]:
    """The same draft for chains of a fixed length."""
    return {**pruned_draft(context), "draft_tokens": tokens, "confidence": 0.0}
