"""Texts that a grammar, a schema or a program allows, and only those."""

from __future__ import annotations

__all__: list[str] = []
