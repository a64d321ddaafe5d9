"""Tasks with an answer that can be checked exactly, of a size that the embedded model partly masters.

    add        two numbers, one of two digits                         "47 + 5" -> "52"
    chain      a number goes through three operations, line by line   "start with 7, add 5, subtract 3, add 4" -> "13"
    largest    the largest of three numbers
    swap       two words in the other order

A prompt shows five worked examples. The question that follows ends at an empty line (`STOP`).

    accuracy(model, method, "add", count=20) -> Accuracy
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench import render
from workbench.decode._method import Decoder
from workbench.decode.generation import generate
from workbench.decode.search.scorers import last_number
from workbench.errors import ArgumentError, unknown
from workbench.jobs import Progress
from workbench.results import Result

STOP = "\n\n"
WORDS = ("apple", "river", "stone", "cloud", "horse", "table", "green", "paper", "light", "music", "bread", "chair")


@dataclass(frozen=True, slots=True)
class Question:
    """A question with the one right answer.

    Attributes
    ----------
    prompt, answer : str
    name : str
        For tables.
    lines : tuple of str
        The right lines that lead to it, for tasks that go step by step.
    """

    prompt: str
    answer: str
    name: str
    lines: tuple[str, ...] = ()

    def right(self, text: str) -> bool:
        """Whether a text comes to the answer."""
        return read(text, number=self.answer.lstrip("-").isdigit()) == self.answer

    def reward(self, text: str) -> float:
        """Log-weight of a text so far: 4 for every right line, -4 for every other: an exact process reward."""
        said = [line.strip() for line in text.strip().split("\n") if line.strip()]
        right = sum(n < len(self.lines) and line == self.lines[n] for n, line in enumerate(said))
        return 4.0 * (2 * right - len(said))


def read(text: str, number: bool = True) -> str:
    """The answer in a text: its last number, or all of its first line."""
    return last_number(text) if number else text.strip().split("\n")[0].strip()


Draw = Callable[[np.random.Generator], tuple[str, str, tuple[str, ...]]]


@dataclass(frozen=True)
class Task:
    """A kind of question.

    Attributes
    ----------
    name : str
    draw
        Draws a question's text, its answer, and the lines that lead to it.
    max_new_tokens : int
    """

    name: str
    draw: Draw
    max_new_tokens: int
    shots: int = 5

    def questions(self, count: int, seed: int = 0) -> tuple[Question, ...]:
        """Different questions, the same for the same seed; none of them is among the examples."""
        if count < 1:
            raise ArgumentError(f"count={count}: at least 1 question")
        random, seen = np.random.default_rng([7, seed]), set[str]()
        shown = np.random.default_rng(2)
        examples = [self.draw(shown) for _ in range(self.shots)]
        seen |= {e[0] for e in examples}
        head = "".join(f"{asked}{_answered(answer, lines)}{STOP}" for asked, answer, lines in examples)
        found: list[Question] = []
        while len(found) < count:
            asked, answer, lines = self.draw(random)
            if asked not in seen:
                seen.add(asked)
                found.append(Question(head + asked.rstrip(" "), answer, f"{self.name} {len(found) + 1}", lines))
        return tuple(found)


def _answered(answer: str, lines: tuple[str, ...]) -> str:
    return "\n".join(lines) if lines else answer


def _add(random: np.random.Generator) -> tuple[str, str, tuple[str, ...]]:
    a, b = int(random.integers(10, 60)), int(random.integers(2, 10))
    return f"Q: What is {a} + {b}?\nA: ", str(a + b), ()


def _chain(random: np.random.Generator) -> tuple[str, str, tuple[str, ...]]:
    value = int(random.integers(3, 10))
    asked, lines = f"Q: Start with {value}.", []
    for _ in range(3):
        more, plus = int(random.integers(1, 6)), value < 6 or random.random() < 0.5
        after = value + more if plus else value - more
        asked += f" {'+' if plus else '-'} {more}"
        lines.append(f"{value} {'+' if plus else '-'} {more} = {after}")
        value = after
    return f"{asked}\nA:\n", str(value), tuple(lines)


def _largest(random: np.random.Generator) -> tuple[str, str, tuple[str, ...]]:
    numbers = random.choice(np.arange(10, 100), 3, replace=False).tolist()
    return f"Q: Which number is the largest: {', '.join(map(str, numbers))}?\nA: ", str(max(numbers)), ()


def _swap(random: np.random.Generator) -> tuple[str, str, tuple[str, ...]]:
    first, second = (WORDS[n] for n in random.choice(len(WORDS), 2, replace=False))
    return f"Q: Swap: {first} {second}\nA: ", f"{second} {first}", ()


TASKS = {
    "add": Task("add", _add, 8),
    "chain": Task("chain", _chain, 32),
    "largest": Task("largest", _largest, 8),
    "swap": Task("swap", _swap, 8),
}


def task(name: str | Task) -> Task:
    """A task by its name; raises `ArgumentError` if there is none."""
    if isinstance(name, Task):
        return name
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]


@dataclass(frozen=True, eq=False, repr=False)
class Accuracy(Result):
    """How many answers were right.

    Attributes
    ----------
    method, task : str
    right : ndarray of bool
        By question.
    texts, answers : tuple of str
        What was said, and what would have been right.
    passes : int
        Of the target, all questions together.
    """

    method: str
    task: str
    right: np.ndarray
    texts: tuple[str, ...] = field(repr=False)
    answers: tuple[str, ...] = field(repr=False)
    passes: int = 0

    @property
    def share(self) -> float:
        """Of right answers."""
        return float(self.right.mean())

    def _headline(self) -> str:
        return f"Accuracy({self.method} on {self.task}: {int(self.right.sum())} of {len(self.right)} right)"

    def _sections(self) -> tuple[render.Section, ...]:
        rows = list(zip(self.texts, self.answers, self.right.tolist(), strict=True))
        return (render.section(self._headline(), rows, ("said", "right is", "right")),)


def accuracy(
    model: Any,
    method: str | Decoder | Callable[[Question], Decoder],
    name: str | Task,
    *,
    count: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> Accuracy:
    """Let a method answer a task's questions.

    Parameters
    ----------
    model
        As for `workbench.generate`.
    method
        A name, a decoder, or a function that makes one for a question, such as one with the question's own verifier.
    name
        Of the task, or a `Task`.
    count, seed
        Questions; the seed is also that of the answers.
    options
        As for `workbench.generate`.

    Examples
    --------
    >>> accuracy(lm, "best-of-n", "add", count=10, scorer="votes")                    # doctest: +SKIP
    Accuracy(best-of-n on add: 9 of 10 right)
    """
    chosen, progress = task(name), progress or Progress()
    questions = chosen.questions(count, seed)
    right, texts, passes, said = [], [], 0, str(method)
    for n, question in enumerate(questions):
        progress.step("questions", n, count)
        how = method(question) if callable(method) and not isinstance(method, Decoder) else method
        given: dict[str, Any] = {
            "max_new_tokens": chosen.max_new_tokens,
            "stop": STOP,
            "detail": False,
            "seed": seed,
        } | options
        found = generate(model, question.prompt, how, **given | options)
        said, passes = found.trace.method, passes + found.trace.cost.target_forwards
        texts.append(found.text)
        right.append(question.right(found.text))
    answers = tuple(q.answer for q in questions)
    return Accuracy(said, chosen.name, np.array(right), tuple(texts), answers, passes)
