"""Files that are written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import ResourceError


@contextmanager
def whole(path: Path, advice: str = "name a file that can be written") -> Iterator[Path]:
    """Write to the path that this yields; it takes the place of ``path`` when the block has ended well.

    Raises
    ------
    ResourceError
        If the system refuses; it says ``advice``.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise ResourceError(f"cannot write {path} ({error}): {advice}") from error
