"""A session as what the joined panels' front ends get: plain dictionaries."""

from __future__ import annotations

from typing import Any

from workbench.results import json_ready
from workbench.session import Session
from workbench.session.compared import ComparedRow
from workbench_widgets._desk import Desk

DENSE = "dense"


def chooser(desk: Desk) -> dict[str, Any]:
    """What the header lists: every variant, which one is looked at, which one is applied, what can be taken back."""
    session = desk.session
    applied = session.applied
    return {
        "variants": [[0, DENSE], *([v.number, v.name] for v in session.variants)],
        "selected": desk.selected,
        "applied": 0 if applied is None else applied.number,
        "can_undo": session.can_undo,
        "can_redo": session.can_redo,
    }


def looked_at(desk: Desk) -> dict[str, Any]:
    """The variant that is looked at, and what it was compiled from if it was."""
    chosen, base = desk.variant, desk.pruned
    return {
        "number": desk.selected,
        "name": DENSE if chosen is None else chosen.name,
        "compiled": bool(chosen is not None and chosen.compiled),
        "base": DENSE if base is None else base.name,
    }


def table(session: Session) -> dict[str, Any]:
    """The table of comparison: rows, and the numbers of those that no other one beats."""
    compared = session.compare()
    names = list(ComparedRow.__dataclass_fields__)
    rows = [{name: getattr(row, name) for name in names} for row in compared.rows]
    best = {against: list(compared.pareto(against)) for against in ("decode", "weight_bytes")}
    return json_ready({"rows": rows, "best": best, "note": compared.note})


def recipe(desk: Desk) -> dict[str, Any]:
    """How the variant that is looked at came about: its steps, and the Python that makes it again."""
    chosen, session = desk.variant, desk.session
    if chosen is None or session is None:
        source = "" if session is None else session.dense.source
        return {"number": 0, "name": DENSE, "steps": [], "python": "", "source": source, "seconds": None}
    steps = [[type(step).__name__.lower(), str(step)] for step in chosen.lineage]
    said = {"steps": steps, "python": session.to_python(chosen), "source": session.dense.source}
    return json_ready({"number": chosen.number, "name": chosen.name, **said, "seconds": chosen.seconds})
