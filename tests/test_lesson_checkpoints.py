"""Checkpoints of lessons: the session that the lesson's own code makes, built once, entered as often as one likes."""

from __future__ import annotations

import ast
import builtins
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench
from tests.tiny_lm import tiny_lm
from workbench.errors import ArgumentError, DataError
from workbench.lessons import checkpoints, start

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
SIZES = {"samples": 2, "seqlen": 32, "windows": 2}
FIRST = f"import tiny\nimport workbench.lessons\nbench = workbench.lessons.start('05', model=tiny.lm, **{SIZES})"
CODE = [
    (FIRST, {}),
    ("tiny.ran.append('prune')\nbench.prune(method='magnitude', sparsity=0.5, speed=False)", {"checkpoint": "pruned"}),
    ("tiny.ran.append('look')\nraise RuntimeError('not wanted')", {"tags": ["look"]}),
    ("print('noise')\nbench.prune(method='random', sparsity=0.25, speed=False)", {"checkpoint": "twice"}),
    ("bench.nonsense()", {"checkpoint": "broken"}),
]
ABOUT = {
    "title": "T", "minutes": [5, 8], "difficulty": 1, "importance": 2, "seconds": 20, "megabytes": 900, "covers": ["a"],
}  # fmt: skip


def write(folder: Path, code: list[tuple[str, dict[str, Any]]]) -> Path:
    cells = [{"cell_type": "code", "source": source, "metadata": meta} for source, meta in code]
    (folder / "tutorials").mkdir(parents=True, exist_ok=True)
    content = {"cells": cells, "metadata": {"workbench": {"lesson": ABOUT}}}
    (folder / "tutorials" / "05_all.ipynb").write_text(json.dumps(content))
    return folder


@pytest.fixture
def lesson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of notebooks with one lesson on a tiny model."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.py").write_text("lm = None\nran = []\n")
    monkeypatch.syspath_prepend(tmp_path)
    import tiny

    monkeypatch.setattr(tiny, "lm", tiny_lm())
    monkeypatch.setattr(tiny, "ran", [])
    return write(tmp_path / "notebooks", CODE)


def ran() -> list[str]:
    import tiny

    return list(tiny.ran)


def enter(folder: Path, at: str | None = None) -> Any:
    import tiny

    return start("05", at, model=tiny.lm, folder=folder, **SIZES)


def test_checkpoints_are_those_of_the_cells(lesson: Path) -> None:
    assert checkpoints("05", lesson) == ("pruned", "twice", "broken")


def test_a_lesson_begins_with_a_new_session(lesson: Path) -> None:
    with closing(enter(lesson)) as bench:
        assert bench.variants == ()
        bench.prune(method="magnitude", sparsity=0.5, speed=False)
    with closing(enter(lesson)) as bench:
        assert bench.variants == ()
    assert ran() == []


def test_a_checkpoint_is_what_the_lessons_code_makes(lesson: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import tiny

    with closing(enter(lesson, "twice")) as bench:
        found = [(v.pruned.recipe.method, v.pruned.recipe.sparsity) for v in bench.variants]
        masked = bench.variants[0].pruned.lm.module.state_dict()
    assert found == [("magnitude", 0.5), ("random", 0.25)]
    assert ran() == ["prune"]
    assert capsys.readouterr().out == ""
    wanted = workbench.prune(tiny.lm, "magnitude", sparsity=0.5).lm.module.state_dict()
    assert all(np.array_equal(masked[k].numpy(), wanted[k].numpy()) for k in wanted)


def test_a_checkpoint_is_made_once_and_stays_as_it_is(lesson: Path) -> None:
    for _ in range(2):
        with closing(enter(lesson, "pruned")) as bench:
            assert len(bench.variants) == 1
            bench.prune(method="random", sparsity=0.1, speed=False)
    assert ran() == ["prune"]


def test_two_notebooks_do_not_share_a_session(lesson: Path) -> None:
    with closing(enter(lesson, "pruned")) as one, closing(enter(lesson, "pruned")) as other:
        assert one.folder != other.folder
        one.prune(method="random", sparsity=0.1, speed=False)
        assert (len(one.variants), len(other.variants)) == (2, 1)


def test_a_changed_lesson_makes_its_checkpoint_anew(lesson: Path, tmp_path: Path) -> None:
    enter(lesson, "pruned").close()
    write(lesson, [CODE[0], (CODE[1][0].replace("0.5", "0.25"), CODE[1][1]), *CODE[2:]])
    with closing(enter(lesson, "pruned")) as bench:
        assert bench.variants[0].pruned.recipe.sparsity == 0.25
    kept = [p.name for p in (tmp_path / "cache" / "lessons" / "05_all").iterdir() if p.name.startswith("pruned-")]
    assert len(kept) == 1


def test_what_can_go_wrong_says_so(lesson: Path) -> None:
    with pytest.raises(ArgumentError, match=r"unknown checkpoint of 05_all 'prune': did you mean 'pruned'"):
        enter(lesson, "prune")
    with pytest.raises(DataError, match=r"05_all does not come to 'broken': AttributeError"):
        enter(lesson, "broken")
    write(lesson, [("x = 1", {"checkpoint": "alone"})])
    with pytest.raises(DataError, match="without a session"):
        enter(lesson, "alone")
    write(lesson, [(FIRST, {}), (FIRST, {"checkpoint": "two"})])
    with pytest.raises(DataError, match="starts twice"):
        enter(lesson, "two")
    with pytest.raises(ArgumentError, match="is a lab"):
        checkpoints("pruning", NOTEBOOKS)


# Real lessons


def names(source: str) -> tuple[set[str], set[str]]:
    """Names that a cell defines, and names that it uses without defining them."""
    tree = ast.parse(source)
    made = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    made |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    made |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    made |= {
        (alias.asname or alias.name).split(".")[0]
        for n in ast.walk(tree)
        if isinstance(n, ast.Import | ast.ImportFrom)
        for alias in n.names
    }
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return made, used - made - set(dir(builtins))


@pytest.mark.parametrize("path", sorted((NOTEBOOKS / "tutorials").glob("*.ipynb")), ids=lambda p: p.stem)
def test_behind_a_checkpoint_the_first_cell_is_enough(path: Path) -> None:
    """From the next heading on: what stands before it still belongs to the part that the checkpoint ends."""
    cells = [(c["cell_type"], "".join(c["source"]), c["metadata"]) for c in json.loads(path.read_text())["cells"]]
    first = next(names(source)[0] for kind, source, _ in cells if kind == "code")
    places = {meta["checkpoint"]: n for n, (_, _, meta) in enumerate(cells) if meta.get("checkpoint")}
    assert len(places) == sum("checkpoint" in meta for _, _, meta in cells)
    for name, place in places.items():
        known, rest = set(first), cells[place + 1 :]
        start_at = next(n for n, (kind, source, _) in enumerate(rest) if kind == "markdown" and source.startswith("#"))
        for kind, source, _ in rest[start_at:]:
            if kind == "code":
                made, used = names(source)
                assert used <= known, f"behind {name!r}, {source!r} needs {used - known} of a cell before"
                known |= made


def test_names_of_cells() -> None:
    made, used = names("import a.b as c\nx = f(y)\ndef g(z):\n    return z + w\nprint([q for q in x])")
    assert made >= {"c", "x", "g", "z", "q"}
    assert used == {"f", "y", "w"}
