"""Questions of our own for the claims: choices of four, the right one first, and facts spread over short notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.attention.tasks import PLACES


@dataclass(frozen=True, slots=True)
class Choice:
    """A question with options; the first is right."""

    name: str
    asked: str
    options: tuple[str, ...]


_CHOICES = (
    ("Which of these is the capital of France?", "Paris", "Berlin", "Madrid", "Rome"),
    ("Which of these animals can fly?", "an eagle", "a horse", "a whale", "a rabbit"),
    ("Which of these is a fruit?", "a banana", "a carrot", "a potato", "an onion"),
    ("What do bees make?", "honey", "milk", "cheese", "bread"),
    ("Which of these is the largest planet in the solar system?", "Jupiter", "Mars", "Venus", "Mercury"),
    ("What does a doctor treat?", "patients", "cars", "computers", "houses"),
    ("Which metal is attracted by a magnet?", "iron", "gold", "copper", "silver"),
    ("What is frozen water called?", "ice", "steam", "sand", "salt"),
    ("Where do fish live?", "in water", "in trees", "in the desert", "in the clouds"),
    ("Which of these is used to cut paper?", "scissors", "a spoon", "a pillow", "a bottle"),
    ("What do plants need to grow?", "sunlight", "plastic", "music", "gasoline"),
    ("Which organ pumps blood through the body?", "the heart", "the liver", "the skin", "the stomach"),
    ("Which season is the coldest?", "winter", "summer", "spring", "autumn"),
    ("Who wrote Romeo and Juliet?", "Shakespeare", "Einstein", "Mozart", "Newton"),
    ("Which of these is a musical instrument?", "a violin", "a hammer", "a ladder", "a lamp"),
    ("What is the opposite of hot?", "cold", "tall", "fast", "loud"),
    ("Which of these is a colour?", "green", "square", "seven", "Monday"),
    ("Where would you borrow a book?", "a library", "a bakery", "a garage", "a farm"),
    ("Which planet do we live on?", "Earth", "Saturn", "Neptune", "Uranus"),
    ("What do you use an umbrella for?", "rain", "cooking", "sleeping", "writing"),
)


def choices(count: int = len(_CHOICES)) -> tuple[Choice, ...]:
    """The first questions with four options."""
    return tuple(Choice(asked.rstrip("?"), asked, tuple(options)) for asked, *options in _CHOICES[:count])


def orders(size: int, count: int) -> Sequence[tuple[int, ...]]:
    """Orders of options: rotations, and rotations backwards, so that each option stands everywhere."""
    forward = [tuple((n + k) % size for n in range(size)) for k in range(size)]
    return (forward + [f[::-1] for f in forward])[:count]


@dataclass(frozen=True, slots=True)
class Fact:
    """Notes and a question that one of them, not the last, answers."""

    before: str
    notes: tuple[str, ...]
    after: str
    answer: str


@dataclass(frozen=True, slots=True)
class Town:
    """Notes on places, each with a number; questions take them in ever new combinations.

    Attributes
    ----------
    places, notes, numbers : tuple of str
    seed : int
    """

    places: tuple[str, ...]
    notes: tuple[str, ...]
    numbers: tuple[str, ...]
    seed: int

    @classmethod
    def of(cls, seed: int, size: int = 10) -> Town:
        """One drawn with this seed."""
        random = np.random.default_rng(seed)
        places = tuple(PLACES[int(n)] for n in random.permutation(len(PLACES))[:size])
        numbers = tuple(str(n) for n in random.choice(np.arange(1000, 10000), size, replace=False))
        notes = tuple(_note(random, place, number) for place, number in zip(places, numbers, strict=True))
        return cls(places, notes, numbers, seed)

    def question(self, index: int, size: int = 8) -> Fact:
        """One about ``size`` of the notes in an order of its own."""
        random = np.random.default_rng((self.seed, index))
        chosen = [int(n) for n in random.permutation(len(self.notes))[:size]]
        asked = chosen[index % (size - 1)]
        place = self.places[asked]
        after = f"Question: What is the number of the {place}?\nAnswer: The number of the {place} is"
        notes = tuple(self.notes[n] for n in chosen)
        return Fact("Here are notes on a town.\n\n", notes, after, f" {self.numbers[asked]}")


def _note(random: np.random.Generator, place: str, number: str) -> str:
    colour, side, season = (
        words[int(random.integers(len(words)))]
        for words in (("red", "white", "grey"), ("east", "west", "north"), ("spring", "summer", "autumn"))
    )
    return (
        f"Note on the {place}. The {place} is a {colour} building in the {side} of the town. It was opened in "
        f"{season}, many years ago, and people like to go there. The number of the {place} is {number}. Whoever needs "
        "help may call.\n\n"
    )
