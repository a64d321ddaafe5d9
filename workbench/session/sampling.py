"""What models say: one prompt continued greedily, side by side; and how a perplexity came about."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from workbench.errors import ArgumentError, DataError
from workbench.jobs import Progress
from workbench.measure import Quality
from workbench.measure._statistics import mean_interval
from workbench.models import LM, as_lm
from workbench.session.variants import Samples


@torch.inference_mode()
def greedy(lm: LM, prompt: str, new_tokens: int, progress: Progress | None = None) -> str:
    """Continue a prompt with the likeliest token each time, ending at the model's end-of-text token.

    Raises
    ------
    DataError
        If the model has no tokenizer, or the prompt no tokens.
    """
    if new_tokens < 1:
        raise ArgumentError(f"new_tokens={new_tokens}: at least 1 is wanted")
    if lm.tokenizer is None:
        raise DataError("this model has no tokenizer, so it cannot continue a prompt: wrap(module, tokenizer)")
    ids = torch.tensor([lm.tokenizer(prompt)["input_ids"]], dtype=torch.long, device=lm.device)
    if not ids.numel():
        raise DataError(f"the prompt {prompt!r} has no tokens: write a word or two")
    ends, cache, said = lm.end_tokens, None, []
    for done in range(new_tokens):
        if progress is not None:
            progress.step("sample", done, new_tokens)
        output = lm.module(input_ids=ids, past_key_values=cache, use_cache=True)
        cache, token = output.past_key_values, int(output.logits[0, -1].argmax())
        if token in ends:
            break
        said.append(token)
        ids = torch.tensor([[token]], device=lm.device)
    return str(lm.tokenizer.decode(said))


def side_by_side(dense: LM, model: Any, prompt: str, new_tokens: int, progress: Progress | None = None) -> Samples:
    """One prompt continued by the dense model and by a pruned or compiled one."""
    said = greedy(dense, prompt, new_tokens, progress)
    if not hasattr(model, "chunks"):
        return Samples(prompt, said, greedy(as_lm(model), prompt, new_tokens, progress))
    tokens: list[int] = []
    ids = dense.tokenizer(prompt)["input_ids"]  # type: ignore[misc]
    for token in model.generate(ids, new_tokens, stop=tuple(model.end_tokens)):
        if progress is not None:
            progress.step("sample", len(tokens), new_tokens)
        tokens.append(token)
    return Samples(prompt, said, str(dense.tokenizer.decode(tokens)))  # type: ignore[union-attr]


def running(quality: Quality) -> np.ndarray:
    """How an estimate of perplexity converged.

    Returns
    -------
    float64 [windows, 4]
        After each window: tokens read, perplexity, and its 95 % interval (NaN after the first).
    """
    nll = quality.nll_per_window
    per_window = quality.tokens / len(nll)
    ends = [mean_interval(nll[:n]) for n in range(1, len(nll) + 1)]
    tokens = per_window * np.arange(1, len(nll) + 1)
    return np.column_stack([tokens, np.exp(np.minimum(ends, 700.0))])
