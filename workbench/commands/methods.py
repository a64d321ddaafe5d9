"""``workbench methods``: the table of methods, and all about one of them."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING

from workbench.commands._shared import Subparsers, add, table

if TYPE_CHECKING:
    from workbench.prune import MethodInfo

EPILOG = """\
examples:
  workbench methods            all of them, by family
  workbench methods wanda      its paper, formula, hyper-parameters and defaults
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "methods", "list the pruning methods, or explain one", EPILOG)
    parser.add_argument("name", nargs="?", help="the method to explain")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print the table, or one method."""
    import workbench
    from workbench.errors import unknown

    known = {info.name: info for info in workbench.methods()}
    if given.name is None:
        rows = [("method", "removes", "needs", "paper")]
        rows += [(i.name, ", ".join(i.units), needed(i), short(i)) for i in known.values()]
        print(table(rows))
    elif given.name in known:
        print(explain(known[given.name]))
    else:
        raise unknown("method", given.name, known)
    return 0


def needed(info: MethodInfo) -> str:
    """What a method wants to know of the data."""
    return ", ".join(info.needs) or ("text" if info.family == "layers" else "nothing")


def short(info: MethodInfo) -> str:
    """First author, year and where to find the paper."""
    paper = info.citation
    if paper is None:
        return "-"
    authors = paper.authors.split(",")[0] + (" et al." if "," in paper.authors else "")
    return f"{authors} {paper.year}" + (f", arXiv:{paper.arxiv}" if paper.arxiv else "")


def explain(info: MethodInfo) -> str:
    """One method in full."""
    rows = [
        ("paper", str(info.citation or "-")),
        ("formula", info.formula),
        ("removes", ", ".join(info.units)),
        ("patterns", ", ".join(info.patterns) or "-"),
        ("needs", needed(info)),
        ("allocation", f"{info.default_allocation} (--allocation changes it)"),
        ("repair", f"{info.default_repair} (--repair changes it)"),
        ("parameters", ", ".join(f"{k}={v!r}" for k, v in info.parameters.items()) or "-"),
    ]
    lines = [f"{info.name}: {info.title}", ""]
    for name, value in rows:
        lines += textwrap.wrap(value, 96, initial_indent=f"  {name:<11}", subsequent_indent=" " * 13)
    return "\n".join(lines)
