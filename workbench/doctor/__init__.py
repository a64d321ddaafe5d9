"""Whether everything is there that the workbench needs, and what to do about what is not."""

from __future__ import annotations

from workbench.doctor.checks import CHECKS, examine
from workbench.doctor.finding import Finding

__all__ = ["CHECKS", "Finding", "examine"]
