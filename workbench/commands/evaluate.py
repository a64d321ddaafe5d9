"""``workbench eval``: the perplexity of a model beside the dense one's, by the pinned protocol."""

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
    metered,
    progress_line,
    table,
    use_threads,
    write_json,
)

if TYPE_CHECKING:
    from workbench.data import Tokens
    from workbench.jobs import Progress
    from workbench.measure import Quality
    from workbench.models import LM
    from workbench.prune import Recipe

EPILOG = """\
examples:
  workbench eval half                                on built-in text, beside the model it was pruned from
  workbench eval half --text my.txt --windows 40     on a text of yours, 40 windows spread over it
  workbench eval org/name --against none             one model alone
  workbench eval half --against other --json q.json

Both models see the same windows of --seqlen tokens, without overlap and with nothing put before them. Figures
compare only under the same protocol, which is printed with them. A pruned model is not measured on the text
that it was calibrated on.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "eval", "measure a model's perplexity beside the dense one's", EPILOG)
    parser.add_argument("model", nargs="?", metavar="DIR_or_ID", help="the model (default: the default model)")
    parser.add_argument("--text", metavar="FILE", help="a text file, or datasets:org/name (default: built in)")
    parser.add_argument("--seqlen", metavar="N", type=count, default=512, help="tokens per window (default: 512)")
    parser.add_argument("--windows", metavar="N", type=count, help="at most this many windows (default: all)")
    parser.add_argument(
        "--against", metavar="MODEL", help="the dense model, or none (default: what DIR was pruned from)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write figures and settings here")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Measure as asked and print the figures."""
    check_json(given.json)
    use_threads(given.threads)
    recipe = recipe_of(given.model)
    from workbench.measure.memory import peak_memory

    with metered() as meter, peak_memory() as memory, progress_line() as progress:
        rows, windows = measure_both(given, recipe, progress)
    content = figures(given, rows, windows, recipe)
    content |= {
        "wall_seconds": meter.wall_seconds,
        "cpu_seconds": meter.cpu_seconds,
        "peak_memory_bytes": memory.peak_bytes,
    }
    write_json(given.json, content)
    print(report(rows))
    return 0


Row = dict[str, Any]


def measure_both(given: argparse.Namespace, recipe: Recipe | None, progress: Progress) -> tuple[list[Row], Tokens]:
    """One row for the model and one for the dense model, if there is one; one model in memory at a time."""
    from workbench import data

    lm = load_model(given.model, progress)
    windows = data.evaluation(lm, given.text, seqlen=given.seqlen, windows=given.windows)
    if recipe is not None and recipe.calibration:
        data.check_disjoint(recipe.calibration, windows)
    rows = [measure_one(lm, given.model or "default", windows, progress)]
    against = given.against if given.against is not None else recipe.source if recipe is not None else "none"
    if against not in {"none", ""}:
        del lm
        rows.append(measure_one(load_model(against, progress), against, windows, progress))
    return rows, windows


def measure_one(lm: LM, name: str, windows: Tokens, progress: Progress) -> Row:
    """Perplexity and parameters of one model."""
    import workbench
    from workbench import measure

    quality = workbench.perplexity(lm, windows, progress=progress)
    size = measure.size(lm)
    return {
        "name": name,
        "quality": quality,
        "parameters": size.parameters,
        "nonzero": size.nonzero_parameters,
        "embedding": size.embedding_parameters,
    }


def recipe_of(model: str | None) -> Recipe | None:
    """The recipe that lies beside a pruned model."""
    from workbench.prune import Recipe

    path = Path(model or "").expanduser() / "recipe.json"
    if not model or not path.is_file():
        return None
    return Recipe.from_json(path.read_text(encoding="utf-8"))


def figures(given: argparse.Namespace, rows: list[Row], windows: Tokens, recipe: Recipe | None) -> dict[str, Any]:
    """What ``--json`` holds, but for the cost of the command."""
    from workbench.results import Provenance, json_ready

    own, dense = rows[0], rows[1] if len(rows) > 1 else None
    provenance = Provenance.here().to_dict()
    content: dict[str, Any] = {
        "command": "eval",
        "model": own["name"],
        **quality_figures(own["quality"]),
        "parameters": own["parameters"],
        "parameters_zero": own["parameters"] - own["nonzero"],
        "protocol": json_ready(dict(own["quality"].protocol)),
        "text": windows.provenance,
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(given).items() if not callable(v)},
        "versions": provenance["versions"],
        "provenance": provenance,
    }
    if recipe is not None:
        content |= {"method": recipe.method, "sparsity_asked": recipe.sparsity}
    if dense is not None:
        content |= beside(own, dense, "non-embedding" if recipe is None else recipe.of)
    return content


def beside(own: Row, dense: Row, of: str) -> dict[str, Any]:
    """What only the two models together tell: the sparsity that the file really has, and the loss."""
    removed = dense["parameters"] - own["parameters"]
    zeroed = dense["nonzero"] - own["nonzero"] - removed
    base = dense["parameters"] - (0 if of == "all" else dense["embedding"])
    return {
        "dense": {
            "model": dense["name"],
            "parameters": dense["parameters"],
            **quality_figures(dense["quality"]),
        },
        "of": of,
        "sparsity_true": (removed + zeroed) / base,
        "parameters_before": dense["parameters"],
        "parameters_after": own["parameters"],
        "parameters_removed": removed,
        "parameters_zeroed": zeroed,
        "perplexity_ratio": own["quality"].perplexity / dense["quality"].perplexity,
    }


def quality_figures(quality: Quality) -> dict[str, Any]:
    """Perplexity and its interval; NaN, which JSON lacks, becomes null."""
    from workbench.results import json_ready

    names = ("perplexity", "low", "high", "windows", "tokens", "seconds")
    return {name: json_ready(getattr(quality, name)) for name in names}


def report(rows: list[Row]) -> str:
    """What is printed: one line per model, then the protocol."""
    lines = [("model", "perplexity", "95 % interval", "parameters", "of them zero", "ratio")]
    for row in rows:
        quality: Quality = row["quality"]
        ratio = quality.perplexity / rows[-1]["quality"].perplexity
        interval = f"{quality.low:.3f} to {quality.high:.3f}"
        share = 1 - row["nonzero"] / row["parameters"]
        own = f"{row['parameters']:,}", f"{share:.2%}", f"{ratio:.3f}" if len(rows) > 1 else "-"
        lines.append((row["name"], f"{quality.perplexity:.3f}", interval, *own))
    protocol = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in rows[0]["quality"].protocol.items())
    return f"{table(lines)}\nprotocol: {protocol}"
