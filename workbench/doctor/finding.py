"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = ("ok", "note", "problem")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report.

    Attributes
    ----------
    name : str
        Of what was looked at.
    level : str
        ``"ok"``; ``"note"`` for what is good to know; ``"problem"`` for what will fail.
    found : str
    advice : str
        What to do; empty where nothing is to be done.
    """

    name: str
    level: str
    found: str
    advice: str = ""


def ok(name: str, found: str) -> Finding:
    """All is well."""
    return Finding(name, "ok", found)


def note(name: str, found: str, advice: str = "") -> Finding:
    """Good to know."""
    return Finding(name, "note", found, advice)


def problem(name: str, found: str, advice: str) -> Finding:
    """Something will fail."""
    return Finding(name, "problem", found, advice)
