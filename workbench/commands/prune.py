"""``workbench prune``: load, calibrate, prune, and write a checkpoint, which is read back and compared."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands._shared import (
    Meter,
    Subparsers,
    add,
    add_threads,
    check_json,
    count,
    load_model,
    metered,
    progress_line,
    sparsity,
    use_threads,
    write_json,
)
from workbench.errors import ArgumentError

if TYPE_CHECKING:
    from workbench.checkpoint import Saved
    from workbench.data import Tokens
    from workbench.jobs import Progress
    from workbench.models import LM
    from workbench.prune import MethodInfo, Pruned

EPILOG = """\
examples:
  workbench prune --method wanda --sparsity 0.5 --out half
  workbench prune --method sparsegpt --pattern 2:4 --out two-of-four
  workbench prune --method flap --sparsity 0.3 --out smaller --json smaller.json
  workbench prune --method wanda --sparsity 0.6 --allocation owl --calibration my.txt --samples 128 --out owl
  workbench prune --model org/name --method shortgpt --sparsity 0.2 --out shallower

Weights that are set to zero (wanda, sparsegpt, ...) leave the file as large as it was; methods that remove
neurons, head groups or layers (flap, shortgpt, ...) make it smaller. The summary counts the two apart.
`workbench methods` lists the methods; without --calibration, text that ships with Python is used.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "prune", "prune a model and write the result", EPILOG)
    what = parser.add_argument_group("what to prune")
    what.add_argument("--model", metavar="ID", help="Hugging Face id, folder or GGUF file (default: the default model)")
    what.add_argument("--method", metavar="M", default="wanda", help="`workbench methods` lists them (default: wanda)")
    what.add_argument("--sparsity", metavar="S", type=sparsity, help="share to remove (default: 0.5, or the pattern's)")
    what.add_argument("--of", choices=("non-embedding", "all"), default="non-embedding", help="... of which parameters")
    what.add_argument("--pattern", metavar="P", help="2:4, 4:8, or blocks such as 16x1 (default: unstructured)")
    what.add_argument("--units", metavar="U", help="comma-separated kinds of units, e.g. neuron,kv_group")
    what.add_argument("--allocation", metavar="A", help="how the budget is spread: uniform, global, owl, standardised")
    what.add_argument("--repair", metavar="R", help="what mends the rest: none, bias, least-squares, ...")
    what.add_argument("--apply", choices=("remove", "zero"), default="remove", help="shrink, or only mask (zero)")
    text = parser.add_argument_group("calibration text")
    text.add_argument("--calibration", metavar="FILE", help="a text file, or datasets:org/name (default: built in)")
    text.add_argument("--samples", metavar="N", type=count, default=16, help="windows of text (default: 16)")
    text.add_argument("--seqlen", metavar="N", type=count, default=512, help="tokens in each (default: 512)")
    text.add_argument(
        "--seed", metavar="N", type=int, default=0, help="same seed, same windows, same bytes (default: 0)"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the pruned model")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write figures and settings here")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Prune as asked and print what came of it."""
    check_json(given.json)
    check_out(given.out)
    use_threads(given.threads)
    from workbench.measure.memory import peak_memory

    with metered() as meter, peak_memory() as memory, progress_line() as progress:
        pruned, saved = work(given, progress)
    write_json(given.json, figures(given, pruned, saved, meter, memory.peak_bytes))
    print(summary(pruned, saved))
    return 0


def work(given: argparse.Namespace, progress: Progress) -> tuple[Pruned, Saved]:
    """The work itself; nothing but ``--out`` is written, and that whole or not at all."""
    import workbench
    from workbench import checkpoint
    from workbench.errors import unknown

    known = {info.name: info for info in workbench.methods()}
    if given.method not in known:  # before the model is loaded
        raise unknown("method", given.method, known)
    lm = load_model(given.model, progress)
    asked: dict[str, Any] = {"pattern": given.pattern, "allocation": given.allocation, "repair": given.repair}
    if given.sparsity is not None or given.pattern is None:
        asked["sparsity"] = 0.5 if given.sparsity is None else given.sparsity
    if given.units:
        asked["units"] = tuple(unit.strip() for unit in given.units.split(","))
    pruned = workbench.prune(
        lm,
        given.method,
        **asked,
        calibration=tokens(given, lm, reads_text(known[given.method])),
        of=given.of,
        apply=given.apply,
        seed=given.seed,
        inplace=True,
        progress=progress,
    )
    return pruned, checkpoint.save(pruned, given.out, progress=progress)


def reads_text(info: MethodInfo) -> bool:
    """Whether a method looks at text: for statistics of the inputs, or to see what a layer is worth."""
    return bool(info.needs) or info.family == "layers"


def tokens(given: argparse.Namespace, lm: LM, needed: bool) -> Tokens | None:
    """The calibration windows; None where nobody asks for them, so that no text is read in vain."""
    from workbench import data

    if not (needed or given.calibration or given.allocation or given.repair):
        return None
    return data.calibration(lm, given.calibration, samples=given.samples, seqlen=given.seqlen, seed=given.seed)


def check_out(folder: Path) -> None:
    """Refuse before the work starts a place that the result could not go to."""
    target = folder.expanduser()
    if target.is_file():
        raise ArgumentError(f"--out {folder} is a file: give a folder")
    if target.is_dir() and any(target.iterdir()):
        raise ArgumentError(f"--out {folder} is not empty: give a new folder, or empty this one first")


def figures(given: argparse.Namespace, pruned: Pruned, saved: Saved, meter: Meter, peak_bytes: int) -> dict[str, Any]:
    """What ``--json`` holds. ``wall_seconds`` is the whole command, ``prune_seconds`` pruning alone."""
    from workbench.results import Provenance

    report = pruned.report
    provenance = Provenance.here(seed=given.seed, method=given.method).to_dict()
    return {
        "command": "prune",
        "method": given.method,
        "sparsity_asked": pruned.recipe.sparsity,
        "sparsity_true": report.true_sparsity,
        "of": report.of,
        "parameters_before": report.parameters_before,
        "parameters_after": report.parameters_after,
        "parameters_removed": report.removed,
        "parameters_zeroed": report.zeroed,
        "wall_seconds": meter.wall_seconds,
        "cpu_seconds": meter.cpu_seconds,
        "prune_seconds": pruned.seconds,
        "prune_cpu_seconds": pruned.cpu_seconds,
        "peak_memory_bytes": peak_bytes,
        "prune_peak_memory_bytes": pruned.peak_bytes,
        "out": str(given.out),
        "kind": saved.kind,
        "bytes": saved.bytes,
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(given).items() if not callable(v)},
        "recipe": pruned.to_dict()["recipe"],
        "versions": provenance["versions"],
        "provenance": provenance,
    }


def summary(pruned: Pruned, saved: Saved) -> str:
    """What is printed at the end."""
    from workbench._format import amount

    report = pruned.report
    reader = "transformers or workbench.load" if saved.kind == "transformers" else "workbench.load"
    share = f"{report.true_sparsity:.2%} of {report.base:,} {report.of} parameters"
    sizes = f"{report.parameters_before:,} -> {report.parameters_after:,} parameters"
    rows = (
        ("pruned", f"{share} ({pruned.recipe.method}, asked {pruned.recipe.sparsity:.2%})"),
        ("zeroed", f"{report.zeroed:,} (no gain by itself)"),
        ("removed", f"{report.removed:,} ({sizes})"),
        ("time", f"{pruned.seconds:.1f} s of pruning, {pruned.cpu_seconds:.1f} s of CPU"),
        ("memory", f"{amount(pruned.peak_bytes)} at the peak"),
        ("written", f"{saved.folder}, {amount(saved.bytes)}; read it with {reader}"),
        ("next", f"workbench eval {saved.folder}"),
    )
    return "\n".join(f"{name:<9} {value}" for name, value in rows)
