"""``workbench bench``: a whole compiled model beside transformers and llama.cpp, with a check of its logits."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands._shared import (
    Subparsers,
    add,
    add_threads,
    check_json,
    count,
    load_model,
    progress_line,
    sparsity,
    table,
    use_threads,
    write_json,
)
from workbench.errors import ArgumentError

if TYPE_CHECKING:
    from workbench.jobs import Progress
    from workbench.models import LM

EPILOG = """\
examples:
  workbench bench --model default --format dense                   float32, nothing pruned
  workbench bench --format dense-bf16
  workbench bench --sparsity 0.8 --format 16x1                     pruned to blocks of 16 rows
  workbench bench --sparsity 0.5 --format bitmap-int8 --threads 1
  workbench bench --model my-pruned-model --format auto

A format is a layout (dense, bitmap, 2:4, 16x1, bsr16, bsr32, auto), then the values (fp32, bf16, int8) after a dash.
With --sparsity the model is pruned by magnitude to the layout's pattern first. Ratios are to transformers in float32,
on the dense model, in the same process; llama.cpp takes part where llama-cpp-python is installed (default model only).
"""
PATTERNS = {"16x1": "16x1", "bsr16": "16x16", "bsr32": "32x32", "2:4": "2:4"}


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "bench", "time a compiled model beside transformers and llama.cpp", EPILOG)
    parser.add_argument("--model", metavar="DIR_or_ID", help="the model (default: the default model)")
    parser.add_argument("--format", metavar="FORMAT", default="dense", help="e.g. dense, 16x1, bitmap-int8")
    parser.add_argument("--sparsity", type=sparsity, metavar="S", default=0.0, help="prune this share first")
    parser.add_argument("--head", metavar="VALUES", help="values of the output head (default: see workbench.compile)")
    parser.add_argument("--prompt", type=count, metavar="N", default=256, help="tokens of the prompt (default: 256)")
    parser.add_argument("--rounds", type=count, metavar="N", default=7, help="interleaved rounds (default: 7)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write figures and settings here")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Time as asked and print the figures."""
    check_json(given.json)
    kind, values = split_format(given.format)
    use_threads(given.threads)
    from workbench.execute.whole import time_model

    with progress_line() as progress:
        lm = load_model(given.model, progress)
        model = pruned(lm, kind, given.sparsity, progress)
        settings = {"head": given.head, "prompt_tokens": given.prompt, "rounds": given.rounds}
        times = time_model(model, kind, values, dense=lm, threads=given.threads, progress=progress, **settings)
    write_json(given.json, {"command": "bench", "sparsity": given.sparsity, **times.to_dict()})
    print(report(times))
    return 0 if times.check.passed else 1


def split_format(text: str) -> tuple[str, str]:
    """``"bitmap-int8"`` is ``("bitmap", "int8")``; fp32 goes without saying."""
    from workbench.execute.compiled import FORMATS, VALUES

    kind, _, values = text.partition("-")
    values = values or "fp32"
    if kind not in FORMATS or values not in VALUES:
        known = f"a layout of {', '.join(FORMATS)}, then perhaps -{' or -'.join(VALUES)}"
        raise ArgumentError(f"--format {text}: {known}, e.g. bitmap-int8")
    return kind, values


def pruned(lm: LM, kind: str, share: float, progress: Progress) -> Any:
    """The model, pruned by magnitude in the layout's pattern if a share is asked for."""
    import workbench

    pattern = PATTERNS.get(kind)
    if kind == "2:4" and share not in (0.0, 0.5):
        raise ArgumentError(f"--sparsity {share}: 2:4 fixes it at 0.5")
    if not share and kind != "2:4":
        return lm
    wanted = None if kind == "2:4" else share
    return workbench.prune(lm, "magnitude", wanted, pattern=pattern, progress=progress)


def report(times: Any) -> str:
    """What is printed."""
    check, protocol = times.facts()
    verdict = "logits agree" if times.check.passed else "LOGITS DIFFER"
    found, facts = ("; ".join(f"{name} {value}" for name, value in rows) for rows in (check, protocol))
    return f"{times.compiled}\n{table(times.table())}\n{verdict}: {found}\n{facts}"
