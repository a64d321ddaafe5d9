"""What lessons and labs there are, and what each costs: read from the notebooks' own metadata.

A tutorial says it under ``workbench: lesson:`` in its metadata, and again for people in its first cell, as
`Lesson.header` writes it. A lab is made from its master, and says it in its first cell alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench._format import amount
from workbench.errors import ArgumentError, DataError, unknown

KEYS = {"title", "minutes", "difficulty", "importance", "seconds", "megabytes", "covers"}
_DOTS = "○●"
_LAB_HEAD = re.compile(r"\*\*Difficulty\*\* ([●○]{3}).*?\*\*Time\*\* (\d+)(?:–(\d+))? minutes", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Lesson:
    """A tutorial or a lab.

    Attributes
    ----------
    name : str
        Of its file, without the ending.
    kind : str
        ``"lesson"`` or ``"lab"``.
    path : str
        Below the notebooks' folder.
    title : str
    minutes : (int, int)
        That a reader takes, at least and at most.
    difficulty, importance : int
        1 to 3; importance is 0 where a lab does not say.
    seconds, megabytes : int
        Of computing on two cores, and of memory at the peak; 0 where a lab does not say.
    covers : tuple of str
        Ideas and methods that are in it.
    """

    name: str
    kind: str
    path: str
    title: str
    minutes: tuple[int, int]
    difficulty: int
    importance: int = 0
    seconds: int = 0
    megabytes: int = 0
    covers: tuple[str, ...] = ()

    @property
    def time(self) -> str:
        """Minutes, in words."""
        low, high = self.minutes
        return f"{low}–{high} min" if low < high else f"{low} min"

    @property
    def header(self) -> str:
        """The lines that its first cell shows."""
        return (
            f"**Difficulty** {dots(self.difficulty)} &nbsp; **Importance** {dots(self.importance)} &nbsp; "
            f"**Time** {self.time.removesuffix(' min')} minutes<br>\n"
            f"**Costs** {spoken(self.seconds)} of computing, {amount(self.megabytes * 1_000_000)} of memory; "
            "no GPU, no network"
        )


def dots(level: int) -> str:
    """A level of 1 to 3 as three circles.

    Examples
    --------
    >>> dots(2)
    '●●○'
    """
    return "".join(_DOTS[n < level] for n in range(3))


def spoken(seconds: int) -> str:
    """Seconds, roughly.

    Examples
    --------
    >>> spoken(20), spoken(60), spoken(100)
    ('20 seconds', 'a minute', '2 minutes')
    """
    if seconds < 50:
        return f"{seconds} seconds"
    minutes = max(1, round(seconds / 60))
    return "a minute" if minutes == 1 else f"{minutes} minutes"


def catalogue(folder: Path | None = None) -> tuple[Lesson, ...]:
    """All lessons in their order, then all labs.

    Parameters
    ----------
    folder
        Of the notebooks; those that are installed if None.

    Raises
    ------
    DataError
        If a notebook does not say what it costs.
    ResourceError
        If no notebooks are installed.
    """
    root = folder if folder is not None else _shipped()
    found = [*sorted(root.glob("tutorials/*.ipynb")), *sorted(root.glob("labs/*.ipynb"))]
    return tuple(read(path, root) for path in found)


def find(name: str, folder: Path | None = None) -> Lesson:
    """A lesson or lab by its name, its number (``"01"``) or the beginning of either.

    Raises
    ------
    ArgumentError
        If there is none, or more than one.
    """
    known = {lesson.name: lesson for lesson in catalogue(folder)}
    asked = str(name).removesuffix(".ipynb").rpartition("/")[2]
    if asked.isdecimal():
        asked = asked.zfill(2)
    exact = known.get(asked)
    near = [exact] if exact else [lesson for key, lesson in known.items() if key.startswith(asked)]
    if not near or not asked:
        raise unknown("lesson", name, known)
    if len(near) > 1:
        raise ArgumentError(f"lesson {name!r} could be {' or '.join(lesson.name for lesson in near)}: name one")
    return near[0]


def read(path: Path, root: Path) -> Lesson:
    """What one notebook says of itself.

    Raises
    ------
    DataError
        If it says nothing, or something that cannot be.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        own, first = content["metadata"].get("workbench", {}), "".join(content["cells"][0]["source"])
    except (OSError, ValueError, LookupError, AttributeError) as error:
        raise DataError(f"{path} is no notebook that can be read ({error!r}): get it again with --fresh") from error
    place = path.relative_to(root).as_posix()
    if "lesson" in own:
        return _checked(path.stem, place, own["lesson"])
    match = _LAB_HEAD.search(first)
    if match is None:
        raise DataError(f"{path} does not say what it costs: add workbench.lesson to its metadata")
    low, high = int(match[2]), int(match[3] or match[2])
    told = first.split("\n")
    said = next((line.strip("*") for line in told if line.startswith("*") and not line.startswith("**")), "")
    title = told[0].lstrip("# ")
    return Lesson(path.stem, "lab", place, title, (low, high), match[1].count("●"), covers=(said,) if said else ())


def _checked(name: str, place: str, said: Mapping[str, Any]) -> Lesson:
    problems = [f"lacks {key}" for key in sorted(KEYS - set(said))]
    problems += [f"{key} is not known" for key in sorted(set(said) - KEYS)]
    if not problems:
        low, high = said["minutes"] if len(said["minutes"]) == 2 else (0, 0)
        wrong = {
            "minutes": not 0 < low <= high,
            "difficulty": said["difficulty"] not in (1, 2, 3),
            "importance": said["importance"] not in (1, 2, 3),
            "seconds": not said["seconds"] > 0,
            "megabytes": not said["megabytes"] > 0,
            "covers": not said["covers"] or not all(isinstance(word, str) for word in said["covers"]),
            "title": not said["title"],
        }
        problems = [f"{key}={said[key]!r} cannot be" for key, bad in wrong.items() if bad]
    if problems:
        raise DataError(f"{place}, workbench.lesson in the metadata: {'; '.join(problems)}")
    rest = {key: said[key] for key in KEYS - {"minutes", "covers"}}
    return Lesson(name, "lesson", place, minutes=(low, high), covers=tuple(said["covers"]), **rest)


def _shipped() -> Path:
    from workbench.lab import shipped

    return shipped()
