"""``workbench decoders``: the table of ways of decoding, and all about one of them."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from workbench.commands._shared import Subparsers, add, table
from workbench.commands.methods import short

EPILOG = """\
examples:
  workbench decoders                    all of them, by family
  workbench decoders prompt-lookup      its paper, formula, claim, hyper-parameters and defaults
  workbench decoders --markdown         the table of the README

What they promise: greedy (at temperature 0 the very same text as plain decoding), distribution (that, and above 0
texts distributed as those of plain sampling), lossy (neither). workbench check-lossless holds them to it.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "decoders", "list the ways of decoding, or explain one", EPILOG)
    parser.add_argument("name", nargs="?", help="the method to explain")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print the table, or one method."""
    from workbench.decode import registry
    from workbench.errors import unknown

    if given.name is None:
        from workbench._docs import decoders_table

        print(decoders_table() if given.markdown else f"{listing()}\n\n`workbench decoders NAME` explains one of them.")
    elif given.name in registry():
        print(explain(registry()[given.name]))
    else:
        raise unknown("decoding method", given.name, registry())
    return 0


def listing() -> str:
    """All of them as a table."""
    from workbench.decode import decoders

    rows = [("method", "family", "promises", "paper")]
    listed: list[Any] = list(decoders())
    rows += [(d.name, d.family, d.promises, short(d)) for d in listed]
    return table(rows)


def explain(cls: Any) -> str:
    """One method in full."""
    import dataclasses

    fields = [(f.name, f.default) for f in dataclasses.fields(cls)]
    rows = [
        ("paper", str(cls.citation or "none")),
        ("family", cls.family),
        ("promises", cls.promises),
        ("formula", cls.formula),
        ("claim", f"{cls.claim.statement} (paper: {cls.claim.setting})" if cls.claim else "none"),
        ("parameters", ", ".join(f"{k}{'' if v is dataclasses.MISSING else f'={v!r}'}" for k, v in fields) or "none"),
    ]
    lines = [f"{cls.name}: {cls.title}", ""]
    for name, value in rows:
        lines += textwrap.wrap(value, 96, initial_indent=f"  {name:<11}", subsequent_indent=" " * 13)
    if cls.claim:
        lines += ["", f"To see whether the claim holds on the default model: workbench replicate {cls.name}"]
    return "\n".join(lines)
