"""What the panels of a studio share: one session, the variant that is looked at, one long piece of work at a time.

A panel runs its job through the desk: every panel is told how it stands, the one that began it what it finds. A panel
that selects another variant tells the desk, and the desk every panel.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from workbench.errors import ArgumentError
from workbench.session import Session, Variant
from workbench_widgets._worker import Runner

IDLE: dict[str, Any] = {"kind": "", "state": "idle", "text": "", "fraction": 0.0}
QUIET = "score"  # work in the background, which gives way to any other


class Member(Protocol):
    """What a panel is told."""

    def job_told(self, job: dict[str, Any], mine: bool) -> None:
        """How a job stands."""
        ...

    def at_rest(self) -> None:
        """A job has ended, however."""
        ...

    def selection_changed(self) -> None:
        """Another variant is looked at."""
        ...

    def variants_changed(self) -> None:
        """Variants came or went, or one was applied."""
        ...

    def found(self, _: str, partial: Any, /) -> None:
        """What its own job has found so far."""
        ...

    def report(self, error: BaseException) -> None:
        """What its own job failed of."""
        ...

    def redraw_soon(self) -> None:
        """There is something to see for readers without a kernel."""
        ...


class Desk:
    """See this module.

    Parameters
    ----------
    session
        None for a panel that needs none.

    Attributes
    ----------
    selected : int
        Number of the variant that is looked at; 0 is the dense model.
    job : dict
        How the last job stands.
    """

    def __init__(self, session: Session | None = None) -> None:
        self.session: Any = session
        self.job = dict(IDLE)
        self.selected: int = session.variants[-1].number if session is not None and session.variants else 0
        self._members: list[Member] = []
        self._owner: Member | None = None
        self._ended = dict(IDLE)
        self._resting = 0  # the thread in which panels are told that a job is over, which may begin the next one
        self._runner = Runner(self._tell, self._found, self._failed)

    def join(self, member: Member) -> None:
        """Tell a panel from now on."""
        self._members.append(member)

    def leave(self, member: Member) -> None:
        """Tell a panel no longer; what it began is cancelled."""
        if self._owner is member:
            self.cancel()
        self._members = [m for m in self._members if m is not member]

    def redraw_soon(self) -> None:
        """Let all panels draw their static forms."""
        for member in list(self._members):
            member.redraw_soon()

    # Variants

    @property
    def variant(self) -> Variant | None:
        """The one that is looked at; None for the dense model."""
        found = () if self.session is None else self.session.variants
        return next((v for v in found if v.number == self.selected), None)

    @property
    def pruned(self) -> Variant | None:
        """The same, or what it was compiled from; None for the dense model."""
        chosen = self.variant
        if chosen is None or not chosen.compiled:
            return chosen
        return next((v for v in self.session.variants if v.number == chosen.parent), None)

    def select(self, number: int) -> None:
        """Look at another variant.

        Raises
        ------
        ArgumentError
            If there is none of that number.
        """
        if number and self.session is not None:
            self.session.pick(number)
        if number != self.selected:
            self.selected = number
            for member in list(self._members):
                member.selection_changed()

    def changed(self, select: int | None = None) -> None:
        """Variants came or went, or one was applied; perhaps look at another one."""
        if select is not None:
            self.selected = select
        elif self.selected and self.variant is None:
            self.selected = 0
        for member in list(self._members):
            member.variants_changed()
            member.selection_changed()

    # Work

    @property
    def kind(self) -> str:
        """What runs now; empty when nothing does."""
        return "" if self._resting == threading.get_ident() else self._runner.kind

    @property
    def locked(self) -> bool:
        """Whether something runs that must not be disturbed."""
        return self.kind not in ("", QUIET)

    def refuse_if_busy(self) -> None:
        """Raise `ArgumentError` while something runs that must not be disturbed."""
        if self.locked:
            raise ArgumentError(f"the studio is busy ({self.job['text']}): wait or press Cancel")

    def run(
        self,
        owner: Member,
        kind: str,
        text: str,
        work: Callable[..., Any],
        finished: Callable[[Any], None],
        stopped: Callable[[], None] = lambda: None,
    ) -> None:
        """Start a job of a panel's; see `Runner.run`.

        Raises
        ------
        ArgumentError
            If another one runs.
        """
        self.refuse_if_busy()
        self._runner.cancel()
        self._owner = owner
        self._runner.run(kind, text, work, finished, stopped)

    def cancel(self) -> bool:
        """Ask what runs to stop; whether there was anything."""
        ended = self._ended
        asked = self._runner.cancel()
        if asked and self.job["state"] == "running":
            self._tell({**self.job, "state": "cancelling", "text": "Cancelling…"})
            if self._ended is not ended:  # it was over meanwhile, and said so too early
                self._tell(self._ended)
        return asked

    def cancel_quiet(self) -> None:
        """Ask work in the background to stop."""
        if self.kind == QUIET:
            self._runner.cancel()

    def _tell(self, job: dict[str, Any]) -> None:
        over = job["state"] in ("done", "cancelled", "failed")
        if over:
            self._ended = job
        self.job = job
        for member in list(self._members):
            member.job_told(job, member is self._owner)
        if over:
            self._resting = threading.get_ident()
            try:
                for member in list(self._members):
                    member.at_rest()
            finally:
                self._resting = 0

    def _found(self, part: str, partial: Any) -> None:
        if self._owner is not None:
            self._owner.found(part, partial)

    def _failed(self, error: BaseException) -> None:
        if self._owner is not None:
            self._owner.report(error)


def desk_of(given: Any) -> Desk:
    """A desk: the one given, or one of its own for a session."""
    if isinstance(given, Desk):
        return given
    return Desk(given if isinstance(given, Session) else None)
