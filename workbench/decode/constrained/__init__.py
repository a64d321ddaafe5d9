"""Texts that a grammar, a schema or a program allows, and only those."""

from __future__ import annotations

from workbench.decode.constrained import awrs, masked, monitor  # noqa: F401 - importing registers
from workbench.decode.constrained._constraint import Constraint, Grammar, Texts, json_schema, regex
from workbench.decode.constrained.monitor import PythonNames

__all__ = ["Constraint", "Grammar", "PythonNames", "Texts", "json_schema", "regex"]
