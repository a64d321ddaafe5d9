"""The errors that the workbench raises: one small family, each of which says what to do.

Every message follows one pattern: what came, what was wanted, what to do about it. Errors are raised,
never asserted, so that they survive ``python -O``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WorkbenchError(Exception):
    """Base of everything that the workbench raises on purpose."""


class ArgumentError(WorkbenchError, ValueError):
    """An argument is wrong; the message names it, what came and what would be right."""


class ModelError(WorkbenchError):
    """A model or checkpoint cannot be read, described or written."""


class DataError(WorkbenchError):
    """Calibration or evaluation text is missing, too short, or overlaps what it must not."""


class ResourceError(WorkbenchError):
    """The machine lacks what the work needs: disk space, memory, network."""


class Cancelled(WorkbenchError):
    """The user cancelled a job; nothing was changed."""


def unknown(kind: str, name: object, known: Iterable[str]) -> ArgumentError:
    """An error for a name that is not registered, listing the near ones.

    Parameters
    ----------
    kind
        What the name should have named, e.g. ``"method"``.
    name
        What came.
    known
        The names that would have been right.

    Examples
    --------
    >>> str(unknown("method", "wnda", ["wanda", "magnitude"]))
    "unknown method 'wnda': did you mean 'wanda'? Known: magnitude, wanda"
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    return ArgumentError(f"unknown {kind} {name!r}: {hint}Known: {', '.join(names)}")
