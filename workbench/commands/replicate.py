"""``workbench replicate``: run the headline claim of a paper and say whether it holds here."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from workbench.commands._shared import (
    Subparsers,
    add,
    add_threads,
    check_json,
    count,
    load_model,
    progress_line,
    use_threads,
    write_json,
)
from workbench.errors import ArgumentError

EPILOG = """\
examples:
  workbench replicate wanda                      on the default model and built-in text: minutes
  workbench replicate --all --json claims.json   everything; what is compared with is measured once
  workbench replicate wanda --model org/name --text my.txt --windows 60
  workbench replicate block-spmm                 a kernel on this machine, on one thread
  workbench replicate prompt-lookup              a way of decoding, on the model compiled dense
  workbench replicate snapkv                     a smaller KV cache, on pieces of the text
  workbench replicate --ledger                   make the ledger's page from the recorded runs
  workbench replicate wanda --ledger my-ledger   run, record in that folder, and make its page

"held" means that the whole 95 % interval lies on the claimed side, "not held" that it lies on the other,
"inconclusive" neither. All three are results: the exit status is 0.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "replicate", "measure whether the claim of a paper holds here", EPILOG)
    parser.add_argument(
        "method",
        nargs="?",
        metavar="METHOD",
        help="of pruning, decoding or small caches, or a kernel",
    )
    parser.add_argument("--all", action="store_true", help="everything that carries a claim")
    parser.add_argument("--model", metavar="DIR_or_ID", help="what to prune (default: the default model)")
    parser.add_argument("--text", metavar="FILE", help="a text, halved for calibration (default: built in)")
    parser.add_argument("--samples", metavar="N", type=count, default=16, help="calibration windows (default: 16)")
    parser.add_argument("--seqlen", metavar="N", type=count, default=512, help="tokens per window (default: 512)")
    parser.add_argument("--windows", metavar="N", type=count, default=24, help="evaluation windows (default: 24)")
    parser.add_argument(
        "--repeats", metavar="N", type=count, default=21, help="timed rounds per seed, of kernels (default: 21)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write figures and settings here")
    parser.add_argument(
        "--ledger",
        metavar="DIR",
        nargs="?",
        const="",
        help="record the runs there (default: the package's ledger) and make its page",
    )
    add_threads(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Run the claims as asked and print what became of them."""
    if given.method and given.all:
        raise ArgumentError(f"METHOD {given.method!r} and --all were both given: give one of them")
    if not (given.method or given.all or given.ledger is not None):
        raise ArgumentError("nothing to replicate: give a METHOD, --all, or --ledger for the page alone")
    check_json(given.json)
    from workbench import _ledger

    folder = Path(given.ledger).expanduser() if given.ledger else None
    outcomes = []
    for outcome in _replicate(given) if given.method or given.all else ():
        outcomes.append(outcome)
        if given.ledger is not None:  # at once: the next claim may be cancelled
            _ledger.record(outcome, folder)
    write_json(given.json, {"claims": [_as_json(outcome) for outcome in outcomes]})
    if given.ledger is not None:
        print(_ledger.write_page(folder))
    return 0


def _replicate(given: argparse.Namespace) -> Iterator[Any]:
    """Run the claims one after the other, printing and handing out each outcome."""
    use_threads(given.threads)
    from workbench.claims import claims, replicate
    from workbench.errors import unknown

    known = claims()
    if given.method and given.method not in known:
        raise unknown("method with a claim", given.method, known)
    with progress_line() as progress:
        grounds = _grounds(given, progress)
        for name in [given.method] if given.method else known:
            needs = known[name].needs
            outcome = replicate(name, grounds.get(needs, needs.of)())
            print(outcome.to_text() if given.method else repr(outcome), flush=True)
            yield outcome


def _grounds(given: argparse.Namespace, progress: Any) -> dict[type, Callable[[], Any]]:
    """What claims are checked on, as asked; each is made when the first claim needs it."""
    from workbench.attention.kv.claims import KVContext
    from workbench.attention.patterns.claims import PatternContext
    from workbench.claims import Context
    from workbench.decode.claims import DecodingContext
    from workbench.execute.claims import KernelContext

    def model() -> Any:
        lm = load_model(given.model, progress)
        sizes = {"samples": given.samples, "seqlen": given.seqlen, "windows": given.windows}
        return Context.of(lm, given.text, **sizes, progress=progress)

    def kernels() -> Any:
        return KernelContext(given.threads or 1, given.repeats, progress=progress)

    def decoding() -> Any:
        return DecodingContext.of(load_model(given.model, progress), threads=given.threads, progress=progress)

    def caches() -> Any:
        return KVContext.of(load_model(given.model, progress), given.text, threads=given.threads, progress=progress)

    def patterns() -> Any:
        lm = load_model(given.model, progress)
        return PatternContext.of(lm, given.text, threads=given.threads, progress=progress)

    return {
        Context: cache(model), KernelContext: cache(kernels), DecodingContext: cache(decoding),
        KVContext: cache(caches), PatternContext: cache(patterns),
    }  # fmt: skip


def _as_json(outcome: Any) -> dict[str, Any]:
    content: dict[str, Any] = outcome.to_dict()
    return content
