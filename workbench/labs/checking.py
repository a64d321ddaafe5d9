"""What the checks of a lab say: expected against got, on a corner small enough to read.

    got is expected     same shape, same kind of values, every value within the tolerance
    otherwise           `Wrong`: where, the hint, the corner of 5 x 5 of both, the seed

Checks draw their cases from a seed that is new in every process, so that no answer can know them;
``WORKBENCH_LAB_SEED`` sets it, to see the same cases again. Checks know numpy only.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

CORNER = 5
SEED_VARIABLE = "WORKBENCH_LAB_SEED"


class Wrong(AssertionError):
    """An answer is not what it should be.

    Attributes
    ----------
    hint : str
        What to think about.
    expected, got : str
        The two, drawn; empty where there is nothing to draw.
    """

    def __init__(self, message: str, hint: str = "", expected: str = "", got: str = "") -> None:
        self.message, self.hint, self.expected, self.got = message, hint, expected, got
        parts = [f"{message} (seed {seed()})", hint and f"Hint: {hint}", beside(expected, got)]
        super().__init__("\n".join(part for part in parts if part))


@lru_cache(1)
def seed() -> int:
    """The seed of this process: ``WORKBENCH_LAB_SEED``, else one by chance."""
    given = os.environ.get(SEED_VARIABLE, "")
    return int(given) if given.isdecimal() else secrets.randbelow(10**6)


def cases(count: int) -> Iterator[np.random.Generator]:
    """So many generators of random numbers, one per case of a check, new in every process.

    Examples
    --------
    >>> len([random.integers(3, 9, size=2) for random in cases(3)])
    3
    """
    for number in range(count):
        yield np.random.default_rng([seed(), number])


def same(got: Any, expected: Any, hint: str = "", *, what: str = "the result") -> None:
    """Compare exactly: whole numbers, masks, lists, words.

    Raises
    ------
    Wrong
        If they differ in shape, kind or value.
    """
    _compare(got, expected, hint, what, 0.0)


def close(got: Any, expected: Any, hint: str = "", *, what: str = "the result", tolerance: float = 1e-6) -> None:
    """Compare numbers up to ``tolerance``, relative to the largest expected one.

    Raises
    ------
    Wrong
        If they differ in shape or value, or a value is no finite number where one is expected.
    """
    _compare(got, expected, hint, what, tolerance)


def require(condition: object, message: str, hint: str = "") -> None:
    """Raise `Wrong` unless ``condition``."""
    if not condition:
        raise Wrong(message, hint)


def passed() -> None:
    """The last line of every check: says in a notebook that grading looks further."""
    if SEED_VARIABLE not in os.environ:
        sys.stdout.write("The visible checks passed. Grading adds others, of other shapes.\n")


def _compare(got: Any, expected: Any, hint: str, what: str, tolerance: float) -> None:
    if got is None:
        raise Wrong(f"{what} is None: does your function end with return?", hint, draw(expected), "None")
    if isinstance(expected, str):
        require_equal = isinstance(got, str) and got == expected
        if not require_equal:
            raise Wrong(f"{what} is not what was expected", hint, repr(expected), repr(got)[:200])
        return
    wanted = np.asarray(expected)
    found = _array(got, what, hint, wanted)
    if found.shape != wanted.shape:
        message = f"{what} has shape {list(found.shape)}, expected {list(wanted.shape)}"
        raise Wrong(message, hint, draw(wanted), draw(found))
    if wanted.dtype == bool and found.dtype != bool:
        raise Wrong(f"{what} is {found.dtype}, expected bool", hint, draw(wanted), draw(found))
    wrong = _differs(found, wanted, tolerance)
    if wrong.any():
        places = f"wrong in {int(wrong.sum())} of {wrong.size} places" if wrong.size > 1 else "wrong"
        places += " (# is True)" if wanted.dtype == bool and wanted.ndim else ""
        raise Wrong(f"{what} is {places}", hint, *_corners(wanted, found, wrong))


def _array(got: Any, what: str, hint: str, wanted: np.ndarray) -> np.ndarray:
    try:
        found = np.asarray(got)
    except (TypeError, ValueError, RuntimeError):  # e.g. rows of unequal lengths
        found = np.asarray(None)
    if found.dtype.kind not in "biuf":
        message = f"{what} is {type(got).__name__}, expected {'an array' if wanted.ndim else 'a number'}"
        raise Wrong(message, hint, draw(wanted), repr(got)[:200])
    return found


def _differs(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> np.ndarray:
    if tolerance == 0.0 or wanted.dtype == bool:
        return np.asarray(found != wanted)
    finite = np.isfinite(wanted)
    scale = np.abs(wanted[finite]).max(initial=0.0)
    with np.errstate(invalid="ignore"):  # inf - inf
        near = np.abs(found.astype(np.float64) - wanted) <= tolerance * scale + 1e-12
    return np.asarray(~np.where(finite, near, found == wanted))


def _corners(wanted: np.ndarray, found: np.ndarray, wrong: np.ndarray) -> tuple[str, str]:
    """Both around the first wrong place: at most 5 x 5 values."""
    if wanted.ndim == 0:
        return draw(wanted), draw(found)
    first = np.argwhere(wrong)[0]
    window = tuple(
        slice(max(0, min(int(at), size - CORNER)), max(0, min(int(at), size - CORNER)) + CORNER)
        for at, size in zip(first, wanted.shape, strict=True)
    )
    place = "" if max(wanted.shape) <= CORNER else f"from [{', '.join(str(s.start) for s in window)}] on:\n"
    return place + draw(wanted[window]), place + draw(found[window])


def draw(value: Any) -> str:
    """A value as text, at most 5 x 5; masks as ``#`` (kept) and ``.`` (gone).

    Examples
    --------
    >>> print(draw(np.array([[True, False], [False, True]])))
    # .
    . #
    """
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        return repr(value)[:200]
    small = array[(slice(CORNER),) * array.ndim]
    if array.dtype == bool and array.ndim:
        return "\n".join(" ".join("#" if v else "." for v in row) for row in np.atleast_2d(small))
    if small.ndim > 2:
        small = small.reshape(-1, small.shape[-1])[:CORNER]
    cells = [[f"{v:.4g}" for v in row] for row in np.atleast_2d(small)]
    width = max((len(c) for row in cells for c in row), default=0)
    return "\n".join(" ".join(c.rjust(width) for c in row) for row in cells) or "(nothing)"


def beside(expected: str, got: str) -> str:
    """Two drawings side by side under their headings; empty if both are.

    Examples
    --------
    >>> print(beside("1 2", "1 3"))
    expected  got
    1 2       1 3
    """
    if not (expected or got):
        return ""
    left, right = ["expected", *expected.splitlines()], ["got", *got.splitlines()]
    return "\n".join(_paired(left, right))


def _paired(left: Sequence[str], right: Sequence[str]) -> Iterator[str]:
    width, height = max(map(len, left)), max(len(left), len(right))
    for n in range(height):
        yield f"{left[n] if n < len(left) else '':{width}}  {right[n] if n < len(right) else ''}".rstrip()
