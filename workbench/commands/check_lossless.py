"""``workbench check-lossless``: hold ways of decoding to what they promise."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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
from workbench.commands.generate import RUNTIMES
from workbench.errors import ArgumentError, Cancelled, WorkbenchError

if TYPE_CHECKING:
    from workbench.decode.prompts import Prompt
    from workbench.jobs import Progress

EPILOG = """\
examples:
  workbench check-lossless prompt-lookup token-recycling
  workbench check-lossless --all --prompts 20 --tokens 128
  workbench check-lossless --all --runtime compiled --json lossless.json

Greedy answers must be those of plain decoding on the same runtime, token by token. The first difference of an answer
is a tie if rounding explains it (the gap of its logits is at most twice what passes of other shapes differ by), else
a bug. Methods that promise the distribution also draw texts on a tiny random model, whose exact probabilities they
must follow. Exit status 1 if a promise is broken. Lossy methods are compared only if they are named.
"""
HEADER = ("method", "promises", "answers", "as greedy", "tokens", "ties", "bugs", "texts drawn", "p value", "verdict")


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "check-lossless", "check that decoding keeps what it promises", EPILOG)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="ways of decoding (see workbench decoders)")
    parser.add_argument("--all", action="store_true", help="all that promise anything")
    parser.add_argument("--model", metavar="DIR_or_ID", help="the model (default: the default model)")
    parser.add_argument("--runtime", choices=RUNTIMES, default="transformers", help="what runs it")
    parser.add_argument(
        "--prompts", type=count, default=5, metavar="N", help="answers per method (default: 5, all: 20)"
    )
    parser.add_argument("--tokens", type=count, default=64, metavar="N", help="of an answer, at most (default: 64)")
    parser.add_argument("--samples", type=count, default=2000, metavar="N", help="texts to draw (default: 2000)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write what was found here")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Check as asked and print a table; 1 if a promise is broken."""
    if bool(given.methods) == given.all:
        raise ArgumentError("give METHOD names, or --all")
    check_json(given.json)
    use_threads(given.threads)
    from workbench.decode import decoders, registry
    from workbench.errors import unknown

    for name in given.methods:
        if name not in registry():
            raise unknown("decoding method", name, registry())
    names = given.methods or [d.name for d in decoders() if d.promises != "lossy"]
    found: dict[str, Any] = {}
    with progress_line() as progress:
        models = loaded(given, progress)
        for name in names:
            found[name] = checked(name, models, given, progress)
    write_json(given.json, {"command": "check-lossless", "methods": {k: as_json(v) for k, v in found.items()}})
    print(table([HEADER, *(row(name, one) for name, one in found.items())]))
    for line in details(found):
        print(line)
    return 0 if all(getattr(one, "held", False) for one in found.values()) else 1


def loaded(given: argparse.Namespace, progress: Progress) -> Sequence[Any]:
    """What decodes, and the handle that drafts are made of."""
    import workbench

    lm = load_model(given.model, progress)
    if given.runtime == "transformers":
        return lm, lm
    return workbench.compile(lm, "dense", threads=given.threads, progress=progress), lm


def checked(name: str, models: Sequence[Any], given: argparse.Namespace, progress: Progress) -> Any:
    """What became of one method: as it is, or with its example's hyper-parameters if it needs some."""
    from workbench.decode import registry
    from workbench.decode.lossless import check_lossless

    options = {"max_new_tokens": given.tokens, "samples": given.samples, "progress": progress}
    prompts = spread(given.prompts)
    try:
        return check_lossless(name, models[0], prompts, **options)
    except Cancelled:
        raise
    except (WorkbenchError, TypeError) as error:
        parameters = registry()[name].example_parameters(models[1])
        if not parameters:
            return error
        try:
            return check_lossless(name, models[0], prompts, **options, **parameters)
        except WorkbenchError as second:
            return second


def spread(number: int) -> list[Prompt]:
    """So many of the prompts, of as many kinds as can be."""
    from workbench.decode.prompts import KINDS, prompts

    ours = sorted(prompts(), key=lambda p: (p.name[-1], KINDS.index(p.kind) % 5, p.group))
    return ours[:number]


def row(name: str, found: Any) -> tuple[str, ...]:
    """Under `HEADER`."""
    from workbench.decode import registry

    promise = registry()[name].promises
    if isinstance(found, Exception):
        return name, promise, *("-",) * 7, "does not run"
    counts = found.prompts, found.prompts - len(found.divergences), found.tokens
    ties = len(found.divergences) - found.bugs
    fit = (str(found.fit.samples), f"{found.fit.p_value:.2g}") if found.fit else ("-", "-")
    bugs = "-" if promise == "lossy" else str(found.bugs)  # a lossy method may say something else
    return name, promise, *map(str, (*counts, ties)), bugs, *fit, found.verdict


def details(found: dict[str, Any]) -> list[str]:
    """A line for every divergence, and for every method that does not run."""
    lines = []
    for name, one in found.items():
        if isinstance(one, Exception):
            lines.append(f"{name}: {one}")
            continue
        lines += [
            f"{name}, {d.prompt}, token {d.position}: {'differs' if one.promises == 'lossy' else d.verdict}; "
            f"gap {d.gap:.3g}, passes differ by {d.difference:.3g}"
            for d in one.divergences
        ]
    return lines


def as_json(one: Any) -> dict[str, Any]:
    """Ready for JSON."""
    if isinstance(one, Exception):
        return {"error": str(one)}
    content: dict[str, Any] = one.to_dict()
    return content | {"held": one.held, "verdict": one.verdict}
