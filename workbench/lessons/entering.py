"""Entering a lesson at any of its checkpoints: the session that its own code makes up to there, made once and kept.

    lessons.start("05")                     the beginning: a new session
    lessons.start("05", at="compiled")      as if everything up to there had been run

A code cell with ``checkpoint="compiled"`` in its metadata ends the part that leads to it; one goes on at the next
heading. Cells tagged ``look`` only show something and are left out. What comes after uses the session and the names of
the first code cell, nothing else, so that running the first cell with ``at`` is enough.

    <cache>/lessons/NAME/work           the reader's session; what was there before is ``work.before``
    <cache>/lessons/NAME/CHECKPOINT-KEY KEY is made from the code that leads to it
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workbench
from workbench.errors import ArgumentError, DataError, ResourceError, unknown
from workbench.lessons.catalogue import find
from workbench.session.store import Store
from workbench.weights import cache_dir

if TYPE_CHECKING:
    from workbench.session import Session

MOST = 9  # notebooks that have one lesson open at once
CHECKPOINT, LOOK = "checkpoint", "look"


@dataclass(slots=True)
class _Build:
    """A checkpoint that is being made: ``start`` in the lesson's code opens the session here."""

    name: str
    folder: Path
    session: Session | None = None


_building: ContextVar[_Build | None] = ContextVar("workbench_lesson", default=None)


def checkpoints(lesson: str, folder: Path | None = None) -> tuple[str, ...]:
    """The checkpoints of a lesson, in their order.

    Parameters
    ----------
    lesson
        As for `workbench.lessons.find`.
    folder
        Of the notebooks; those that are installed if None.
    """
    return tuple(name for cell in _cells(_path(lesson, folder)) if (name := cell["metadata"].get(CHECKPOINT)))


def start(
    lesson: str, at: str | None = None, *, model: Any = None, folder: Path | None = None, **options: Any
) -> Session:
    """The session of a lesson: a new one, or one that stands at a checkpoint.

    Parameters
    ----------
    lesson
        As for `workbench.lessons.find`.
    at
        A checkpoint; the beginning if None. The first time this runs the lesson's code up to there.
    model, options
        As of `workbench.open`.
    folder
        Of the notebooks; those that are installed if None.

    Raises
    ------
    ArgumentError
        If there is no such lesson or checkpoint.
    DataError
        If the lesson's code fails, or opens no session.
    ResourceError
        If too many notebooks have the lesson open.

    Examples
    --------
    >>> bench = workbench.lessons.start("05", at="compiled")                           # doctest: +SKIP
    """
    building = _building.get()
    if building is not None:
        if building.session is not None:
            raise DataError(f"lesson {building.name!r} starts twice: one session is enough")
        building.session = workbench.open(building.folder, model, **options)
        return building.session
    path = _path(lesson, folder)
    home = cache_dir() / "lessons" / path.stem
    ready = None if at is None else _made(path, at, home)
    for number in range(1, MOST + 1):
        work = home / ("work" if number == 1 else f"work-{number}")
        try:
            return _opened(work, ready, model, options)
        except ResourceError as error:
            if "another process" not in str(error) or number == MOST:
                raise
    raise AssertionError("unreachable")


def _opened(work: Path, ready: Path | None, model: Any, options: dict[str, Any]) -> Session:
    if ready is None:
        return workbench.open(work, model, fresh=True, **options)
    Store(work).close()  # nobody else has it open
    shutil.rmtree(work.with_name(f"{work.name}.before"), ignore_errors=True)
    work.rename(work.with_name(f"{work.name}.before"))
    shutil.copytree(ready, work, ignore=shutil.ignore_patterns(".lock"))
    return workbench.open(work, model, **options)


def _made(path: Path, at: str, home: Path) -> Path:
    cells = _cells(path)
    names = [cell["metadata"].get(CHECKPOINT) for cell in cells]
    if at not in names:
        raise unknown(f"checkpoint of {path.stem}", at, [name for name in names if name])
    code = [_source(c) for c in cells[: names.index(at) + 1] if LOOK not in c["metadata"].get("tags", ())]
    key = hashlib.sha256("\0".join([workbench.__version__, *code]).encode()).hexdigest()[:12]
    ready = home / f"{at}-{key}"
    if ready.is_dir():
        return ready
    part = home / f".{ready.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    home.mkdir(parents=True, exist_ok=True)
    _run(path, at, code, _Build(path.stem, part))
    for old in home.glob(f"{at}-*"):
        shutil.rmtree(old, ignore_errors=True)  # of an earlier version of the lesson
    part.rename(ready)
    return ready


def _run(path: Path, at: str, code: list[str], build: _Build) -> None:
    names: dict[str, Any] = {"__name__": "__lesson__"}
    with _as_build(build):
        try:
            for number, source in enumerate(code, 1):
                with redirect_stdout(io.StringIO()):
                    exec(compile(source, f"{path.name}, code cell {number}", "exec"), names)  # noqa: S102 - our lesson
        except Exception as error:
            raise DataError(f"{path.stem} does not come to {at!r}: {type(error).__name__}: {error}") from error
        finally:
            if build.session is not None:
                build.session.save()
                build.session.close()
    if build.session is None:
        raise DataError(f"{path.stem} comes to {at!r} without a session: it has to call workbench.lessons.start")


@contextmanager
def _as_build(build: _Build) -> Iterator[None]:
    token = _building.set(build)
    try:
        yield
    finally:
        _building.reset(token)


def _path(lesson: str, folder: Path | None) -> Path:
    from workbench.lab import shipped

    root = folder if folder is not None else shipped()
    found = find(lesson, root)
    if found.kind != "lesson":
        raise ArgumentError(f"{found.name!r} is a lab, which has no checkpoints: name a lesson")
    return root / found.path


def _cells(path: Path) -> list[dict[str, Any]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])
