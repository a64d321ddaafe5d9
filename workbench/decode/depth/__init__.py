"""Not every token needs every layer: early exits, and paths through the layers."""

from __future__ import annotations

__all__: list[str] = []
