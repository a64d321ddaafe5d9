"""``workbench bench-attention``: what looking at attention costs, on the clock and in bytes."""

from __future__ import annotations

import argparse
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
    table,
    use_threads,
    write_json,
)

EPILOG = """\
examples:
  workbench bench-attention --quick                    1024 tokens, a quarter of a minute
  workbench bench-attention --json attention.json      1024 and 4096 tokens, and 8192 analysed

Statistics of every head are streamed while a text is read; the ratio is to a plain pass of the model over the same
text, both in turn. A tile is 256 x 256 cells of one head's map, worked out anew from queries and keys on disk.
"""
LENGTHS, QUICK, ANALYSED = (1024, 4096), (1024,), 8192


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "bench-attention", "time attention statistics and maps", EPILOG)
    parser.add_argument("--model", metavar="DIR_or_ID", help="the model (default: the default model)")
    parser.add_argument("--text", metavar="FILE", help="a text file (default: the built-in text)")
    parser.add_argument("--quick", action="store_true", help="1024 tokens only")
    parser.add_argument("--tokens", type=count, metavar="N", help="of the text analysed (default: 8192; quick: 1024)")
    parser.add_argument("--rounds", type=count, metavar="N", default=3, help="of reading both ways (default: 3)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write figures and settings here")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Time as asked and print the figures."""
    check_json(given.json)
    use_threads(given.threads)
    from workbench.attention.bench import bench_attention
    from workbench.commands._texts import tokens_of

    with progress_line() as progress:
        lm = load_model(given.model, progress)
        ids = tokens_of(lm, given.text, given.tokens or (max(QUICK) if given.quick else ANALYSED))
        lengths = [n for n in (QUICK if given.quick else LENGTHS) if n <= len(ids)] or [len(ids)]
        found = bench_attention(lm, ids, lengths=lengths, rounds=given.rounds, progress=progress)
    write_json(given.json, {"command": "bench-attention", **found.to_dict()})
    print(report(found))
    return 0


def report(found: Any) -> str:
    """What is printed."""
    facts = "\n".join(f"{name}: {value}" for name, value in found.facts())
    settings = "; ".join(f"{name} {value}" for name, value in found.protocol.items())
    return f"{table(found.reading_table())}\n\n{table(found.tile_table())}\n\n{facts}\n{settings}\n{found.provenance}"
