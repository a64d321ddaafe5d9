"""Windows of text that a model writes by itself, both sides of a chat: what it will be asked to read through a lens."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from workbench.data import Tokens
from workbench.decode.prompts import chat_ids
from workbench.jobs import Progress
from workbench.models import LM

BATCH = 24  # windows at a time


@torch.no_grad()
def own_windows(
    lm: LM, samples: int, seqlen: int, *, temperature: float = 0.7, seed: int = 0, progress: Progress | None = None
) -> Tokens:
    """Sample windows from the beginning of a chat on, or from the end-of-text token where there is no template.

    Parameters
    ----------
    samples, seqlen
        Number of windows, and tokens of each.
    temperature
        Of the draws.
    seed
        Same seed, same text.
    """
    progress, generator = progress or Progress(), torch.Generator().manual_seed(seed)
    start = _start(lm)[:seqlen]
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < samples:
        count = min(BATCH, samples - sum(map(len, parts)))
        ids, cache = torch.tensor([start] * count), DynamicCache()
        written = [ids]
        for n in range(seqlen - len(start)):
            progress.step("writing text", sum(map(len, parts)) * seqlen + n * count, samples * seqlen)
            out = lm.module(written[-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
            chances = torch.softmax(out.logits[:, -1].float() / temperature, -1)
            written.append(torch.multinomial(chances, 1, generator=generator))
        parts.append(torch.cat(written, 1).numpy())
    return Tokens.of(np.concatenate(parts), name=f"text that the model wrote at temperature {temperature}, seed {seed}")


def _start(lm: LM) -> list[int]:
    """What stands before the first word of a user."""
    tokenizer: Any = lm.tokenizer
    if tokenizer is None:
        return [0]
    if not getattr(tokenizer, "chat_template", None):
        return [int(tokenizer.eos_token_id or 0)]
    ids, other = chat_ids(tokenizer, "Why"), chat_ids(tokenizer, "How")
    differs = next(n for n, (a, b) in enumerate(zip(ids, other, strict=False)) if a != b)
    return ids[:differs]
