"""What was made and what was done in a session: variants, what is applied, undo and redo, the journal."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from workbench._variants import Stage, Variant
from workbench.errors import ArgumentError
from workbench.jobs import Progress


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the journal: what was done, to what, and how many seconds after the session began."""

    action: str
    detail: str
    seconds: float


class History:
    """Variants in the order of making, of which ``keep`` are held besides those that undo and redo need.

    Parameters
    ----------
    keep
        At least 1; the oldest variant is forgotten first.
    """

    def __init__(self, keep: int) -> None:
        if keep < 1:
            raise ArgumentError(f"keep={keep!r}: at least 1 variant must be kept")
        self.keep = keep
        self.made = 0
        self.variants: list[Variant] = []
        self.journal: list[Event] = []
        self.applied: list[Variant] = []
        self.undone: list[Variant] = []
        self._start = time.perf_counter()

    def add(self, variant: Variant) -> None:
        """Take in a new variant and forget the oldest that nothing needs."""
        self.made += 1
        self.variants.append(variant)
        self.log("prune", variant.name)
        spare = [v for v in self.variants if v not in self.applied and v not in self.undone]
        for old in spare[: -self.keep]:
            self.variants.remove(old)
            self.log("forget", old.name)

    def pick(self, variant: Variant | None) -> Variant:
        """The given variant, or the newest one."""
        if variant is None and not self.variants:
            raise ArgumentError("there is no variant yet: prune first")
        return self.variants[-1] if variant is None else variant

    def apply(self, variant: Variant | None) -> None:
        """Make a variant current."""
        chosen = self.pick(variant)
        self.applied.append(chosen)
        self.undone.clear()
        self.log("apply", chosen.name)

    def undo(self) -> None:
        """Take back the last `apply`."""
        if not self.applied:
            raise ArgumentError("nothing to undo: no variant is applied")
        self.undone.append(self.applied.pop())
        self.log("undo", self.undone[-1].name)

    def redo(self) -> None:
        """Take back the last `undo`."""
        if not self.undone:
            raise ArgumentError("nothing to redo: nothing was undone")
        self.applied.append(self.undone.pop())
        self.log("redo", self.applied[-1].name)

    def log(self, action: str, detail: str) -> None:
        """Write a line of the journal."""
        self.journal.append(Event(action, detail, time.perf_counter() - self._start))


class Stages:
    """Announces the parts of a long piece of work, each with what the part before it found."""

    def __init__(self, progress: Progress | None, count: int) -> None:
        self._progress, self._count, self._index = progress, count, 0

    def __call__(self, what: str, found: Any = None) -> None:
        """Begin the part ``what``; ``found`` is handed to whoever listens."""
        if self._progress is None:
            return
        if found is not None:
            self._progress.step("found", 1, 1, partial=found)
        self._progress.step(what, self._index, self._count, partial=Stage(what, self._index, self._count))
        self._index += 1


class Turns:
    """One long piece of work at a time; what waits for its turn can be cancelled."""

    def __init__(self) -> None:
        self._busy = threading.Lock()

    @contextmanager
    def __call__(self, progress: Progress | None) -> Iterator[None]:
        """Hold the turn inside ``with``."""
        while not self._busy.acquire(timeout=0.1):
            if progress is not None:
                progress.check()
        try:
            yield
        finally:
            self._busy.release()
