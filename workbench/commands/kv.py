"""``workbench kv``: what smaller KV caches cost, all methods at one budget, the full cache beside them."""

from __future__ import annotations

import argparse
from pathlib import Path

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

EPILOG = """\
examples:
  workbench kv --budget 0.25                        all methods on the built-in text
  workbench kv --text book.txt --budget 0.1 --methods snapkv,streaming --json kv.json

The text's last tokens are predicted with a compressed cache of what stands before them; then numbers hidden in it, and
in lists, are asked for.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "kv", "measure what smaller KV caches cost", EPILOG)
    parser.add_argument("--model", metavar="DIR_or_ID", help="the model (default: the default model)")
    parser.add_argument("--text", metavar="FILE", help="a text file (default: the built-in text)")
    parser.add_argument("--tokens", type=count, metavar="N", default=768, help="tokens of it (default: 768)")
    parser.add_argument("--budget", type=float, metavar="SHARE", default=0.25, help="keys that stay (default: 0.25)")
    parser.add_argument("--methods", metavar="NAMES", default="all", help="with commas between them (default: all)")
    parser.add_argument("--tasks", type=int, metavar="N", default=4, help="needles and lists (default: 4 of each)")
    parser.add_argument("--seed", type=int, metavar="N", default=0)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write figures and settings here")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Measure as asked and print the table."""
    check_json(given.json)
    use_threads(given.threads)
    from workbench.attention.kv import kv_quality
    from workbench.commands._texts import tokens_of

    methods = given.methods if given.methods == "all" else given.methods.split(",")
    with progress_line() as progress:
        lm = load_model(given.model, progress)
        ids = tokens_of(lm, given.text, given.tokens)
        found = kv_quality(
            lm, ids, methods, given.budget, continuation=min(128, len(ids) // 4), tasks=given.tasks, seed=given.seed,
            progress=progress,
        )  # fmt: skip
    write_json(given.json, {"command": "kv", **found.to_dict()})
    print(f"{found}\n{table(found.table())}")
    return 0
