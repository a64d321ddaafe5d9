"""Sessions: one model, the variants made of it, what was measured of them, kept in a folder."""

from __future__ import annotations

from workbench.session._session import Session
from workbench.session.compared import Compared, ComparedRow
from workbench.session.history import Event
from workbench.session.opening import open  # noqa: A004 - `workbench.open`
from workbench.session.variants import Choice, Execution, Samples, Stage, Variant

__all__ = [
    "Choice",
    "Compared",
    "ComparedRow",
    "Event",
    "Execution",
    "Samples",
    "Session",
    "Stage",
    "Variant",
    "open",
]
