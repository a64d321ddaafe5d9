"""Training of drafting heads on a CPU, in minutes: `train_heads`.

    prompts --the model answers--> text, hidden states h --Adam--> W_k, b_k of `workbench.decode.speculative._heads`

    head:  h_k = h + U_k drop(SiLU(W_k x_k + b_k)),   drop: entries are left out at random while training
    loss = mean over heads and places of - sum_x p(x) log softmax(E h_k)[x],    p = softmax(E h') over the vocabulary

E are the output head's rows of the most frequent tokens of that text: the softmax runs over them only, at training and
at drafting, and places whose next token is another are left out. p is what the model itself said there (h' is its
hidden state one token before the guessed one), half of it, the other half is the token that it wrote. Products with E
are taken in bfloat16. Embeddings are brought to the size of hidden states, so that one rate suits both; the factor is
part of the weights in the end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.decode.speculative._heads import KINDS, Heads, described
from workbench.decode.training._heads_work import Recipe, Work
from workbench.decode.training._questions import questions
from workbench.decode.training.own_text import OwnText, own_text
from workbench.errors import ArgumentError, unknown
from workbench.jobs import Progress
from workbench.models import LM, as_lm
from workbench.weights import cache_dir


def train_heads(
    model: Any,
    kind: str = "medusa",
    heads: int = 3,
    *,
    text: OwnText | None = None,
    prompts: int | Sequence[Sequence[int]] = 1152,
    batches: int | None = 20,
    rounds: int = 2,
    tokens: int = 144,
    vocabulary: int = 6144,
    epochs: int = 2,
    batch: int = 256,
    rate: float = 1e-3,
    soft: float = 0.5,
    drop: float = 0.1,
    seed: int = 0,
    folder: str | Path | None = None,
    every: int = 50,
    progress: Progress | None = None,
) -> Heads:
    """Train heads for the methods ``"medusa"`` and ``"hydra"``.

    Parameters
    ----------
    model
        A model handle, or what holds one; it is not changed.
    kind
        ``"medusa"`` or ``"hydra"``.
    heads
        Tokens that a draft is long.
    text
        To learn from; by default the model answers ``prompts`` with at most ``tokens`` tokens each.
    prompts
        How many of the built-in ones, or token ids.
    batches
        Of 48 prompts, of those in an order drawn by the seed; None answers all.
    rounds
        So many times that is done, each time with other built-in prompts; token ids are asked once.
    vocabulary
        Tokens that may be drafted.
    epochs, batch, rate
        Of Adam; the rate falls to 0 along a cosine.
    soft
        Share of the model's own distribution in the targets.
    drop
        Share of entries, of what U multiplies, that training drops.
    seed
        Same seed, same bits.
    folder
        Where text and the state of the training are kept, so that a killed one goes on; by default in the cache.
    every
        Steps between two states that are kept.

    Raises
    ------
    ArgumentError
        If an argument is out of range, or the model has no tokenizer and no prompts are given.
    Cancelled
        If the job was cancelled; the next call goes on.

    Examples
    --------
    >>> train_heads(lm, "hydra").save("hydra.safetensors")                           # doctest: +SKIP
    """
    lm, progress = as_lm(model), progress or Progress()
    if kind not in KINDS:
        raise unknown("kind of heads", kind, KINDS)
    counts = {"heads": heads, "vocabulary": vocabulary, "epochs": epochs, "batch": batch, "rounds": rounds}
    for name, value in counts.items():
        if value < 1:
            raise ArgumentError(f"{name}={value}: at least 1")
    if rate <= 0 or not 0 <= soft <= 1 or not 0 <= drop < 1:
        raise ArgumentError(f"rate={rate}, soft={soft}, drop={drop}: a positive number, and shares from 0 to 1")
    recipe = Recipe(kind, heads, vocabulary, epochs, batch, rate, soft, drop, seed)
    fingerprint = lm.fingerprint
    place = cache_dir() / "heads" / fingerprint[:16] if folder is None else Path(folder)
    if text is None:
        parts = []
        for n in range(rounds if isinstance(prompts, int) else 1):
            asked, own = _prompts(lm, prompts, seed + n), seed + 1000 * n
            parts.append(own_text(lm, asked, place, tokens=tokens, batches=batches, seed=own, progress=progress))
        text = OwnText.joined(parts)
    work = Work(lm, text, recipe)
    key = hashlib.sha256(json.dumps([asdict(recipe), text.hash, fingerprint]).encode()).hexdigest()[:16]
    work.run(place / f"{kind}-{key}.state.safetensors", every, progress)
    about = {
        "recipe": json.dumps(asdict(recipe)),
        "seed": str(seed),
        "text": text.hash,
        "tokens": str(len(text.tokens)),
    }
    return work.finish(about | described(lm))


def _prompts(lm: LM, prompts: int | Sequence[Sequence[int]], seed: int) -> Sequence[Sequence[int]]:
    if not isinstance(prompts, int):
        return prompts
    if lm.tokenizer is None:
        raise ArgumentError("the model has no tokenizer: give prompts as token ids")
    return questions(lm.tokenizer, prompts, seed)
