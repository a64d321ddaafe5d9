"""The Python that makes a session's variants again, with the public interface alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from workbench.data import Tokens, calibration
from workbench.errors import DataError
from workbench.models import LM
from workbench.session.variants import Choice, Execution, Step, Variant


def model_expression(lm: LM) -> str:
    """The Python that loads a session's model again; empty if it came from memory."""
    if lm.source == "memory":
        return ""
    given = [] if lm.source == "default" else [repr(lm.source)]
    if lm.module.dtype != torch.float32:
        given.append(f"dtype={lm.module.dtype}")
    return f"workbench.load({', '.join(given)})"


def tokens_expression(lm: LM, source: Any, samples: int, seqlen: int, seed: int) -> str:
    """The Python that draws a session's calibration tokens again; empty if they came from elsewhere."""
    text = ""
    if isinstance(source, str | Path):
        text = f"{str(source)!r}, "
    elif isinstance(source, Tokens):
        samples, seqlen, seed = source.samples, source.seqlen, source.seed or 0
        if not _is_builtin(lm, source):
            return ""
    elif source is not None:
        return ""
    return f"workbench.calibration(model, {text}samples={samples}, seqlen={seqlen}, seed={seed})"


def _is_builtin(lm: LM, tokens: Tokens) -> bool:
    """Whether the default text gives the same tokens."""
    if lm.tokenizer is None or tokens.seed is None:
        return False
    try:
        again = calibration(lm, samples=tokens.samples, seqlen=tokens.seqlen, seed=tokens.seed)
    except DataError:
        return False
    return again.hash == tokens.hash


def python_of(lineage: tuple[Step, ...], load: str, tokens: str, seed: int) -> str:
    """The program that makes one variant.

    Parameters
    ----------
    load
        The Python expression of the model; empty leaves the name ``model`` to the reader.
    tokens
        The Python expression of the calibration tokens; empty leaves the name ``tokens`` to the reader.
    """
    lines, model = _beginning(load, tokens), "model"
    for step in lineage:
        name = "pruned" if isinstance(step, Choice) else "compiled"
        lines.append(_line(name, step, model, seed))
        model = name
    return "\n".join(lines) + "\n"


def python_of_all(variants: Sequence[Variant], current: Variant | None, load: str, tokens: str, seed: int) -> str:
    """The program that makes all variants of a session, ``v1``, ``v2``..., and the current model, ``current``.

    Parameters
    ----------
    variants
        In the order of making; what they were made from is among them.
    """
    lines = _beginning(load, tokens)
    for variant in variants:
        model = f"v{variant.parent}" if variant.parent else "model"
        lines.append(_line(f"v{variant.number}", variant.lineage[-1], model, seed))
    lines.append(f"current = {f'v{current.number}' if current else 'model'}")
    return "\n".join(lines) + "\n"


def _beginning(load: str, tokens: str) -> list[str]:
    lines = [*(["import torch"] if "torch." in load else []), "import workbench", ""]
    if load:
        lines.append(f"model = {load}")
    else:
        lines.append("# model: the model that was given to the session; it was not loaded from a name")
    if tokens:
        lines.append(f"tokens = {tokens}")
    else:
        lines.append("# tokens: the calibration tokens that were given to the session")
    return lines


def _line(name: str, step: Step, model: str, seed: int) -> str:
    if isinstance(step, Execution):
        given = ", ".join(f"{k}={v!r}" for k, v in step.arguments().items())
        return f"{name} = workbench.compile({model}, {given})"
    given = ", ".join(f"{k}={v!r}" for k, v in step.arguments().items() if k != "method")
    return f"{name} = workbench.prune({model}, {step.method!r}, {given}, calibration=tokens, seed={seed})"
