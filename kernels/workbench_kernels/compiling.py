"""Who wants to know that a kernel is being compiled: it takes seconds, once, and looks like nothing happens.

    with told(listener):      while the block runs, in this thread, ``listener(n)`` is called before the n-th kernel is
        work()                compiled; not for one that comes from the cache. What it raises ends the work there.

A kernel cannot be stopped half-way, but between two of them there is room. Those that are finished stay in the cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_hearing = threading.local()


@contextmanager
def told(listener: Callable[[int], None]) -> Iterator[None]:
    """Call ``listener`` with 1, 2, 3... before each kernel that this thread compiles inside the block."""
    before = getattr(_hearing, "tell", None)
    count = 0

    def tell() -> None:
        nonlocal count
        count += 1
        listener(count)

    _hearing.tell = tell
    try:
        yield
    finally:
        _hearing.tell = before


def tell() -> None:
    """A kernel will be compiled now."""
    listener = getattr(_hearing, "tell", None)
    if listener is not None:
        listener()
