"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise ResourceError(f"cannot write {path} ({error}): {advice}") from error
    finally:
        with suppress(OSError):
            part.unlink()


def write_text(path: str | Path, text: str, advice: str = "name a file that can be written") -> None:
    """Write text as UTF-8, as `whole` does."""
    with whole(Path(path), advice) as part:
        part.write_text(text, encoding="utf-8")
