"""For work on files that must end whole or not at all: locks, checks, processes that can be stopped."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from workbench.errors import ResourceError

if TYPE_CHECKING:
    from workbench.jobs import Progress

CHUNK = 1 << 20


def run_stoppable(
    command: list[str], scratch: Path, what: str, total: int, progress: Progress | None
) -> tuple[int, str]:
    """Run ``command`` with its temporary files in ``scratch``; stop it when ``progress`` is cancelled.

    Reports the bytes written below ``scratch`` of the ``total`` expected, ten times a second.

    Returns
    -------
    tuple of int and str
        The exit status, and what the command printed.
    """
    log = scratch / f"{what}.log"
    environment = dict(os.environ, TMPDIR=str(scratch), TOKENIZERS_PARALLELISM="false")
    with log.open("w", encoding="utf-8", errors="replace") as sink:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment)
        start = bytes_below(scratch)
        try:
            while process.poll() is None:
                if progress is not None:
                    progress.step(what, max(0, min(bytes_below(scratch) - start, total)), total)
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    return process.returncode, log.read_text(encoding="utf-8", errors="replace")


def bytes_below(folder: Path) -> int:
    """Bytes of all files below ``folder``, some of which may vanish meanwhile."""
    size = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                size += Path(where, name).stat().st_size
    return size


@contextmanager
def locked(path: Path, progress: Progress | None) -> Iterator[None]:
    """Hold the lock ``path``, waiting if need be; the system releases it even when the process is killed."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=0.5)
            break
        except Timeout:  # another process is at it
            if progress is not None:
                progress.check()
    try:
        yield
    finally:
        lock.release()


def sha256_of(path: Path, progress: Progress | None = None) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
            if progress is not None:
                progress.check()
    return digest.hexdigest()


def to_disk(handle: IO[bytes]) -> None:
    """Wait until what was written to ``handle`` has reached the disk."""
    handle.flush()
    os.fsync(handle.fileno())


def make_folder(path: Path) -> None:
    """Make ``path`` and its parents; a clear `ResourceError` where that is not allowed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(
            f"cannot make the folder {path} ({error}): set WORKBENCH_CACHE to a writable one"
        ) from error


def check_space(folder: Path, needed: int) -> None:
    """Raise `ResourceError` unless ``folder`` has ``needed`` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ResourceError(
            f"{folder} has {free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB are needed: free some space, "
            "or set WORKBENCH_CACHE to a folder on a larger disk"
        )
