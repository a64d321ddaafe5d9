"""Figures for the claims of early exits: what a token costs in layers, and which questions need fewer of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workbench.decode.claims import DecodingContext
from workbench.decode.depth.layer_paths import layer_paths
from workbench.decode.generation import Generation, generate
from workbench.errors import ArgumentError

SIMULATIONS = 60  # paths tried for a question


def layers_per_token(found: Generation) -> float:
    """Layers loaded per token after the first, the output head counted as the layers that its weights would fill."""
    notes = found.trace.notes
    loaded = float(notes["layers_run"]) + float(notes["head_layers"]) * float(notes["heads_run"])
    return loaded / max(1, len(found.trace.tokens) - 1)


def tokens_per_layer(**parameters: Any) -> Callable[[DecodingContext, str, Any, int], tuple[float, float]]:
    """Figures: tokens per layer of a method, and of plain decoding; on the transformers model of the context."""

    def figures(context: DecodingContext, name: str, item: Any, seed: int) -> tuple[float, float]:
        found = _answer(context, name, item, seed, parameters)
        notes = found.trace.notes
        if len(found.trace.tokens) < 2:
            return float("nan"), float("nan")
        return 1 / layers_per_token(found), 1 / (notes["layers"] + notes["head_layers"])

    return figures


def _answer(context: DecodingContext, name: str, item: Any, seed: int, parameters: dict[str, Any]) -> Generation:
    if context.lm is None:
        raise ArgumentError("the context has no lm: layers are run one by one on a transformers model")
    context.progress.check()
    ids = item.ids(context.lm.tokenizer)
    return generate(context.lm, ids, name, max_new_tokens=context.new_tokens, seed=seed, detail=False, **parameters)


@dataclass(frozen=True, slots=True)
class Question:
    """A question with a short answer that is not open to doubt."""

    name: str
    text: str
    answer: str


QUESTIONS = tuple(
    Question(f"question-{n}", text, answer)
    for n, (text, answer) in enumerate(
        (
            ("The capital of France is", " Paris"),
            ("The capital of Italy is", " Rome"),
            ("The capital of Japan is", " Tokyo"),
            ("The capital of Germany is", " Berlin"),
            ("The capital of Spain is", " Madrid"),
            ("Monday, Tuesday, Wednesday,", " Thursday"),
            ("January, February, March,", " April"),
            ("one, two, three, four,", " five"),
            ("A, B, C, D,", " E"),
            ("The opposite of hot is", " cold"),
            ("The opposite of up is", " down"),
            ("Ice is frozen", " water"),
            ("The sun rises in the", " east"),
            ("A dog barks and a cat", " me"),
            ("Red, orange, yellow,", " green"),
            ("Water boils at 100 degrees", " Celsius"),
        ),
        1,
    )
)


def shorter_path(context: DecodingContext, name: str, item: Any, seed: int) -> tuple[float, float]:
    """1 where fewer layers are right too, else 0, beside the paper's 0.75; left out where all layers are wrong."""
    del name
    if context.lm is None:
        raise ArgumentError("the context has no lm: layers are run one by one on a transformers model")
    found = layer_paths(
        context.lm, item.text, item.answer, simulations=SIMULATIONS, seed=seed, progress=context.progress
    )
    return (float(bool(found.shorter)), 0.75) if found.plain.right else (float("nan"), float("nan"))
