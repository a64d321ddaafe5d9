"""Peak memory of a stretch of work, and room for it checked before it starts.

Linux keeps the high-water mark of a process (``VmHWM``) and lets the process reset it; where it does not, the
resident size is sampled every 10 ms. What a container may use counts, not what the machine has.

The allocator of C keeps much of what was freed, and work that takes it again adds nothing to the resident size. So a
measurement starts by giving it back to the system, where the C library can (glibc).
"""

from __future__ import annotations

import ctypes
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workbench._format import amount
from workbench.errors import ResourceError

INTERVAL_SECONDS = 0.01
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_lock = threading.Lock()
_active: list[PeakMemory] = []


@dataclass(slots=True, eq=False)
class PeakMemory:
    """Resident memory of this process during a ``with peak_memory()``.

    Attributes
    ----------
    start_bytes
        When it began.
    peak_bytes
        The most, so far.
    """

    start_bytes: int
    peak_bytes: int

    @property
    def over_start_bytes(self) -> int:
        """What the work added at its peak."""
        return self.peak_bytes - self.start_bytes

    def __repr__(self) -> str:
        return f"PeakMemory({amount(self.peak_bytes)}, {amount(self.over_start_bytes)} over the start)"


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Measure the peak resident memory of the process while the block runs; blocks may nest.

    Yields
    ------
    PeakMemory
        Complete when the block has ended.

    Examples
    --------
    >>> with peak_memory() as memory:
    ...     block = bytearray(50_000_000)
    >>> memory.over_start_bytes > 45_000_000
    True
    """
    with _lock:
        if not _active:
            give_back()
        resident = _field("VmRSS")
        memory = PeakMemory(resident, resident)
        exact = _reset_peak()
        _active.append(memory)
    stop = threading.Event()
    sampler = threading.Thread(target=_sample, args=(memory, stop), daemon=True)
    if not exact:
        sampler.start()
    try:
        yield memory
    finally:
        stop.set()
        if not exact:
            sampler.join()
        with _lock:
            if exact:
                _note(_field("VmHWM"))
            memory.peak_bytes = max(memory.peak_bytes, _field("VmRSS"))
            _active.remove(memory)


def available_memory() -> int:
    """Bytes that this process can still take: of the machine, and of its container where there is one."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        import psutil

        return int(psutil.virtual_memory().available)
    fields = dict(line.split(":") for line in info.read_text().splitlines())
    machine = int(fields["MemAvailable"].split()[0]) * 1024
    return min([machine, *_container_room()])


def require_memory(size: int, what: str = "this") -> None:
    """Refuse work that would not fit into memory.

    Raises
    ------
    ResourceError
        If less than ``size`` bytes are available; it names both.
    """
    free = available_memory()
    if size > free:
        raise ResourceError(
            f"{what} needs {amount(size)} of memory, {amount(free)} are available: close other programs or "
            "notebooks, or take a smaller model or fewer and shorter samples"
        )


def require_disk(path: str | Path, size: int, what: str = "this") -> None:
    """Refuse work whose files would not fit on the disk.

    Parameters
    ----------
    path
        Where they would go; it need not exist yet.
    size
        Bytes.
    what
        Named in the message.

    Raises
    ------
    ResourceError
        If less than ``size`` bytes are free; it names both.
    """
    folder = Path(path).expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ResourceError(
            f"{what} needs {amount(size)} on the disk of {folder}, {amount(free)} are free: make room, "
            "or choose another folder"
        )


def _field(name: str) -> int:
    """A size from ``/proc/self/status``, or what comes nearest elsewhere."""
    if _STATUS.is_file():
        for line in _STATUS.read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    import psutil

    return int(psutil.Process().memory_info().rss)


def give_back() -> None:
    """Return freed memory to the system, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if _STATUS.is_file() else None
    if trim is not None:
        trim(0)


def _note(peak: int) -> None:
    for memory in _active:
        memory.peak_bytes = max(memory.peak_bytes, peak)


def _reset_peak() -> bool:
    """Reset the high-water mark, after whoever is measuring has noted it. False where that is not allowed."""
    if not _RESET.exists() or not _STATUS.is_file():
        return False
    _note(_field("VmHWM"))
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return _field("VmHWM") <= 1.05 * _field("VmRSS") + 2**20


def _sample(memory: PeakMemory, stop: threading.Event) -> None:
    while not stop.wait(INTERVAL_SECONDS):
        memory.peak_bytes = max(memory.peak_bytes, _field("VmRSS"))


def _container_room() -> list[int]:
    """What the control groups of this process still allow; a limit of any parent counts too."""
    groups = Path("/proc/self/cgroup")
    if not groups.is_file():
        return []
    room: list[int | None] = []
    for line in groups.read_text().splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            root, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current")
        elif "memory" in kinds.split(","):
            root, names = (
                Path("/sys/fs/cgroup/memory"),
                ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            )
        else:
            continue
        own = root / path.lstrip("/")
        room += [_room(folder, *names) for folder in (own, *own.parents) if folder.is_relative_to(root)]
    return [r for r in room if r is not None]


def _room(folder: Path, limit: str, usage: str) -> int | None:
    try:
        most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        stats = dict(x.split() for x in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    cache = int(stats.get("total_inactive_file", stats.get("inactive_file", 0)))  # given back when needed
    return max(0, int(most) - used + cache) if most.isdigit() and int(most) < 2**60 else None
