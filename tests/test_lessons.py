"""Lessons: pairs that agree, headers that tell the truth, copies that keep people's work, guesses, checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest

import workbench
from tests.tiny_lm import tiny_lm
from workbench import cli, lab
from workbench.commands import check
from workbench.errors import ArgumentError, DataError, ResourceError
from workbench.lessons import catalogue as listed
from workbench.lessons import find

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
TUTORIALS = sorted((NOTEBOOKS / "tutorials").glob("*.ipynb"))
ABOUT = {
    "title": "T", "minutes": [5, 8], "difficulty": 1, "importance": 2, "seconds": 20, "megabytes": 900, "covers": ["a"],
}  # fmt: skip


# Sources and notebooks


def test_every_lesson_is_a_pair() -> None:
    assert [p.stem for p in TUTORIALS] == [p.stem for p in sorted((NOTEBOOKS / "sources").glob("*.py"))]
    assert len(TUTORIALS) >= 3


def said(notebook: Any) -> list[Any]:
    kept = ("checkpoint", "jupyter", "tags")
    cells = [(c.cell_type, c.source, {k: v for k, v in c.metadata.items() if k in kept}) for c in notebook.cells]
    return [*cells, {key: notebook.metadata.get(key) for key in ("kernelspec", "workbench")}]


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_a_notebook_says_what_its_source_says(path: Path) -> None:
    source = jupytext.read(NOTEBOOKS / "sources" / f"{path.stem}.py")
    assert said(nbformat.read(path, 4)) == said(source), "run: make lessons"


@pytest.mark.parametrize("path", [*TUTORIALS, *sorted((NOTEBOOKS / "labs").glob("*.ipynb"))], ids=lambda p: p.stem)
def test_a_notebook_is_stored_without_what_running_leaves(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    assert set(notebook.metadata) <= {"jupytext", "kernelspec", "language_info", "workbench"}
    assert all(key.endswith("_filter") for key in notebook.metadata.get("jupytext", ()))  # copies are not paired
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert "execution" not in cell.metadata
        assert not cell.get("attachments")


def test_the_pairing_is_what_jupytext_itself_does(tmp_path: Path) -> None:
    for folder in ("tutorials", "sources"):
        (tmp_path / folder).mkdir()
    (tmp_path / "jupytext.toml").write_bytes((NOTEBOOKS / "jupytext.toml").read_bytes())
    name = TUTORIALS[0].stem
    source = tmp_path / "sources" / f"{name}.py"
    source.write_bytes((NOTEBOOKS / "sources" / source.name).read_bytes())
    command = [sys.executable, "-m", "jupytext", "--sync", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert source.read_bytes() == (NOTEBOOKS / "sources" / source.name).read_bytes()
    made = nbformat.read(tmp_path / "tutorials" / f"{name}.ipynb", 4)
    assert said(made) == said(nbformat.read(TUTORIALS[0], 4))


# What lessons say of themselves


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_the_first_cell_says_what_the_metadata_say(path: Path) -> None:
    lesson = listed.read(path, NOTEBOOKS)
    first = nbformat.read(path, 4).cells[0].source
    assert first.startswith(f"# {lesson.title}\n")
    assert f"\n\n{lesson.header}\n\n" in first


def test_lessons_and_labs_are_listed() -> None:
    found = listed.catalogue(NOTEBOOKS)
    assert [e.name for e in found if e.kind == "lesson"] == [p.stem for p in TUTORIALS]
    labs = [e for e in found if e.kind == "lab"]
    assert {e.name for e in labs} == {"pruning", "kernels", "decoding"}
    assert all(e.minutes[0] >= 30 and e.difficulty in (1, 2, 3) and e.covers for e in labs)


def written(folder: Path, about: dict[str, Any], name: str = "01_a") -> Path:
    path = folder / "tutorials" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"cell_type": "markdown", "metadata": {}, "source": ["# T\n"]}]
    content = {"cells": cells, "metadata": {"workbench": {"lesson": about}}, "nbformat": 4, "nbformat_minor": 4}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minutes": [9, 5]}, r"minutes=\[9, 5\] cannot be"),
        ({"minutes": [9]}, "cannot be"),
        ({"difficulty": 4}, "difficulty=4 cannot be"),
        ({"importance": 0}, "importance=0"),
        ({"seconds": 0}, "seconds=0"),
        ({"covers": []}, "covers"),
        ({"cost": "much"}, "cost is not known"),
        ({"title": None}, "lacks title"),
    ],
)
def test_a_lesson_that_says_nonsense_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    about = {k: v for k, v in {**ABOUT, **change}.items() if v is not None}
    path = written(tmp_path, about)
    with pytest.raises(DataError, match=message):
        listed.read(path, tmp_path)


def test_a_notebook_that_says_nothing_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, ABOUT)
    path.write_text(path.read_text().replace("lesson", "other"))
    with pytest.raises(DataError, match="does not say what it costs"):
        listed.read(path, tmp_path)
    path.write_text("{")
    with pytest.raises(DataError, match="no notebook that can be read"):
        listed.read(path, tmp_path)


def test_lessons_are_found_by_number_and_beginning(tmp_path: Path) -> None:
    for name in ("01_prune", "02_kernels", "02_more"):
        written(tmp_path, ABOUT, name)
    for asked in ("1", "01", "01_prune", "01_prune.ipynb", "tutorials/01_prune.ipynb"):
        assert find(asked, tmp_path).name == "01_prune"
    with pytest.raises(ArgumentError, match="could be 02_kernels or 02_more"):
        find("02", tmp_path)
    for wrong in ("99", "", "prune"):
        with pytest.raises(ArgumentError, match="unknown lesson"):
            find(wrong, tmp_path)


def test_list_prints_what_lessons_cost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    figures = tmp_path / "l.json"
    assert cli.main(["list", "--json", str(figures)]) == 0
    text = capsys.readouterr().out
    for lesson in listed.catalogue(NOTEBOOKS):
        assert (lesson.name in text.split()) == (lesson.kind == "lesson")
        assert lesson.kind == "lab" or lesson.time in text
        assert lesson.kind == "lab" or lesson.covers[0] in text
    assert cli.main(["list", "--labs"]) == 0
    assert "pruning" in capsys.readouterr().out
    assert {e["name"] for e in json.loads(figures.read_text())["lessons"]} >= {"pruning", TUTORIALS[0].stem}


# Copies


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    """What came with the workbench, and the folder that it goes to."""
    source = tmp_path / "installed"
    for name in (
        "tutorials/00_tour.ipynb",
        "tutorials/01_b.ipynb",
        "labs/pruning.ipynb",
        "labs/README.md",
        "sources/01_b.py",
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(f"shipped {name}")
        (source / name).chmod(0o444)
    monkeypatch.setattr(lab, "shipped", lambda: source)
    return source, tmp_path / "mine"


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_notebooks_are_copied_and_can_be_written(copied: tuple[Path, Path]) -> None:
    _, target = copied
    assert lab.notebooks_folder(target) == target
    notebooks = ["labs/pruning.ipynb", "tutorials/00_tour.ipynb", "tutorials/01_b.ipynb"]
    assert names(target) == [".copied.json", "labs/README.md", *notebooks]
    assert lab.first(target) == "tutorials/00_tour.ipynb"
    (target / "tutorials/01_b.ipynb").write_text("my work")


def test_work_is_kept_and_what_nobody_touched_is_brought_up_to_date(copied: tuple[Path, Path]) -> None:
    source, target = copied
    lab.notebooks_folder(target)
    (target / "tutorials/01_b.ipynb").write_text("my work")
    for name in ("tutorials/00_tour.ipynb", "tutorials/01_b.ipynb"):
        (source / name).chmod(0o644)
        (source / name).write_text("newer")
    lab.notebooks_folder(target)
    assert (target / "tutorials/01_b.ipynb").read_text() == "my work"
    assert (target / "tutorials/00_tour.ipynb").read_text() == "newer"
    (target / ".copied.json").write_text("{")  # then everything counts as work
    (source / "tutorials/00_tour.ipynb").write_text("newest")
    lab.notebooks_folder(target)
    assert (target / "tutorials/00_tour.ipynb").read_text() == "newer"


def test_fresh_puts_work_aside(copied: tuple[Path, Path]) -> None:
    _, target = copied
    lab.notebooks_folder(target)
    one, other = target / "tutorials/01_b.ipynb", target / "labs/pruning.ipynb"
    for turn in ("first", "second"):
        one.write_text(turn)
        other.write_text("answers")
        lab.notebooks_folder(target, fresh=True, only="tutorials/01_b.ipynb")
        assert one.read_text() == "shipped tutorials/01_b.ipynb"
        assert other.read_text() == "answers"
    assert one.with_name("01_b.mine.ipynb").read_text() == "first"
    assert one.with_name("01_b.mine2.ipynb").read_text() == "second"
    lab.notebooks_folder(target, fresh=True)
    assert other.read_text() == "shipped labs/pruning.ipynb"
    assert other.with_name("pruning.mine.ipynb").read_text() == "answers"
    before = names(target)
    lab.notebooks_folder(target, fresh=True)  # nothing was changed: nothing to put aside
    assert names(target) == before


def test_a_folder_that_cannot_be_written_is_an_error(copied: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="pass --folder with a writable one"):
        lab.notebooks_folder(tmp_path / "file" / "n")


def test_in_place_is_for_checkouts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, copied: tuple[Path, Path]) -> None:
    with pytest.raises(ArgumentError, match="for a checkout"):
        lab.notebooks_folder(in_place=True)
    monkeypatch.undo()
    assert lab.notebooks_folder(in_place=True) == NOTEBOOKS


def test_check_grades_the_copy_that_somebody_works_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    untouched = (NOTEBOOKS / "labs" / "pruning.ipynb").read_text()
    (tmp_path / "notebooks" / "labs").mkdir(parents=True)
    (tmp_path / "notebooks" / "labs" / "pruning.ipynb").write_text(untouched)
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "home" / "sparse-workbench" / "notebooks" / "labs" / "pruning.ipynb"
    assert check.find("pruning") == copy
    (tmp_path / "notebooks" / "labs" / "pruning.ipynb").write_text(untouched.replace("raise", "return"))
    assert check.find("pruning") == Path("notebooks/labs/pruning.ipynb")
    (tmp_path / "pruning.ipynb").write_text(untouched)
    assert check.find("pruning") == Path("pruning.ipynb")


# Small machines


@pytest.mark.parametrize(("gigabytes", "wanted"), [(1.4, "bfloat16"), (8, "float32")])
def test_a_model_that_fits_is_loaded_and_says_what_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gigabytes: float, wanted: str
) -> None:
    workbench.save(tiny_lm(), tmp_path / "tiny")
    monkeypatch.setattr("workbench.measure.memory.available_memory", lambda: int(gigabytes * 1e9))
    lm = workbench.load(tmp_path / "tiny", dtype="fit")
    assert str(lm.module.dtype) == f"torch.{wanted}"
    assert repr(lm).endswith("M parameters)" if wanted == "float32" else "M parameters, bfloat16)")
    with pytest.raises(ArgumentError, match="or 'fit'"):
        workbench.load(tmp_path / "tiny", dtype="small")
