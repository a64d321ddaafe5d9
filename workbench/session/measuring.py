"""What is measured of a new variant, beside the dense model of the same run."""

from __future__ import annotations

import dataclasses
from typing import Any

from workbench import measure
from workbench.data import Tokens
from workbench.jobs import Progress
from workbench.models import LM
from workbench.session.history import Stages
from workbench.session.sampling import side_by_side
from workbench.session.variants import MEASURE_DENSE, MEASURE_PRUNED

NEW_TOKENS = 24
TIMING = {"prompt_tokens": 128, "new_tokens": 8, "repeats": 5}


def measured(
    model: Any,
    dense: LM,
    evaluation: Tokens,
    prompt: str,
    before: Any,
    tell: Stages,
    progress: Progress | None,
    *,
    speed: bool,
    size: Any = None,
) -> dict[str, Any]:
    """The figures of a `Variant`, by name.

    Parameters
    ----------
    model
        A pruned result or a compiled model.
    before
        Quality of the dense model if it is known, else None.
    tell
        Announces each part.
    speed
        Whether to time prefill and decode too (some seconds).
    size
        Of the model, if it is known.
    """
    sizes = measure.size(dense), size if size is not None else measure.size(model)
    tell(MEASURE_DENSE, sizes)
    before = before or measure.perplexity(dense, evaluation, progress=progress)
    tell(MEASURE_PRUNED, before)
    after = measure.perplexity(model, evaluation, progress=progress)
    tell("sample")
    samples = timed = None
    if dense.tokenizer is not None:
        samples = side_by_side(dense, model, prompt, NEW_TOKENS, progress)
    if speed:
        tell("time", samples)
        timed = measure.speed(model, dense, progress=progress, **TIMING)
    names = ("before", "after", "dense_size", "size", "speed", "samples")
    return dict(zip(names, (before, after, *sizes, timed, samples), strict=True))


def packed_size(size: Any, compiled: Any) -> Any:
    """The size of a compiled model: the parameters of the one it was made from, in fewer bytes."""
    embedding = compiled.decoder.weights.embedding
    return dataclasses.replace(size, weight_bytes=compiled.nbytes + embedding.nbytes)
