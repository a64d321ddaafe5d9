"""Paths through the layers as text, such as ``"0-9,12,12-29"``."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.errors import ArgumentError


def parse_path(path: Sequence[int] | str) -> tuple[int, ...]:
    """Layers of a path that may be a text.

    Raises
    ------
    ArgumentError
        If the text is none.

    Examples
    --------
    >>> parse_path("0-2,2,4")
    (0, 1, 2, 2, 4)
    """
    if not isinstance(path, str):
        return tuple(int(p) for p in path)
    found: list[int] = []
    for part in path.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or (last and not last.isdigit()) or part.strip().endswith("-"):
            raise ArgumentError(f"path={path!r}: numbers and ranges, such as '0-9,12,12-29'; {part!r} is neither")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def path_text(path: Sequence[int]) -> str:
    """A path as a text that `parse_path` takes.

    Examples
    --------
    >>> path_text((0, 1, 2, 2, 4))
    '0-2,2,4'
    """
    runs: list[list[int]] = []
    for p in path:
        if runs and p == runs[-1][-1] + 1:
            runs[-1].append(p)
        else:
            runs.append([p])
    return ",".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)
