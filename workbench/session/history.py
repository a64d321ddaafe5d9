"""What was made and what was done in a session: variants, what is applied, undo and redo, the journal."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.measure.memory import give_back
from workbench.session.variants import Stage, Variant


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the journal: what was done, to what, and how many seconds after the session began."""

    action: str
    detail: str
    seconds: float


class History:
    """Variants in the order of making, and what was done with them, back and forth.

    Attributes
    ----------
    made : int
        Variants so far, removed ones included.
    variants : list of Variant
        Those that are there.
    journal : list of Event
    done, undone : list of (str, int)
        What `undo` and `redo` take back: ``("apply", number)`` and ``("remove", number)``.
    """

    def __init__(self) -> None:
        self.made = 0
        self.variants: list[Variant] = []
        self.journal: list[Event] = []
        self.done: list[tuple[str, int]] = []
        self.undone: list[tuple[str, int]] = []
        self._all: dict[int, Variant] = {}
        self._start = time.perf_counter()

    def restore(
        self, made: Sequence[Variant], journal: Sequence[Event], done: Sequence[Any], undone: Sequence[Any]
    ) -> None:
        """Go on from what was kept: every variant that was made, and the rest as it was."""
        self._all = {v.number: v for v in made}
        self.made = max(self._all, default=0)
        self.journal, self.done, self.undone = list(journal), list(done), list(undone)
        removed = {number for what, number in done if what == "remove"}
        self.variants = [v for v in made if v.number not in removed]
        self._start = time.perf_counter() - (journal[-1].seconds if journal else 0.0)

    @property
    def applied(self) -> Variant | None:
        """The variant that was applied last."""
        numbers = [number for what, number in self.done if what == "apply"]
        return self._all[numbers[-1]] if numbers else None

    def add(self, variant: Variant) -> None:
        """Take in a new variant."""
        self.made = variant.number
        self._all[variant.number] = variant
        self.variants.append(variant)
        self.log("compile" if variant.compiled else "prune", variant.name)

    def pick(self, variant: Variant | int | None) -> Variant:
        """The given variant, that with a number, or the newest one.

        Raises
        ------
        ArgumentError
            If there is none.
        """
        if isinstance(variant, Variant):
            return variant
        if variant is None and not self.variants:
            raise ArgumentError("there is no variant yet: prune first")
        if variant is None:
            return self.variants[-1]
        for one in self.variants:
            if one.number == variant:
                return one
        there = ", ".join(str(v.number) for v in self.variants) or "none"
        raise ArgumentError(f"variant={variant!r}: there are {there}, and 0 is the dense model")

    def apply(self, variant: Variant | int | None) -> None:
        """Make a variant current."""
        chosen = self.pick(variant)
        if chosen.compiled:
            raise ArgumentError(f"{chosen.name!r} is compiled: apply the variant that it was made from")
        self._do("apply", chosen)

    def remove(self, variant: Variant | int) -> None:
        """Take a variant off the list; `undo` brings it back."""
        chosen = self.pick(variant)
        if chosen is self.applied:
            raise ArgumentError(f"{chosen.name!r} is the current model: undo its apply first")
        self._do("remove", chosen)
        self.variants.remove(chosen)

    def undo(self) -> None:
        """Take back the last `apply` or `remove`."""
        if not self.done:
            raise ArgumentError("nothing to undo: no variant is applied")
        what, number = self.done.pop()
        self.undone.append((what, number))
        if what == "remove":
            self.variants = sorted([*self.variants, self._all[number]], key=lambda v: v.number)
        self.log("undo", f"{what} {self._all[number].name}")

    def redo(self) -> None:
        """Take back the last `undo`."""
        if not self.undone:
            raise ArgumentError("nothing to redo: nothing was undone")
        what, number = self.undone.pop()
        self.done.append((what, number))
        if what == "remove":
            self.variants = [v for v in self.variants if v.number != number]
        self.log("redo", f"{what} {self._all[number].name}")

    def log(self, action: str, detail: str) -> None:
        """Write a line of the journal."""
        self.journal.append(Event(action, detail, time.perf_counter() - self._start))

    def _do(self, what: str, variant: Variant) -> None:
        self.done.append((what, variant.number))
        self.undone.clear()
        self.log(what, variant.name)


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
            give_back()  # models come and go here: else what they leave behind adds up to one more
            self._busy.release()
