"""Guess, then see: a guess that locks, and is drawn beside what came out.

    Prediction(question) --guess--> locked --reveal(result)--> Observation

Nothing waits for anybody: a result that comes before a guess closes the question, so that a lesson runs from top to
bottom untouched.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from workbench import render
from workbench._format import number
from workbench.errors import ArgumentError, unknown
from workbench.lessons.scale import DIGITS, folded, scale
from workbench.results import Result

NEAR = 0.1  # a guess within a tenth of the result counts as right: people guess sizes, not digits


@dataclass(frozen=True, repr=False, eq=False)
class Observation(Result):
    """A guess beside what came out; it shows itself in a notebook.

    Attributes
    ----------
    question, unit, answer : str
    guess : float or str or None
        None where nobody guessed.
    results : mapping of str to float or str
        What came out, by name; the name is empty where there is one alone.
    ends : tuple of float
        Of the scale that the guess was made on; empty where there was none.
    """

    question: str
    guess: float | str | None
    results: Mapping[str, float | str]
    unit: str = ""
    answer: str = ""
    ends: tuple[float, ...] = ()

    @property
    def verdict(self) -> str:
        """In words, how far off it was."""
        return "; ".join(f"{name}: {text}" if name else text for name, text in self._verdicts())

    def _verdicts(self) -> list[tuple[str, str]]:
        return [(name, _compared(self.guess, result, self.unit)) for name, result in self.results.items()]

    def _headline(self) -> str:
        return f"Observation({self.verdict})"

    def _sections(self) -> tuple[render.Section, ...]:
        lines = [f"{name}: {text}" if name else text for name, text in self._verdicts()]
        said_so = "".join(f'<p style="margin:4px 0">{html.escape(_sentence(line))}</p>' for line in lines)
        marks = {name or "result": float(v) for name, v in self.results.items() if not isinstance(v, str)}
        own = None if isinstance(self.guess, str) else self.guess
        picture = scale(own, marks, title=self.question, unit=self.unit, asked=self.ends) if marks else ""
        found = [render.Section("Guess and result", "\n".join(map(_sentence, lines)), picture + said_so)]
        if self.answer:
            found.append(render.Section("Why?", self.answer, folded("Think first, then open", self.answer)))
        return tuple(found)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return render.bundle(*render.join(self.question, self._sections()))  # the question heads it


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


class Prediction:
    """A question that takes one guess.

    Parameters
    ----------
    question
        Ends with a question mark.
    answer
        The model answer: why the result is what it is. It is folded away beside the result.
    options
        What there is to choose from; None asks for a number.
    unit
        Of the number, such as ``"x"`` or ``"%"``.
    low, high
        Ends of the scale that a number is guessed on.

    Attributes
    ----------
    value : float or str or None
        The guess.
    locked : bool
        Whether it is settled: by a guess, or by a result that came first.

    Raises
    ------
    ArgumentError
        If the ends are in the wrong order, or options and a scale are both given.

    Examples
    --------
    >>> asked = Prediction("How many passes will it take?", low=1, high=64)
    >>> asked.guess(40)
    >>> asked.reveal(9).verdict
    'you said 40, it was 9: 0.23 of your guess'
    """

    def __init__(
        self,
        question: str,
        *,
        answer: str = "",
        options: Sequence[str] | None = None,
        unit: str = "",
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        if not question.strip():
            raise ArgumentError("question is empty: ask something")
        if options is not None and (low is not None or high is not None or len(set(options)) < 2):
            raise ArgumentError(f"options={options!r}: at least two different ones, and then neither low nor high")
        if (low is None) != (high is None) or (low is not None and high is not None and not low < high):
            raise ArgumentError(f"low={low!r}, high={high!r}: give both, the lower one first")
        self.question, self.answer, self.unit = question, answer, unit
        self.options = None if options is None else tuple(map(str, options))
        self.low, self.high = low, high
        self.value: float | str | None = None
        self.locked = False
        self.observation: Observation | None = None

    def guess(self, value: float | str) -> None:
        """Settle the guess; there is only one.

        Raises
        ------
        ArgumentError
            If it is settled already, no number, or none of the options.
        """
        if self.locked:
            late = "the result is out" if self.value is None else f"you said {said(self.value, self.unit)}"
            raise ArgumentError(f"the guess is locked ({late}): run the cell of the question again for a new one")
        self.value = self._checked(value)
        self.locked = True

    def reveal(self, result: Any = None, **named: Any) -> Observation:
        """Say what came out; a guess can not be made any more.

        Parameters
        ----------
        result
            A number or an option, or several by name.
        named
            The same as keywords: ``reveal(magnitude=51.2, wanda=24.0)``.

        Raises
        ------
        ArgumentError
            If there is no result, or one that could not have been guessed.
        """
        several = isinstance(result, Mapping)
        results = {**(result if several else {} if result is None else {"": result}), **named}
        if not results:
            raise ArgumentError("reveal() got no result: pass what came out")
        checked = {str(name): self._checked(value) for name, value in results.items()}
        self.locked = True
        told = MappingProxyType(checked)
        ends = () if self.low is None or self.high is None else (self.low, self.high)
        self.observation = Observation(self.question, self.value, told, self.unit, self.answer, ends)
        return self.observation

    def _checked(self, value: Any) -> float | str:
        if self.options is not None:
            if str(value) not in self.options:
                raise unknown("option", value, self.options)
            return str(value)
        try:
            found = float(value)
        except (TypeError, ValueError):
            found = math.nan
        if not math.isfinite(found):
            raise ArgumentError(f"{value!r} is no number: {self.question!r} asks for one")
        return int(found) if found.is_integer() else found

    def __repr__(self) -> str:
        state = "locked" if self.locked else "open"
        return f"Prediction({self.question!r}, {state}, {said(self.value, self.unit)})"


def said(value: float | str | None, unit: str = "") -> str:
    """A guess or a result in words.

    Examples
    --------
    >>> said(2.5, "x"), said("slower"), said(None)
    ('2.5 x', 'slower', 'none')
    """
    if value is None:
        return "none"
    return value if isinstance(value, str) else f"{number(value, DIGITS)} {unit}".strip()


def _compared(guess: float | str | None, result: float | str, unit: str) -> str:
    if guess is None:
        return f"it was {said(result, unit)}; no guess was made"
    told = f"you said {said(guess, unit)}, it was {said(result, unit)}"
    if isinstance(guess, str) or isinstance(result, str):
        return f"{told}: {'right' if guess == result else 'something else'}"
    if abs(result - guess) <= NEAR * abs(result):
        return f"{told}: right, or nearly"
    if guess * result <= 0:
        return f"{told}: {number(abs(result - guess), 2)} apart"
    ratio = result / guess
    return f"{told}: {number(ratio, 2)} {'times' if ratio > 1 else 'of'} your guess"
