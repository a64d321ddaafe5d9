"""Grade a notebook offline: every question by itself, in a process with limits.

    notebook --(cells found again by grade_id)--> answers --(_worker)--> one `Mark` per question --> Grade

The tests come from the master, never from the student's notebook. A question is graded with the set-up and its own
answer, so that one wrong answer costs one question.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import DataError, ResourceError
from workbench.labs.checking import SEED_VARIABLE, beside
from workbench.labs.notebooks import grade_id
from workbench.labs.percent import Master, Question, read, unmarked

MEMORY_BYTES = 1 << 30
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


_MAGIC = re.compile(r"^\s*(?:%{1,2}[a-zA-Z]|!).*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a question earned.

    Attributes
    ----------
    question : str
    points, of : int
    verdict : str
        ``"ok"``, ``"wrong"``, ``"error"``, ``"empty"``, ``"missing"``, ``"time"``, ``"memory"`` or ``"crash"``.
    message, hint, expected, got : str
        Why; empty where there is nothing to say.
    output : str
        What the code printed, its beginning.
    seconds : float
    """

    question: str
    points: int
    of: int
    verdict: str
    message: str = ""
    hint: str = ""
    expected: str = ""
    got: str = ""
    output: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, repr=False)
class Grade:
    """All marks of a notebook, and the seed of its checks."""

    lab: str
    seed: int
    marks: tuple[Mark, ...]

    @property
    def points(self) -> int:
        """Earned."""
        return sum(mark.points for mark in self.marks)

    @property
    def of(self) -> int:
        """That could be earned."""
        return sum(mark.of for mark in self.marks)

    @property
    def full(self) -> bool:
        """Whether every point was earned."""
        return self.points == self.of

    def __repr__(self) -> str:
        width = max(len(mark.question) for mark in self.marks)
        lines = [line for number, mark in enumerate(self.marks, 1) for line in _lines(number, mark, width)]
        return "\n".join([*lines, f"{self.lab}: {self.points} of {self.of} points (seed {self.seed})"])


def _lines(number: int, mark: Mark, width: int) -> list[str]:
    lines = [f"{mark.verdict:8}{number} {mark.question:{width}}  {mark.points} of {mark.of}"]
    if mark.message:
        lines[0] += f"  {mark.message}"
    if mark.hint:
        lines.append(f"        hint: {mark.hint}")
    lines += [f"            {line}" for line in beside(mark.expected, mark.got).splitlines()]
    if mark.output and mark.verdict == "ok":
        lines += [f"        {line}" for line in mark.output.rstrip().splitlines()[-3:]]
    return lines


def grade(
    lab: str,
    notebook: Mapping[str, Any] | Path,
    *,
    seed: int | None = None,
    seconds: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Grade:
    """Grade a notebook.

    Parameters
    ----------
    lab
        Its name, e.g. ``"pruning"``.
    notebook
        A file, or a notebook's content.
    seed
        Of the checks' cases; one by chance if None.
    seconds
        Processor time that each question may take; what the lab says if None.
    memory_bytes
        That each question may take.

    Raises
    ------
    ArgumentError
        If there is no such lab.
    DataError
        If the file is no notebook, or of another lab.
    ResourceError
        If the process that runs the code cannot be started, or this system cannot fork.
    """
    master = read(lab)
    content = load(notebook) if isinstance(notebook, Path) else notebook
    codes = _codes(master, content)
    if not hasattr(os, "fork"):
        raise ResourceError("grading needs Linux or macOS: each question runs in a forked process with limits")
    chosen = secrets.randbelow(10**6) if seed is None else seed
    asked = [_request(master, question, codes, seconds) for question in master.questions]
    found = [request for request in asked if request["answers"]]
    results = _results({"setup": master.setup, "memory_bytes": memory_bytes}, found, chosen)
    return Grade(lab, chosen, tuple(_mark(question, results) for question in master.questions))


def load(path: Path) -> dict[str, Any]:
    """Read a notebook file.

    Raises
    ------
    DataError
        If it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}: name your notebook") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a notebook ({error}): save it again in JupyterLab") from error
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        raise DataError(f"{path} is no notebook: it has no cells")
    return content


def _codes(master: Master, content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Id and source of the code cells that may be the student's, and of the tests between them."""
    kinds = {grade_id(master, cell): cell.kind for cell in master.cells if cell.name}
    looks = {cell.source for cell in master.cells if cell.kind == "look"}
    found = []
    for cell in content["cells"]:
        source = "".join(cell.get("source", ""))
        named = cell.get("metadata", {}).get("nbgrader", {}).get("grade_id", "")
        if cell.get("cell_type") == "code" and kinds.get(named) != "setup" and source not in looks:
            found.append((named, _python(source)))
    if not any(kinds.get(named) == "answer" for named, _ in found):
        raise DataError(f"this notebook has no answer cells of the lab {master.name!r}: is it the right file?")
    return found


def _python(source: str) -> str:
    """Source without the lines that only a notebook understands (``%time``, ``!ls``)."""
    if not _MAGIC.search(source):
        return source
    try:
        compile(source, "cell", "exec")
    except (SyntaxError, ValueError):
        return _MAGIC.sub("", source)
    return source  # a line that begins with a remainder


def _request(
    master: Master, question: Question, codes: Sequence[tuple[str, str]], seconds: int | None
) -> dict[str, Any]:
    mine, test = grade_id(master, question.answer), grade_id(master, question.test)
    tests = {grade_id(master, q.test) for q in master.questions}
    end = next((n for n, (named, _) in enumerate(codes) if named == test), len(codes))
    own = [source for named, source in codes if named == mine]  # a copied cell counts as well
    before = [(source, named == mine) for named, source in codes[:end] if named not in tests]
    return {
        "name": question.name,
        "answers": [(source, True) for source in own],
        "all": before if any(not strict for _, strict in before) else [],
        "test": unmarked(question.test.source),
        "seconds": seconds or question.test.seconds,
    }


def _results(request: Mapping[str, Any], pending: list[dict[str, Any]], seed: int) -> dict[str, dict[str, Any]]:
    """What came of each question; a question that ends the worker costs itself, the others get a new worker."""
    results: dict[str, dict[str, Any]] = {}
    while pending:
        results |= _serve({**request, "questions": pending}, seed)
        pending = [question for question in pending if question["name"] not in results]
        if pending:
            results[pending.pop(0)["name"]] = {"verdict": "crash", "message": "the code ended the grading process"}
    return results


def _serve(request: Mapping[str, Any], seed: int) -> dict[str, dict[str, Any]]:
    """What the worker says of each question; what it did not come to is left out."""
    environment = {
        **os.environ,
        **dict.fromkeys(THREADS, "1"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        SEED_VARIABLE: str(seed),
    }
    command = [sys.executable, "-m", "workbench.labs._worker"]
    done = subprocess.run(
        command, input=json.dumps(request) + "\n", capture_output=True, text=True, env=environment, check=False
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode > 0 and not results:
        raise ResourceError(f"the grading process could not run: {done.stderr.strip()[-500:]}")
    return {result.pop("name"): result for result in results}


def _mark(question: Question, results: Mapping[str, Mapping[str, Any]]) -> Mark:
    missing = {"verdict": "missing", "message": "its cell is not in the notebook: take a fresh copy and move answers"}
    result = results.get(question.name, missing)
    points = question.test.points if result["verdict"] == "ok" else 0
    return Mark(question.name, points, question.test.points, **result)
