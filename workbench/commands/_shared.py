"""What the subcommands share: argument types, the progress line, the meter, and JSON files written whole."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from workbench._files import write_text
from workbench.errors import ArgumentError

if TYPE_CHECKING:
    from workbench.jobs import Progress, Step
    from workbench.models import LM

Subparsers = Any  # argparse keeps the type to itself
LINE_SECONDS = 10.0


def add(subparsers: Subparsers, name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    """A subcommand whose help shows examples as they are typed."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def sparsity(text: str) -> float:
    """A share in [0, 1)."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share of the parameters: give 0.5 for half of them")
    return value


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def add_threads(parser: argparse.ArgumentParser) -> None:
    """The option ``--threads``."""
    parser.add_argument("--threads", type=count, metavar="N", help="CPU threads (default: all cores)")


def use_threads(threads: int | None) -> None:
    """Limit torch to so many threads."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


class ProgressLine:
    """Shows steps on standard error: in a terminal one line written over, elsewhere a line every 10 s."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._terminal = self._stream.isatty()
        self._what, self._last, self._drawn = "", 0.0, False

    def __call__(self, step: Step) -> None:
        """Show one step."""
        now = time.monotonic()
        new, pause = step.what != self._what, 0.1 if self._terminal else LINE_SECONDS
        if not new and (step.done < step.total or not step.total) and now - self._last < pause:
            return
        if not (self._terminal or new) and now - self._last < pause:
            return  # the end of a stage needs no line of its own in a log
        self._what, self._last, self._drawn = step.what, now, True
        share = f"{step.fraction:4.0%}" if step.total else f"{step.done} so far"
        text = f"{step.what}: {share}, {step.seconds:.0f} s"
        self._stream.write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Clear the line, so that what follows starts on an empty one."""
        if self._terminal and self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


@contextmanager
def progress_line() -> Iterator[Progress]:
    """A `Progress` that is shown while the block runs."""
    from workbench.jobs import Progress

    line = ProgressLine()
    try:
        yield Progress(line)
    finally:
        line.close()


@dataclass(slots=True)
class Meter:
    """Time of a stretch of work, this process and its children: ``with metered() as meter``."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0


@contextmanager
def metered() -> Iterator[Meter]:
    """Measure wall and CPU time of the block."""
    meter, wall, cpu = Meter(), time.perf_counter(), sum(os.times()[:4])
    try:
        yield meter
    finally:
        meter.wall_seconds = time.perf_counter() - wall
        meter.cpu_seconds = sum(os.times()[:4]) - cpu


def load_model(source: str | None, progress: Progress) -> LM:
    """Load a model; the default one is fetched first where it is not cached, and shows its progress."""
    import workbench

    if source in (None, "", "default"):
        from workbench.weights import default_model_dir

        default_model_dir(progress)
        source = None
    return workbench.load(source)


def check_json(path: Path | None) -> None:
    """Refuse before the long work starts what could not be written after it."""
    if path is not None and not path.expanduser().absolute().parent.is_dir():
        raise ArgumentError(f"--json {path}: there is no folder {path.expanduser().absolute().parent}")


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Write ``content`` whole or not at all."""
    if path is None:
        return
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    write_text(path.expanduser().absolute(), text, "give --json another place")


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows in columns, the header first; columns of numbers are flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    right = [all(row[i][:1].isdigit() or row[i] in {"", "-"} for row in rows[1:]) for i in range(len(widths))]
    lines = [
        "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
