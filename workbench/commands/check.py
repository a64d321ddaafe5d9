"""``workbench check``: grade a lab, offline."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands._shared import Subparsers, add, count
from workbench.errors import ArgumentError, DataError
from workbench.labs.percent import LABS

if TYPE_CHECKING:
    from workbench.labs.grading import Grade

EPILOG = """\
examples:
  workbench check pruning                         your notebook labs/pruning.ipynb
  workbench check pruning my-copy.ipynb           another file
  workbench check pruning --seed 1234             the same cases as in a run that printed this seed
  workbench check pruning --solution              the model answers: all points
  workbench check pruning --empty                 the notebook as it was handed out: none
  workbench check kernels handed-in/*.ipynb --csv points.csv        a whole course

Every question runs in a process of its own, with limits of time and memory: one that loops or crashes costs its own
points only. Cases are drawn anew each time. Exit status: 0 full points, 1 less, 2 there was nothing to grade.
"""


class Mixed(argparse.ArgumentParser):
    """Takes files after options too, which argparse before Python 3.12 does not."""

    _mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Options first, then what is left."""
        if self._mixing:
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "check", "grade a lab's notebook, question by question", EPILOG)
    parser.__class__ = Mixed
    parser.add_argument("lab", metavar="LAB", help=" or ".join(LABS))
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="notebooks (default: your labs/LAB.ipynb)")
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--solution", action="store_true", help="grade the model answers")
    given.add_argument("--empty", action="store_true", help="grade the notebook as it is handed out")
    parser.add_argument("--seed", type=int, metavar="N", help="of the cases (default: by chance)")
    parser.add_argument("--seconds", type=count, metavar="N", help="processor time of a question, at most")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row of points per notebook here")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Grade, print, and write the table."""
    from workbench.labs import grading
    from workbench.labs.notebooks import notebook
    from workbench.labs.percent import read

    read(given.lab)
    if given.solution or given.empty:
        if given.files:
            raise ArgumentError("--solution and --empty are notebooks of their own: leave out FILE")
        content = notebook(given.lab, "solution" if given.solution else "student")
        grades = [
            (
                "solution" if given.solution else "empty",
                grading.grade(given.lab, content, seed=given.seed, seconds=given.seconds),
            )
        ]
        print(grades[0][1])
    else:
        grades = [graded for path in given.files or [find(given.lab)] if (graded := _graded(path, given))]
    if given.csv is not None:
        _write(given.csv, grades)
    if not grades:
        return 2
    return 0 if all(grade.full for _, grade in grades) else 1


def _graded(path: Path, given: argparse.Namespace) -> tuple[str, Grade] | None:
    """One notebook; of several a broken one is reported and passed over."""
    from workbench.labs import grading

    try:
        found = grading.grade(given.lab, path, seed=given.seed, seconds=given.seconds)
    except DataError as error:
        if len(given.files) < 2:
            raise
        print(f"{path}: not graded: {error}")
        return None
    print(f"{path}\n{found}" + ("\n" if len(given.files) > 1 else ""))
    return str(path), found


def find(lab: str) -> Path:
    """The notebook that a student most likely means: here, or where ``workbench lab`` keeps copies.

    A checkout's own is meant only if somebody has worked in it.

    Raises
    ------
    ArgumentError
        If there is none.
    """
    from workbench.lab import notebooks_folder
    from workbench.labs.notebooks import dumps, notebook

    name = f"{lab}.ipynb"
    here, checkout = [Path(name), Path("labs") / name], Path("notebooks") / "labs" / name
    for path in here:
        if path.is_file():
            return path
    if checkout.is_file() and checkout.read_text(encoding="utf-8") != dumps(notebook(lab)):
        return checkout
    path = notebooks_folder() / "labs" / name
    if not path.is_file():
        raise ArgumentError(f"there is no {' or '.join(map(str, [*here, path]))}: name the file")
    return path


def _write(path: Path, grades: Sequence[tuple[str, Grade]]) -> None:
    from workbench._files import whole

    with whole(path, "give --csv another place") as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [mark.question for mark in grades[0][1].marks] if grades else []
        writer.writerow(["notebook", "points", "of", "seed", *names])
        for name, grade in grades:
            writer.writerow([name, grade.points, grade.of, grade.seed, *(mark.points for mark in grade.marks)])
