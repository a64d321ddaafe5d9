"""Texts with something in them that must be found again: a needle in a haystack, and a list of pairs.

The answer is a number of four digits, which the default model writes digit by digit, so that all but the first digit
depend on what a cache still holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.errors import ArgumentError

PLACES = (
    "garden", "harbour", "library", "kitchen", "station", "museum", "bakery", "theatre", "castle", "market", "school",
    "hospital", "forest", "island", "bridge", "tower",
)  # fmt: skip
ANSWER_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Hidden:
    """A prompt whose answer stands in it.

    Attributes
    ----------
    ids : tuple of int
        The prompt's tokens; the answer comes next.
    answer : str
        What it has to contain.
    place : tuple of int
        First token of what has to be found, and the one behind it.
    """

    ids: tuple[int, ...]
    answer: str
    place: tuple[int, int]


def needles(tokenizer: Any, haystack: Sequence[int], count: int = 4, *, seed: int = 0) -> list[Hidden]:
    """One fact in a long text, at depths spread evenly, and a question about it.

    Parameters
    ----------
    tokenizer
        Of the model.
    haystack
        Tokens of any text.
    count
        Prompts, at most 16.
    seed
        Of the numbers.

    Raises
    ------
    ArgumentError
        If there is no tokenizer, or the count is out of range.
    """
    _check(tokenizer, count)
    random, found = np.random.default_rng(seed), []
    hay = [int(t) for t in haystack]
    for n in range(count):
        place, number = PLACES[n], str(random.integers(1000, 10000))
        cut = round((n + 0.5) / count * len(hay))
        fact = _ids(tokenizer, f"\n\nThe secret number of the {place} is {number}. Remember it.\n\n")
        asked = f"\n\nQuestion: What is the secret number of the {place}?\nAnswer: The secret number of the {place} is"
        ids = (*hay[:cut], *fact, *hay[cut:], *_ids(tokenizer, asked))
        found.append(Hidden(ids, number, (cut, cut + len(fact))))
    return found


def pairs(
    tokenizer: Any, length: int = 6, count: int = 4, *, seed: int = 0, haystack: Sequence[int] = ()
) -> list[Hidden]:
    """A list of places and their numbers, and a question about one of them.

    Parameters
    ----------
    tokenizer
        Of the model.
    length
        Pairs in a list.
    count
        Prompts, at most as many as pairs.
    seed
        Of places and numbers.
    haystack
        Tokens of a text in whose middle the list stands.

    Raises
    ------
    ArgumentError
        If there is no tokenizer, or a size is out of range.
    """
    _check(tokenizer, count)
    if not count <= length <= len(PLACES):
        raise ArgumentError(f"length={length}: {count} to {len(PLACES)} pairs")
    random, found = np.random.default_rng(seed), []
    hay = [int(t) for t in haystack]
    before, after = hay[: len(hay) // 2], hay[len(hay) // 2 :]
    for n in range(count):
        names = [PLACES[int(k)] for k in random.permutation(len(PLACES))[:length]]
        numbers = [str(x) for x in random.choice(np.arange(1000, 10000), length, replace=False)]
        asked = round((n + 0.5) / count * length)
        ids = [*before, *(_ids(tokenizer, "\n\n") if before else [])]
        place = (0, 0)
        for k, (name, number) in enumerate(zip(names, numbers, strict=True)):
            part = _ids(tokenizer, f"The number of the {name} is {number}.\n")
            place = (len(ids), len(ids) + len(part)) if k == asked else place
            ids += part
        name = names[asked]
        question = f"\n\nQuestion: What is the number of the {name}?\nAnswer: The number of the {name} is"
        ids += after + _ids(tokenizer, question)
        found.append(Hidden(tuple(ids), numbers[asked], place))
    return found


def _check(tokenizer: Any, count: int) -> None:
    if tokenizer is None:
        raise ArgumentError("the model has no tokenizer: these tasks are texts")
    if not 1 <= count <= len(PLACES):
        raise ArgumentError(f"count={count}: 1 to {len(PLACES)}")


def _ids(tokenizer: Any, text: str) -> list[int]:
    return [int(t) for t in tokenizer(text)["input_ids"]]
