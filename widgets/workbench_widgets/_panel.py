"""What every panel of a studio has: a place at the desk, errors on the screen, a view inside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import traitlets as t

from workbench.errors import WorkbenchError
from workbench_widgets._base import View
from workbench_widgets._desk import IDLE, Desk


class Panel(View):
    """Base of the panels.

    Parameters
    ----------
    desk
        Shared with the other panels; a panel alone has one of its own.
    traits
        What is on the screen at first.
    """

    job = t.Dict(default_value=dict(IDLE)).tag(sync=True)
    error = t.Dict().tag(sync=True)
    live = t.Bool(True).tag(sync=True)

    def __init__(self, desk: Desk, **traits: Any) -> None:
        self.desk = desk
        super().__init__(**traits)
        self.job_told(desk.job, False)
        desk.join(self)
        self.on_msg(self._heard)

    @property
    def session(self) -> Any:
        """Whose variants it works with."""
        return self.desk.session

    @property
    def busy(self) -> bool:
        """Whether something is being worked out."""
        return bool(self.desk.kind)

    def cancel(self) -> None:
        """Ask what runs to stop; it does within a second, and nothing is changed."""
        self.desk.cancel()

    def move(self, action: Callable[[], Any]) -> None:
        """Undo, redo or apply in the session, and show what it came to."""
        self.desk.refuse_if_busy()
        self.publish(error={})
        try:
            action()
        finally:  # what cannot be written is changed all the same
            self.desk.changed()

    def close(self) -> None:
        """Take it off the screen; what it began is cancelled."""
        desk = getattr(self, "desk", None)
        if desk is not None:  # else it was never made: an argument was wrong
            desk.leave(self)
        super().close()

    # From the desk

    def job_told(self, job: dict[str, Any], mine: bool) -> None:
        """Show a job of its own; of another panel's only that it runs."""
        if not mine:
            running = job["state"] in ("running", "cancelling")
            job = {**job, "text": f"Busy: {job['text']}"} if running else dict(IDLE)
        if job != self.job:
            self.publish(job=job)

    def at_rest(self) -> None:
        """A job has ended."""

    def selection_changed(self) -> None:
        """Another variant is looked at."""

    def variants_changed(self) -> None:
        """Variants came or went."""

    def found(self, _: str, partial: Any) -> None:
        """What its own job has found so far."""

    # From the front end: no callback works for long

    def commands(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """What the front end can ask for."""
        return {}

    def _heard(self, _: Any, content: dict[str, Any], __: Any) -> None:
        commands: dict[str, Callable[[dict[str, Any]], Any]] = {"cancel": lambda _: self.cancel(), **self.commands()}
        with self.reporting():
            commands[content["command"]](content)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Show what goes wrong in a callback; an exception there would be lost."""
        try:
            yield
        except WorkbenchError as error:
            self.report(error)

    def report(self, error: BaseException) -> None:
        """Show what went wrong."""
        text = str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
        self.publish(error={"id": self.error.get("id", 0) + 1, "text": text})

    # Without a kernel

    def frozen(self) -> dict[str, Any]:
        """A page without a kernel: nothing runs, and nothing can be started."""
        return {"live": False, "job": dict(IDLE), "error": {}}


class Framed(Panel):
    """A panel with another view inside it, which can be changed."""

    inner = t.Unicode().tag(sync=True)

    def __init__(self, desk: Desk, **traits: Any) -> None:
        self._inside: View | None = None
        super().__init__(desk, **traits)

    @property
    def inside(self) -> View | None:
        """The view inside it."""
        return self._inside

    def show(self, view: View | None, *, keep: bool = False, **traits: Any) -> None:
        """Put a view inside it, or none; the one before is closed unless ``keep``."""
        before, self._inside = self._inside, view
        self.publish(inner=view.reference if view is not None else "", **traits)
        if before is not None and before is not view and not keep:
            before.close()

    def views(self) -> tuple[View, ...]:
        """What a page of it must hold too."""
        return (self._inside,) if self._inside is not None else ()

    def close(self) -> None:
        """Take it and what is inside it off the screen."""
        inside = getattr(self, "_inside", None)
        if inside is not None:
            inside.close()
        super().close()
