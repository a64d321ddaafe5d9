"""Masked diffusion: tokens are unmasked in any order, several at a time."""

from __future__ import annotations

__all__: list[str] = []
