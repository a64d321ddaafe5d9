"""Several answers, and a choice among them."""

from __future__ import annotations

__all__: list[str] = []
