"""Lessons as texts: one style, and every part of one can be entered after its first cell."""

from __future__ import annotations

import ast
import builtins
import re
from pathlib import Path
from typing import Any

import jupytext
import pytest

SOURCES = sorted((Path(__file__).resolve().parents[1] / "notebooks" / "sources").glob("*.py"))
GIVEN = {*dir(builtins), "get_ipython", "display"}


def sections(notebook: Any) -> tuple[str, dict[str, list[str]]]:
    """The first code cell, and the code cells under every heading of the second level after it."""
    found: dict[str, list[str]] = {}
    first, heading = "", "beginning"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for title in re.findall(r"^## (.+)$", cell.source, flags=re.MULTILINE):
                heading = title
        elif not first:
            first = cell.source
        else:
            found.setdefault(heading, []).append(cell.source)
    return first, found


def names(code: str) -> tuple[set[str], set[str]]:
    """Names that a piece of code binds anywhere, and those that it reads."""
    bound, read = set(), set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) or (isinstance(node, ast.ExceptHandler) and node.name):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
    return bound, read


LESSONS = [pytest.param(jupytext.read(path), id=path.stem) for path in SOURCES]


@pytest.mark.parametrize("notebook", LESSONS)
def test_every_part_stands_on_the_first_cell_and_the_session(notebook: Any) -> None:
    first, parts = sections(notebook)
    known = GIVEN | names(first)[0]
    for heading, cells in parts.items():
        bound, read = names("\n".join(cells))
        assert not read - bound - known, f"{heading!r} needs {sorted(read - bound - known)} of another part"


@pytest.mark.parametrize("notebook", LESSONS)
def test_every_part_that_asks_ends_with_something_to_change(notebook: Any) -> None:
    text = "\n".join(cell.source for cell in notebook.cells)
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        assert "workbench.predict(" not in part or "**Change one thing" in part, part.splitlines()[0]


@pytest.mark.parametrize("notebook", LESSONS)
def test_every_lesson_asks_before_it_shows(notebook: Any) -> None:
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    asked = {m for cell in code for m in re.findall(r"^(\w+) = workbench\.predict\(", cell, flags=re.MULTILINE)}
    assert len(asked) >= 2
    for name in asked:
        positions = [
            [n for n, cell in enumerate(code) if re.search(rf"\b{pattern}", cell)]
            for pattern in (rf"{name} = workbench\.predict\(", rf"{name}\.reveal\(")
        ]
        assert all(positions), f"{name} is asked and shown"
        assert positions[0][0] < positions[1][0], f"{name} is asked before it is shown"
        assert code[positions[0][0]].rstrip().endswith(f"\n{name}"), f"{name} is the last line of its cell"
    assert "answer=" in "\n".join(code)
    assert "Change one thing" in text
    assert "**What you take along:**" in text
