"""Threads behind a view: one job at a time, heard ten times a second, and latest-wins answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from workbench.jobs import Job, Progress, Step
from workbench.session import Stage

T = TypeVar("T")
INTERVAL = 0.1  # seconds between two progress reports
ENDINGS = {"done": "Done", "cancelled": "Cancelled: nothing was changed", "failed": "Failed"}


class Latest(Generic[T]):
    """Does ``work(value)`` in a thread; of the values asked for meanwhile only the last one is done.

    Parameters
    ----------
    work
        Takes a value; called in a thread, never twice at once.
    failed
        Gets what ``work`` raised.
    """

    def __init__(self, work: Callable[[T], None], failed: Callable[[BaseException], None]) -> None:
        self._work, self._failed = work, failed
        self._lock = threading.Lock()
        self._wanted: list[T] = []
        self.busy = False

    def ask(self, value: T) -> None:
        """Ask for a value, in place of one that still waits."""
        with self._lock:
            self._wanted = [value]
            if self.busy:
                return
            self.busy = True
        Job(self._loop, done=self._ended)

    def _loop(self, progress: Progress) -> None:
        while True:
            progress.check()
            with self._lock:
                if not self._wanted:
                    self.busy = False
                    return
                value = self._wanted.pop()
            self._work(value)

    def _ended(self, job: Job[None]) -> None:
        if job.error is not None:
            self.busy = False
            self._failed(job.error)


class Runner:
    """Runs one job at a time. A new one takes the place of the one before, which is cancelled.

    Parameters
    ----------
    tell
        Gets ``{"kind", "state", "text", "fraction", "seconds"}`` at the start, while it runs and at the end.
    partial
        Gets the name of the stage and what it found so far.
    failed
        Gets what a job raised.
    """

    def __init__(
        self,
        tell: Callable[[dict[str, Any]], None],
        partial: Callable[[str, Any], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._tell, self._partial, self._failed = tell, partial, failed
        self._current: _Run | None = None

    @property
    def kind(self) -> str:
        """What runs now; empty when nothing does."""
        run = self._current
        return run.kind if run is not None and not run.over else ""

    def run(
        self,
        kind: str,
        text: str,
        function: Callable[..., Any],
        finished: Callable[[Any], None],
        stopped: Callable[[], None] = lambda: None,
    ) -> None:
        """Start a job; in its thread ``finished`` gets its value, or ``stopped`` is called when there is none."""
        self.cancel()
        run = self._current = _Run(self, kind, finished, stopped)
        self._tell({"kind": kind, "state": "running", "text": text, "fraction": 0.0})
        run.start(function)

    def cancel(self) -> bool:
        """Ask what runs to stop, which it does within a second; whether there was anything."""
        run = self._current
        return run is not None and not run.over and run.cancel()

    def hear(self, run: _Run, state: dict[str, Any] | None, partial: Any) -> None:
        """Pass on what a run says, unless a newer one has taken its place."""
        if run is not self._current:
            return
        if partial is not None:
            self._partial(run.what, partial)
        if state is not None:
            self._tell(state)

    def ended(self, run: _Run, error: BaseException | None) -> None:
        """Pass on how a run ended."""
        if run is self._current and error is not None:
            self._failed(error)


class _Run:
    """One job of a `Runner`: turns its steps into what is told."""

    def __init__(self, runner: Runner, kind: str, finished: Callable[[Any], None], stopped: Callable[[], None]) -> None:
        self.kind, self.over = kind, False
        self._runner, self._finished, self._stopped = runner, finished, stopped
        self.what = ""
        self._part, self._parts = 0, 1
        self._told = 0.0
        self._start = time.monotonic()
        self._cancelled = threading.Event()
        self._job: Job[Any] | None = None

    def start(self, function: Callable[..., Any]) -> None:
        def work(progress: Progress) -> None:
            self._finished(function(progress=progress))  # here, so that what goes wrong in it is told too

        self._job = Job(work, listener=self._heard, done=self._ended)
        if self._cancelled.is_set():
            self._job.cancel()

    def cancel(self) -> bool:
        self._cancelled.set()
        if self._job is not None:
            self._job.cancel()
        return True

    def _heard(self, step: Step) -> None:
        stage = step.partial if isinstance(step.partial, Stage) else None
        if stage is not None:
            self._part, self._parts, self.what = stage.index, stage.count, stage.what
        now = time.monotonic()
        due = stage is not None or step.done >= step.total or now - self._told >= INTERVAL
        partial = step.partial if stage is None and due else None
        if not due:
            return
        self._told = now
        inside = 0.0 if stage is not None or not step.total else step.fraction
        text = self.what if stage is not None or step.what == "found" else self._words(step)
        state = {"state": "running", "text": text, "fraction": (self._part + inside) / self._parts}
        if step.what == "found":  # a result between two parts, no progress of its own
            state["fraction"] = self._part / self._parts
        if self._cancelled.is_set():
            state.update(state="cancelling", text="Cancelling…")
        self._runner.hear(self, {"kind": self.kind, **state}, partial)

    def _words(self, step: Step) -> str:
        inner = f"{step.what} {step.done} of {step.total}" if step.total else f"{step.what}: {step.done} so far"
        return f"{self.what}: {inner}" if self.what else inner

    def _ended(self, job: Job[Any]) -> None:
        state: dict[str, Any] = {"kind": self.kind, "state": job.state, "text": ENDINGS[job.state]}
        state.update(fraction=1.0, seconds=time.monotonic() - self._start)
        if job.state != "done":
            self._stopped()
        self._runner.ended(self, job.error)
        self._runner.hear(self, state, None)
        self.over = True
