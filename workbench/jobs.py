"""Long work: progress, partial results, and cancelling within a second.

Every long function of the library takes ``progress: Progress | None``. It calls ``progress.step`` as it goes
and ``progress.check`` wherever stopping is safe; both raise `Cancelled` once somebody asked to stop. `Job` runs
such a function in a thread, so that a notebook's buttons stay alive. The library never prints.

    model + data --(function, Progress)--> result          the thread only ever touches its own copies
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from workbench_kernels.compiling import told

from workbench.errors import ArgumentError, Cancelled

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """One progress report: ``done`` of ``total`` units of ``what`` (0: nobody knows), after ``seconds``."""

    what: str
    done: int
    total: int
    seconds: float
    partial: Any = None

    @property
    def fraction(self) -> float:
        """Share done, in [0, 1]."""
        return min(1.0, self.done / self.total) if self.total else 1.0


@dataclass(slots=True, eq=False)
class Progress:
    """Carries reports out of a long function and the wish to stop into it.

    Parameters
    ----------
    listener
        Called with every `Step`, in the thread that does the work.
    """

    listener: Callable[[Step], None] | None = None
    _cancel: threading.Event = field(default_factory=threading.Event)
    _start: float = field(default_factory=time.perf_counter)

    def step(self, what: str, done: int, total: int, partial: Any = None) -> None:
        """Report ``done`` of ``total``, with a partial result if there is one, and `check`."""
        self.check()
        if self.listener is not None:
            self.listener(Step(what, done, total, time.perf_counter() - self._start, partial))

    def check(self) -> None:
        """Raise `Cancelled` if `cancel` was called."""
        if self._cancel.is_set():
            raise Cancelled("cancelled: nothing was changed")

    def cancel(self) -> None:
        """Ask the work to stop at its next safe point."""
        self._cancel.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancel.is_set()

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Report every kernel that is compiled inside the block, and stop between two of them."""
        with told(lambda count: self.step("compiling kernels, once", count, 0)):
            yield

    @contextmanager
    def interrupting(self, module: torch.nn.Module) -> Iterator[None]:
        """Check before every submodule's forward, so that one long forward stops too; hooks go on exit."""
        hooks = [m.register_forward_pre_hook(lambda *_: self.check()) for m in module.modules()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


_RUNNING: weakref.WeakSet[Job[Any]] = weakref.WeakSet()
_PATIENCE = 5.0  # seconds for all of them


@atexit.register
def _stop_all() -> None:
    """Stop what still runs when Python ends: a thread that is cut off inside of torch aborts the whole process."""
    end = time.monotonic() + _PATIENCE
    running = list(_RUNNING)
    for job in running:
        job.cancel()
    for job in running:
        job._thread.join(max(0.0, end - time.monotonic()))


class Job(Generic[T]):
    """A long function in a daemon thread.

    Parameters
    ----------
    function
        Called as ``function(*args, progress=progress, **kwargs)``.

    Attributes
    ----------
    state : str
        ``"running"``, ``"done"``, ``"cancelled"`` or ``"failed"``.
    last : Step or None
        The newest progress report.
    error : BaseException or None
        What the function raised, when ``state`` is ``"failed"``.

    Examples
    --------
    >>> job = Job(lambda progress: sum(range(10)))
    >>> job.result()
    45
    """

    def __init__(
        self,
        function: Callable[..., T],
        *args: Any,
        listener: Callable[[Step], None] | None = None,
        done: Callable[[Job[T]], None] | None = None,
        **kwargs: Any,
    ) -> None:
        if not callable(function):
            raise ArgumentError(f"function={function!r} is not callable: pass a function that takes progress=")
        self.state = "running"
        self.last: Step | None = None
        self.error: BaseException | None = None
        self._value: T | None = None
        self._listener, self._done = listener, done
        self.progress = Progress(self._heard)
        self._thread = threading.Thread(target=self._run, args=(function, args, kwargs), daemon=True)
        self._thread.start()
        _RUNNING.add(self)

    def _heard(self, step: Step) -> None:
        self.last = step
        if self._listener is not None:
            self._listener(step)

    def _run(self, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            with self.progress.compiling():
                self._value = function(*args, progress=self.progress, **kwargs)
            self.state = "done"
        except Cancelled:
            self.state = "cancelled"
        except BaseException as error:  # a thread must hand over whatever ended it: result() raises it again
            self.error, self.state = error, "failed"
        if self._done is not None:
            self._done(self)

    def cancel(self) -> None:
        """Ask the job to stop; it does within a second."""
        self.progress.cancel()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the end and return the value, raising what the function raised.

        Raises
        ------
        Cancelled
            If the job was cancelled.
        TimeoutError
            If it has not ended after ``timeout`` seconds; it goes on.
        """
        try:
            self._thread.join(timeout)
        except KeyboardInterrupt:  # the kernel's interrupt reaches only the main thread
            self.cancel()
            raise
        if self._thread.is_alive():
            raise TimeoutError(f"the job has not ended after {timeout} s; it goes on")
        if self.state == "cancelled":
            raise Cancelled("cancelled: nothing was changed")
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[return-value]
