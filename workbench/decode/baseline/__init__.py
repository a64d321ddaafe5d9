"""What everything else is compared with: one token at a time, and beams."""

from __future__ import annotations

from workbench.decode.baseline import beam, diverse_beam, plain  # noqa: F401 - importing registers

__all__: list[str] = []
