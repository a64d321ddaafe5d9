"""The checks, in the order of the report. Each looks at one thing, changes nothing, and never raises."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from workbench import bootstrap, weights
from workbench._fetch import bytes_below
from workbench._format import amount
from workbench.doctor.finding import Finding, note, ok, problem
from workbench.doctor.frontend import front_end
from workbench.doctor.packages import packages

HUB = "https://huggingface.co/"
NETWORK_SECONDS = 2.5
ENOUGH = 3_000_000_000  # bytes of memory: the default model in float32, a pruned one beside it, and a notebook
LITTLE = 1_000_000_000
ROOM = 2_000_000_000  # bytes of disk: the default model while it is converted, statistics, kernels


def python() -> Finding:
    """The interpreter."""
    found = f"{platform.python_version()} in {sys.prefix}"
    if bootstrap.is_supported(sys.version_info[:2]):
        return ok("Python", found)
    low, high = (".".join(map(str, version)) for version in (bootstrap.OLDEST, bootstrap.NEWEST))
    return problem("Python", found, f"the workbench needs {low} to {high}: make lab PYTHON=python{high}")


def imports() -> Finding:
    """Whether the large packages load at all; a broken binary shows here."""
    broken = []
    for name in ("torch", "transformers", "numba", "workbench_kernels", "workbench_widgets"):
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - a broken package raises anything
            broken.append(f"{name}: {type(error).__name__}: {error}")
    if broken:
        return problem("imports", "; ".join(broken), "install again: make clean, then make lab")
    return ok("imports", "torch, transformers, numba, kernels, widgets")


def cores() -> Finding:
    """What computes."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS") if name in os.environ]
    return ok("cores", f"{count} ({platform.machine()}){', ' if limits else ''}{', '.join(limits)}")


def memory() -> Finding:
    """What is available, in a container too."""
    from workbench.measure.memory import available_memory

    free = available_memory()
    if free < LITTLE:
        return problem("memory", f"{amount(free)} available", "close other programs, or shut down other kernels in Lab")
    if free < ENOUGH:
        return note("memory", f"{amount(free)} available", 'load models with workbench.load(dtype="fit")')
    return ok("memory", f"{amount(free)} available")


def processor() -> Finding:
    """The instructions that kernels use."""
    from workbench_kernels import features

    has = features()
    used = [n for n in ("wide", "expand", "dot_bf16", "dot_int8") if getattr(has, n)]
    if used:
        return ok("processor", f"{has.name}: {', '.join(used)}")
    return note("processor", f"{has.name}: portable code", "kernels are correct here, and slower than with AVX-512")


def model() -> Finding:
    """The default model."""
    folder = weights.default_target()
    if weights.is_complete(folder):
        return ok("model", f"{weights.DEFAULT_NAME} in {folder}")
    return problem("model", f"{weights.DEFAULT_NAME} is not in {folder}", "workbench models --fetch")


def disk() -> Finding:
    """Room in the cache's file system."""
    folder = weights.cache_dir()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return problem("cache", f"{folder} cannot be written", "set WORKBENCH_CACHE to a folder of yours")
    if free < ROOM:
        return problem("cache", f"{amount(free)} free in {folder}", "make room, or set WORKBENCH_CACHE elsewhere")
    return ok("cache", f"{weights.cache_dir()}, {amount(free)} free")


def kernels() -> Finding:
    """The cache of compiled kernels."""
    from workbench_kernels._jit import folder as cache_folder

    folder = cache_folder()
    if folder is None:
        advice = "set WORKBENCH_CACHE to a folder of yours; until then kernels are compiled in each process"
        return problem("kernels", "compiled kernels cannot be kept", advice)
    count = sum(1 for entry in folder.rglob("*") if entry.is_file())
    others = [path for path in folder.parent.glob("workbench-*") if path != folder]
    old = sum(bytes_below(path) for path in others)
    told = f"{count} compiled, {amount(bytes_below(folder))} in {folder}"
    if old > 500_000_000:
        return note("kernels", f"{told}; {amount(old)} of other versions", f"remove what is old in {folder.parent}")
    if not count:
        return note("kernels", f"none compiled yet in {folder}", "the first use of each takes seconds")
    return ok("kernels", told)


def notebooks() -> Finding:
    """Lessons and labs."""
    from workbench.errors import WorkbenchError
    from workbench.lab import shipped
    from workbench.lessons.catalogue import catalogue

    try:
        found = catalogue(shipped())
    except WorkbenchError as error:
        return problem("lessons", str(error), "install sparse-workbench again")
    labs = sum(lesson.kind == "lab" for lesson in found)
    return ok("lessons", f"{len(found) - labs} lessons, {labs} labs; copies go to {Path.home() / 'sparse-workbench'}")


def browser() -> Finding:
    """What the project's own browser tests drive; nobody else needs it."""
    found = bootstrap.find_browser()
    if found is None:
        return note("browser for tests", "none", "only make test wants one: install Chromium, or set CHROMIUM")
    if shutil.which(found) is None:
        return note("browser for tests", f"CHROMIUM={found} is no program", "set CHROMIUM to a Chromium, or unset it")
    return ok("browser for tests", found)


def network() -> Finding:
    """Whether models of the hub can be fetched; everything else works without."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return note("network", "not asked: HF_HUB_OFFLINE is set", "unset it to load models from the hub")
    if bootstrap.is_reachable(HUB, NETWORK_SECONDS):
        return ok("network", f"{HUB} answers")
    return note("network", f"{HUB} does not answer", "only models of the hub need it; folders and GGUF files do not")


CHECKS: tuple[Callable[[], Finding], ...] = (
    python, packages, imports, cores, memory, processor, model, disk, kernels, front_end, notebooks, browser, network,
)  # fmt: skip


def examine(checks: tuple[Callable[[], Finding], ...] = CHECKS) -> tuple[Finding, ...]:
    """Run the checks; one that fails itself is a problem of its own."""
    found = []
    for check in checks:
        try:
            found.append(check())
        except Exception as error:  # noqa: BLE001 - the report must come to its end
            advice = "this is the check's own failure: please report it"
            found.append(problem(check.__name__, f"{type(error).__name__}: {error}", advice))
    return tuple(found)
