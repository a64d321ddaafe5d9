"""``workbench list``: what lessons and labs there are."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from textwrap import wrap

from workbench.commands._shared import Subparsers, add, check_json, table, write_json

EPILOG = """\
examples:
  workbench list                      lessons: how long, how hard, how important, what they cover
  workbench list --labs               labs, which workbench check grades
  workbench list --json lessons.json  everything, for programs
"""
WIDTH = 60


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "list", "list lessons and labs", EPILOG)
    parser.add_argument("--labs", action="store_true", help="labs instead of lessons")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all of them, with what they cost, here")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print the table."""
    check_json(given.json)
    from workbench.lessons.catalogue import catalogue, dots

    found = catalogue()
    width = max(len(lesson.name) for lesson in found)
    worth = "questions" if given.labs else "importance"
    rows = [("name", "time", "difficulty", worth, "title, and what it covers")]
    for lesson in found:
        if (lesson.kind == "lab") != given.labs:
            continue
        worth = _questions(lesson.name) if given.labs else dots(lesson.importance)
        rows.append((lesson.name.ljust(width), lesson.time, dots(lesson.difficulty), worth, lesson.title))
        rows += [("", "", "", "", line) for line in wrap(", ".join(lesson.covers), WIDTH)]
    print(table(rows))
    if given.labs:
        print("\nOpen one: workbench lesson pruning    Grade it: workbench check pruning")
    else:
        print("\nOpen one: workbench lesson 01    Labs: workbench list --labs")
    write_json(given.json, {"lessons": [asdict(lesson) for lesson in found]})
    return 0


def _questions(lab: str) -> str:
    from workbench.labs.percent import LABS, read

    if lab not in LABS:
        return "-"
    master = read(lab)
    return f"{len(master.questions)}, {master.points} points"
