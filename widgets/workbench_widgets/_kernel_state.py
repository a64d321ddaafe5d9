"""Kernel timings as what the front end gets: plain dictionaries; and the steps of timing in words."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from workbench.errors import WorkbenchError
from workbench.execute import instructions, patterns
from workbench.execute.forms import FORMS, candidates
from workbench.jobs import Progress, Step
from workbench.results import json_ready
from workbench.session import Stage
from workbench_widgets._kernel_choice import CORNER, PATTERNS, PRESETS, KernelChoice, layers_of, mask_of, model_named

VALUES = ("fp32", "bf16", "int8")
TOKENS = (1, 4, 16, 64, 128, 512)
PARTS = {  # of `time_kernels`: what is done, and what it counts
    "measure the machine": ("Measure the machine", "figure"),
    "convert": ("Build formats, compile and check kernels (longer the first time)", "format"),
    "time kernels": ("Time kernels", "round"),
    "break-even": ("Find break-even sparsities", "sparsity"),
}
ROW = (
    "name", "format", "values", "tokens", "ms", "ratio", "low", "high", "own_ratio", "gflops", "gbytes", "roofline",
    "intensity", "computes", "bytes_moved", "weight_bytes", "stored", "error",
)  # fmt: skip
ROOF = ("fp32", "bf16", "int8", "dram", "cache_l3", "cache_l2")
LINE = ("name", "format", "values", "tokens", "sparsity", "fixed", "slope", "densities", "times")


def options(models: Mapping[str, Any], choice: KernelChoice) -> dict[str, Any]:
    """What can be chosen."""
    return {
        "models": list(models),
        "layers": layers_of(model_named(choice.model, models)) if choice.model else [],
        "patterns": list(dict.fromkeys([*PATTERNS, choice.pattern])),
        "presets": [list(p) for p in PRESETS],
        "formats": [name for name in FORMS if name != "dense"],
        "values": list(VALUES),
        "tokens": sorted({*TOKENS, *choice.tokens}),
        "cores": os.cpu_count() or 1,
    }


def pattern(choice: KernelChoice, models: Mapping[str, Any], request: int) -> dict[str, Any]:
    """The pattern of the matrix to be timed, before it is.

    Returns
    -------
    dict
        ``frame``; ``whole`` and ``corner``, uint8 pictures of the shapes that it names.
    """
    mask = mask_of(choice, models) != 0
    whole, corner = patterns.picture(mask), np.uint8(255) * mask[:CORNER, :CORNER]
    header = {
        "request": request,
        "title": str(choice),
        "rows": mask.shape[0],
        "columns": mask.shape[1],
        "pattern": patterns.pattern_of(mask),
        "zeros": 1 - np.count_nonzero(mask) / mask.size,
        "suits": [f.name for f in candidates(mask)],
        "whole": list(whole.shape),
        "corner": list(corner.shape),
    }
    return {"frame": json_ready(header), "whole": whole.tobytes(), "corner": corner.tobytes()}


def finished_pattern(timings: Any) -> dict[str, Any]:
    """The pattern of a finished result, which holds the whole matrix only."""
    whole = np.ascontiguousarray(timings.picture, dtype=np.uint8)
    header = {
        "request": 0,
        "title": timings.title,
        "rows": timings.shape[0],
        "columns": timings.shape[1],
        "pattern": timings.pattern,
        "zeros": timings.sparsity,
        "suits": [],
        "whole": list(whole.shape),
        "corner": [0, 0],
    }
    return {"frame": json_ready(header), "whole": whole.tobytes(), "corner": b""}


def figures(timings: Any, *, complete: bool) -> dict[str, Any]:
    """Everything measured, for the charts and the table.

    Parameters
    ----------
    timings : KernelTimings
    complete
        Whether all repeats were done.
    """
    made = {name: getattr(timings, name) for name in ("title", "pattern", "sparsity", "threads", "cold", "seconds")}
    rows = [{name: getattr(row, name) for name in ROW} for row in timings.rows]
    roof = timings.roofline
    made |= {
        "rows": rows,
        "tokens": list(dict.fromkeys(row["tokens"] for row in rows)),
        "skipped": [list(pair) for pair in timings.skipped.items()],
        "roof": {} if roof is None else {name: getattr(roof, name) for name in ROOF},
        "break_even": _balance(timings.break_even),
        "protocol": _protocol(timings, complete),
        "provenance": str(timings.provenance),
        "complete": complete,
    }
    return json_ready(made)


def listing(wanted: tuple[str, str, int]) -> dict[str, Any]:
    """Vector instructions in the inner loop of a kernel, or why there are none to show.

    Parameters
    ----------
    wanted
        Format, values, tokens.
    """
    form, values, tokens = wanted
    made: dict[str, Any] = {"format": form, "values": values, "tokens": tokens, "counts": [], "note": ""}
    if form not in FORMS:
        return made | {"note": "torch's own kernel: its instructions are not known here"}
    try:
        counts = instructions(form, values, tokens)
    except WorkbenchError as error:
        return made | {"note": str(error)}
    return made | {"counts": [[name, count] for name, count in counts.items()]}


def in_parts(work: Callable[[Progress], Any], balanced: bool) -> Callable[[Progress], Any]:
    """``work`` whose steps come as stages of a whole, so that one bar shows all of it.

    Parameters
    ----------
    balanced
        Whether break-even sparsities are looked for too.
    """
    names = [name for name in PARTS if balanced or name != "break-even"]

    def run(progress: Progress) -> Any:
        hear, last = progress.listener, [""]

        def told(step: Step) -> None:
            if hear is None or step.what not in names:
                return
            title, unit = PARTS[step.what]
            if step.what != last[0]:
                last[0] = step.what
                hear(replace(step, partial=Stage(title, names.index(step.what), len(names))))
            hear(replace(step, what=unit))

        progress.listener = told
        return work(progress)

    return run


def _protocol(timings: Any, complete: bool) -> str:
    caches = "caches emptied before every call" if timings.cold else "weights warm"
    threads = "1 thread" if timings.threads == 1 else f"{timings.threads} threads"
    begun = f"up to {timings.repeats}" if not complete else str(timings.repeats)
    checked = "each kernel checked against its reference first"
    return (
        f"{begun} interleaved rounds, medians with 95 % intervals, {threads}, {timings.clock} time, {caches}; {checked}"
    )


def _balance(found: Any) -> dict[str, Any]:
    if found is None:
        return {}
    return {"peer": found.peer, "rows": [{name: getattr(row, name) for name in LINE} for row in found.rows]}
