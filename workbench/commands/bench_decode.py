"""``workbench bench-decode``: every way of drafting beside plain decoding, on the clock, with a check of its text."""

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
    table,
    use_threads,
    write_json,
)

if TYPE_CHECKING:
    from workbench.jobs import Progress

EPILOG = """\
examples:
  workbench bench-decode --quick                       one short answer of each kind, compiled runtime only
  workbench bench-decode --json decode.json            all prompts, three rounds
  workbench bench-decode --runtime both --threads 1
  workbench bench-decode --method prompt-lookup --method auto --format dense-bf16

Speed is relative to plain greedy decoding of the same runtime, answers one after the other in turn; the median over
prompts, its 95 % interval, and the least of all prompts. v(n) is the measured time of a pass over n tokens, relative
to one. The last column counts the answers that were plain decoding's, token by token.
"""
RUNTIMES = ("compiled", "transformers", "both")
QUICK = ("repeat-1", "echo-2", "summary-1", "edit-2", "story-2", "explanation-1", "tips-1", "arithmetic-1")


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "bench-decode", "time ways of decoding beside plain decoding", EPILOG)
    parser.add_argument("--model", metavar="DIR_or_ID", help="the model (default: the default model)")
    parser.add_argument("--runtime", choices=RUNTIMES, default="compiled", help="what decodes (default: compiled)")
    parser.add_argument("--format", metavar="FORMAT", default="dense", help="of the compiled runtime, e.g. dense-bf16")
    parser.add_argument("--method", metavar="NAME", action="append", help="only this one; may be given several times")
    parser.add_argument("--quick", action="store_true", help="one prompt of each kind, one round, short answers")
    parser.add_argument("--new-tokens", type=count, metavar="N", help="of an answer, at most (default: 96; quick: 48)")
    parser.add_argument("--rounds", type=count, metavar="N", help="of every answer (default: 3; quick: 1)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write figures and settings here")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Time as asked and print the figures; 1 if a text differs from plain decoding's."""
    check_json(given.json)
    use_threads(given.threads)
    from workbench.decode.bench import bench_decode
    from workbench.decode.prompts import prompts

    chosen = [p for p in prompts() if not given.quick or p.name in QUICK]
    new_tokens, rounds = given.new_tokens or (48 if given.quick else 96), given.rounds or (1 if given.quick else 3)
    with progress_line() as progress:
        models = runtimes(given, progress)
        settings: dict[str, Any] = {"methods": given.method, "new_tokens": new_tokens, "rounds": rounds}
        found = bench_decode(models, chosen, progress=progress, **settings)
    write_json(given.json, {"command": "bench-decode", **found.to_dict()})
    print(report(found))
    return 0 if found.identical else 1


def runtimes(given: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """The model, on every runtime that was asked for."""
    import workbench
    from workbench.commands.bench import split_format

    kind, values = split_format(given.format)
    lm = load_model(given.model, progress)
    found: dict[str, Any] = {}
    if given.runtime != "transformers":
        found["compiled"] = workbench.compile(lm, kind, values, threads=given.threads, progress=progress)
    if given.runtime != "compiled":
        found["transformers"] = lm
    return found


def report(found: Any) -> str:
    """What is printed."""
    alike = sum(s.identical for s in found.samples)
    verdict = f"{alike} of {len(found.samples)} answers identical to plain decoding"
    left = "".join(f"\nleft out: {name}: {why}" for name, why in found.left_out.items())
    facts = "; ".join(f"{name} {value}" for name, value in found.protocol.items())
    return f"{table(found.table())}\n\n{table(found.cost_table())}\n\n{verdict}{left}\n{facts}\n{found.provenance}"
