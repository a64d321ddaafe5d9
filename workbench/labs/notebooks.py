"""From a master to notebooks: for students, with solutions, and nbgrader's source.

    student      stubs for answers, no hidden tests: what nbgrader's generate_assignment makes of the source
    solution     answers, all tests, no marks
    instructor   everything with its marks: the source that nbgrader reads

Cells carry nbgrader's metadata (schema version 3): answers are its *manually written, automatically graded* cells,
tests are locked and have points, setup cells are locked.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench._files import write_text
from workbench.errors import ResourceError, unknown
from workbench.labs.percent import HIDDEN, LABS, SOLUTION, STUB, Cell, Master, read, unmarked, without

KINDS = ("student", "solution", "instructor")
STUDENT_FOLDER = Path(__file__).resolve().parents[2] / "notebooks" / "labs"  # in a checkout
_ASKS = re.compile(r"\w+ = workbench\.predict\(")
_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebook(lab: str, kind: str = "student") -> dict[str, Any]:
    """A notebook (nbformat 4.5) of a lab.

    Parameters
    ----------
    kind
        ``"student"``, ``"solution"`` or ``"instructor"``.

    Raises
    ------
    ArgumentError
        If there is no such lab or kind.
    """
    if kind not in KINDS:
        raise unknown("kind of notebook", kind, KINDS)
    master = read(lab)
    cells = [_cell(master, number, cell, kind) for number, cell in enumerate(master.cells)]
    return {"cells": cells, "metadata": {**_METADATA, "workbench": {"lab": lab}}, "nbformat": 4, "nbformat_minor": 5}


def grade_id(master: Master, cell: Cell) -> str:
    """The id by which a cell is found again, e.g. ``pruning-wanda-test``; empty for cells that are not graded."""
    return f"{master.name}-{cell.name}-{cell.kind}" if cell.name else ""


def _cell(master: Master, number: int, cell: Cell, kind: str) -> dict[str, Any]:
    named = grade_id(master, cell)
    name = named or hashlib.sha256(f"{master.name} {number}".encode()).hexdigest()[:12]
    metadata: dict[str, Any] = {"nbgrader": _grading(named, cell)} if named else {}
    if cell.kind == "look" and _ASKS.match(cell.source):
        metadata["jupyter"] = {"source_hidden": True}  # its answer stands in it
    made: dict[str, Any] = {"id": name, "metadata": metadata, "source": source(cell, kind).splitlines(keepends=True)}
    if cell.kind == "markdown":
        return {"cell_type": "markdown", **made}
    return {"cell_type": "code", "execution_count": None, "outputs": [], **made}


def _grading(named: str, cell: Cell) -> dict[str, Any]:
    graded = {"points": cell.points} if cell.kind == "test" else {}
    return {
        "grade": cell.kind == "test",
        "grade_id": named,
        "locked": cell.kind != "answer",
        **graded,
        "schema_version": 3,
        "solution": cell.kind == "answer",
        "task": False,
    }


def source(cell: Cell, kind: str) -> str:
    """The source of a cell in a kind of notebook."""
    if kind == "instructor" or cell.kind in {"markdown", "look", "setup"}:
        return cell.source
    if kind == "solution":
        return unmarked(cell.source)
    return without(without(cell.source, SOLUTION, STUB), HIDDEN)


def dumps(content: Mapping[str, Any]) -> str:
    """The text of a notebook file, as nbformat writes it."""
    return json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def write(folder: Path, kinds: tuple[str, ...] = KINDS, labs: tuple[str, ...] = LABS) -> list[Path]:
    """Write ``folder/KIND/LAB.ipynb``; notebooks that are there are replaced.

    Raises
    ------
    ResourceError
        If the folder cannot be written.
    """
    made = [(folder / kind / f"{lab}.ipynb", notebook(lab, kind)) for kind in kinds for lab in labs]
    return [_write(path, content) for path, content in made]


def write_student(folder: Path = STUDENT_FOLDER) -> list[Path]:
    """Make the notebooks that are handed out anew: ``folder/LAB.ipynb``.

    Raises
    ------
    ResourceError
        If the folder above is not there: this is no checkout.
    """
    if not folder.parent.is_dir():
        raise ResourceError(f"there is no {folder.parent}: only a checkout holds the students' notebooks")
    return [_write(folder / f"{lab}.ipynb", notebook(lab)) for lab in LABS]


def _write(path: Path, content: Mapping[str, Any]) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot make {path.parent} ({error}): give another folder") from error
    write_text(path, dumps(content), "give another folder")
    return path
