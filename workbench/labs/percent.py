"""The master of a lab: one file in the py:percent format, from which all its notebooks are made.

    # %% [markdown]                              text
    # %% setup="name"                            code that every question needs; restored before grading
    # %%                                         code to look at; not graded
    # %% answer="name"                           what a student writes, between ### BEGIN and ### END SOLUTION
    # %% test="name" points=2                    its check; hidden parts between ### BEGIN and ### END HIDDEN TESTS

Jupytext opens the file as a notebook too. Reading it here needs the standard library only, so that grading works
where jupytext is not installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from workbench.errors import ArgumentError, DataError, unknown

LABS = ("pruning", "kernels", "decoding")
MASTERS = Path(__file__).parent / "masters"
SOLUTION = ("### BEGIN SOLUTION", "### END SOLUTION")
HIDDEN = ("### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS")
STUB = ("# YOUR CODE HERE", "raise NotImplementedError()")  # nbgrader's own
SECONDS = 10
_HEAD = re.compile(r"# %%(?: \[(markdown)\])?(.*)")
_OPTION = re.compile(r'(\w+)=(?:"([^"]*)"|(\d+))')


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a master.

    Attributes
    ----------
    kind : str
        ``"markdown"``, ``"setup"``, ``"look"``, ``"answer"`` or ``"test"``.
    name : str
        Of the question; empty for text and for code to look at.
    source : str
    points, seconds : int
        Of a test: what it is worth, and how long it may compute.
    """

    kind: str
    name: str
    source: str
    points: int = 0
    seconds: int = SECONDS


@dataclass(frozen=True, slots=True)
class Question:
    """An answer and its check, as they stand in the master."""

    name: str
    answer: Cell
    test: Cell


@dataclass(frozen=True)
class Master:
    """A lab, read from its file."""

    name: str
    cells: tuple[Cell, ...]
    questions: tuple[Question, ...] = field(default=())

    @property
    def points(self) -> int:
        """Of all questions together."""
        return sum(q.test.points for q in self.questions)

    @property
    def setup(self) -> str:
        """The code that every question needs."""
        return "\n".join(cell.source for cell in self.cells if cell.kind == "setup")


@lru_cache
def read(lab: str) -> Master:
    """The master of a lab.

    Raises
    ------
    ArgumentError
        If there is no such lab.
    """
    if lab not in LABS:
        raise unknown("lab", lab, LABS)
    return parse(lab, (MASTERS / f"{lab}.py").read_text(encoding="utf-8"))


def parse(lab: str, text: str) -> Master:
    """Read the text of a master.

    Raises
    ------
    DataError
        If a name stands twice, or an answer is without a check or the other way round.
    """
    cells: list[Cell] = []
    head, body = "", list[str]()
    for line in [*text.splitlines(), "# %%"]:
        if not line.startswith("# %%"):
            body.append(line)
            continue
        if head:
            cells.append(_cell(lab, head, body))
        head, body = line, []
    answers, tests = _named(lab, cells, "answer"), _named(lab, cells, "test")
    if list(answers) != list(tests):
        raise DataError(f"lab {lab}: answers {list(answers)}, tests {list(tests)}: one test after each answer")
    _named(lab, cells, "setup")
    return Master(lab, tuple(cells), tuple(Question(name, answers[name], tests[name]) for name in answers))


def _cell(lab: str, head: str, body: list[str]) -> Cell:
    found = _HEAD.fullmatch(head)
    options = {name: word or number for name, word, number in _OPTION.findall(found[2])} if found else {}
    kind = next((k for k in ("setup", "answer", "test") if k in options), "look")
    rest = _OPTION.sub("", found[2]).strip() if found else head
    if rest or set(options) - {"setup", "answer", "test", "points", "seconds"}:
        raise DataError(f"lab {lab}: cannot read the head of a cell: {head}")
    if found and found[1]:
        return Cell("markdown", "", "\n".join(re.sub(r"^# ?", "", line) for line in body).strip("\n"))
    if kind == "test" and int(options.get("points") or 0) < 1:
        raise DataError(f"lab {lab}: a test needs points: {head}")
    source = "\n".join(body).strip("\n")
    points, seconds = int(options.get("points") or 0), int(options.get("seconds") or SECONDS)
    return Cell(kind, options.get(kind, ""), source, points, seconds)


def _named(lab: str, cells: list[Cell], kind: str) -> dict[str, Cell]:
    found = [cell for cell in cells if cell.kind == kind]
    named = {cell.name: cell for cell in found}
    if len(named) < len(found):
        raise DataError(f"lab {lab}: two {kind} cells have one name")
    return named


def without(source: str, marks: tuple[str, str], instead: tuple[str, ...] = ()) -> str:
    r"""Source without what stands between two marks, the marks included.

    Parameters
    ----------
    instead
        Lines that take the place, indented like the first mark.

    Raises
    ------
    ArgumentError
        If a mark lacks its partner.

    Examples
    --------
    >>> without("def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION", SOLUTION, ("pass",))
    'def f():\n    pass'
    """
    lines: list[str] = []
    inside = False
    for line in source.split("\n"):
        if marks[0] in line or marks[1] in line:
            if inside == (marks[0] in line):
                raise ArgumentError(f"{marks[0]!r} and {marks[1]!r} must come in turns")
            inside = not inside
            indent = line[: len(line) - len(line.lstrip())]
            lines += [indent + word for word in instead if inside]
        elif not inside:
            lines.append(line)
    if inside:
        raise ArgumentError(f"{marks[0]!r} lacks its {marks[1]!r}")
    return "\n".join(lines)


def unmarked(source: str) -> str:
    """Source with its marks taken out and everything else kept."""
    return "\n".join(line for line in source.split("\n") if line.strip() not in {*SOLUTION, *HIDDEN})
