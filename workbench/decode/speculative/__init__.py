"""Drafting and verifying: several tokens per pass of the target, and the text that it would have said anyway."""

from __future__ import annotations

from workbench.decode.speculative import prompt_lookup  # noqa: F401 - importing registers
from workbench.decode.speculative._base import Drafter, Speculative, softmax

__all__ = ["Drafter", "Speculative", "softmax"]
