"""Records of measurements, the tables printed from them, and the file that they are written to."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from measure import Interval
from shapes import Goal
from workbench_kernels._cpu import features
from workbench_kernels._pool import cores

PACKAGES = ("numpy", "numba", "llvmlite", "torch", "scipy", "sparse_dot_mkl", "mkl", "sparse-workbench")
MET, MISSED, UNCLEAR, NOISY = "met", "not met", "unclear", "too noisy"


@dataclass(frozen=True, slots=True)
class Record:
    """One measurement: a kernel and a peer on the same work.

    Attributes
    ----------
    case, kernel, shape, state : str
    tokens, threads, repeats : int
    sparsity : float
        Of the weights as they were.
    peer, variant : str
    ratio, ratio_low, ratio_high : float
        How many times longer the peer takes, with its 95 % interval.
    noisy : bool
        Whether the interval is too wide to be read.
    goal : float or None
        The ratio wanted of this kernel against this peer.
    verdict : str or None
        ``"met"``, ``"not met"``, ``"unclear"`` (the goal lies inside of the interval) or ``"too noisy"``.
    kernel_us, peer_us, kernel_wall_us, peer_wall_us : float
        Medians per call, by `clock` and by the wall.
    clock : str
    gflops, gbps : float
        Of the kernel: on what it stores, and on the bytes that it must move.
    roofline_percent : float
        The least time that this machine allows, as a share of the time taken.
    load : float
        Processes that wanted a core during the minute before.
    machine, versions : dict
    """

    case: str
    kernel: str
    shape: str
    tokens: int
    sparsity: float
    state: str
    peer: str
    variant: str
    ratio: float
    ratio_low: float
    ratio_high: float
    noisy: bool
    goal: float | None
    verdict: str | None
    kernel_us: float
    peer_us: float
    kernel_wall_us: float
    peer_wall_us: float
    clock: str
    gflops: float
    gbps: float
    roofline_percent: float
    threads: int
    repeats: int
    load: float | None
    machine: dict[str, Any]
    versions: dict[str, str]


def judge(ratio: Interval, goal: float | None) -> str | None:
    """Whether a goal is met; where the interval straddles it, or is too wide to be trusted at all, nobody knows."""
    if goal is None:
        return None
    if ratio.noisy:
        return NOISY
    if ratio.low >= goal:
        return MET
    if ratio.high < goal:
        return MISSED
    return UNCLEAR


def machine(roofs: Iterable[Any]) -> dict[str, Any]:
    """The processor, its cores and its measured rooflines."""
    return {
        "processor": _processor(),
        "target": features().name,
        "cores": cores(),
        "system": platform.system(),
        "rooflines": [asdict(roof) for roof in roofs],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def versions() -> dict[str, str]:
    """Versions of what is installed of the packages that matter."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def load() -> float | None:
    """The load average of the last minute, or None where the system has none."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


HEAD = ("case", "shape", "state", "peer", "ratio", "95 % interval", "goal", "us", "peer us", "GFLOP/s", "GB/s", "roof")
RIGHT = {4, 7, 8, 9, 10, 11}


def table(records: Sequence[Record]) -> str:
    """All measurements as text, one line each."""
    return _aligned([HEAD, *(_cells(r) for r in records)], RIGHT)


def _cells(r: Record) -> tuple[str, ...]:
    interval = f"{r.ratio_low:.2f} - {r.ratio_high:.2f}" + (" too noisy" if r.noisy else "")
    goal = "" if r.goal is None else f"{r.goal:g}: {r.verdict}"
    peer = f"{r.peer} ({r.variant})" if r.variant else r.peer
    return (
        r.case, r.shape, r.state, peer, f"{r.ratio:.2f}", interval, goal, f"{r.kernel_us:.1f}", f"{r.peer_us:.1f}",
        f"{r.gflops:.0f}", f"{r.gbps:.1f}", f"{r.roofline_percent:.0f}%",
    )  # fmt: skip


def goals(records: Sequence[Record], wanted: Iterable[tuple[str, Goal]]) -> str:
    """Each goal with its worst measurement, over shapes, states and the peers that it names."""
    rows: list[tuple[str, ...]] = [("case", "goal", "worst", "95 % interval", "where", "met at", "verdict")]
    for case, goal in wanted:
        those = [r for r in records if r.case == case and r.peer in goal.against]
        if not those:
            rows.append((case, str(goal), "", "", "", "", "not measured"))
            continue
        worst = min(those, key=lambda r: r.ratio)
        met = sum(r.verdict == MET for r in those)
        where = f"{worst.shape} {worst.state}" + (f", {worst.peer}" if len(goal.against) > 1 else "")
        interval = f"{worst.ratio_low:.2f} - {worst.ratio_high:.2f}"
        rows.append((case, str(goal), f"{worst.ratio:.2f}", interval, where, f"{met} of {len(those)}", _overall(those)))
    return _aligned(rows, {2})


def _overall(records: Sequence[Record]) -> str:
    verdicts = {r.verdict for r in records}
    for verdict in (MISSED, NOISY, UNCLEAR):
        if verdict in verdicts:
            return verdict
    return MET


def _aligned(rows: Sequence[Sequence[str]], right: set[int]) -> str:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [c.rjust(w) if n in right else c.ljust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def write(path: Path, records: Sequence[Record]) -> None:
    """Write a JSON array with one record a line; the file is there whole or not at all.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    text = "[\n" + ",\n".join(json.dumps(asdict(r)) for r in records) + "\n]\n"
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
