"""What a studio writes: a checkpoint, a recipe, a program, a page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench._files import whole
from workbench.errors import ArgumentError, unknown

if TYPE_CHECKING:
    from workbench_widgets.studio import Studio

KINDS = ("model", "recipe", "python", "report")


def writing(studio: Studio, what: str, folder: str | Path) -> Callable[..., dict[str, Any]]:
    """The work that writes it and says where it lies.

    Raises
    ------
    ArgumentError
        If the folder has no name, the kind is unknown, or there is no variant to be written.
    """
    if what not in KINDS:
        raise unknown("export", what, KINDS)
    if not str(folder).strip():
        raise ArgumentError("the folder has no name: say where to write")
    place, session, variant = Path(folder).expanduser(), studio.session, studio.desk.pruned
    if variant is None and what in ("model", "recipe"):
        raise ArgumentError(f"the dense model has no {what} of its own to write: pick a variant above")
    slug = "" if variant is None else re.sub(r"[^A-Za-z0-9.]+", "-", variant.name).strip("-")

    def model(progress: Any) -> dict[str, Any]:
        saved = session.export(place / slug, variant, progress)
        return {"path": str(saved.folder), "bytes": saved.bytes}

    def text(name: str, words: Callable[[], str]) -> Callable[..., dict[str, Any]]:
        def work(progress: Any) -> dict[str, Any]:
            progress.check()
            return _write(place / name, words())

        return work

    return {
        "model": model,
        "recipe": text(f"{slug}.json", lambda: variant.recipe.to_json() + "\n"),  # type: ignore[union-attr]
        "python": text("session.py", session.to_python),
        "report": text("report.html", studio.to_html),
    }[what]


def _write(path: Path, text: str) -> dict[str, Any]:
    with whole(path, "name another folder") as part:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
    return {"path": str(path), "bytes": path.stat().st_size}
