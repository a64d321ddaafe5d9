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
  workbench methods               all of them, by family
  workbench methods wanda         its paper, formula, claim, hyper-parameters and defaults
  workbench methods --markdown    the table of the README

What they remove: weights (set to zero), or neurons, head groups (kv_group) and layers (really gone).
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "methods", "list the pruning methods, or explain one", EPILOG)
    parser.add_argument("name", nargs="?", help="the method to explain")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print the table, or one method."""
    import workbench
    from workbench.errors import unknown

    known = {info.name: info for info in workbench.methods()}
    if given.name is None and given.markdown:
        from workbench._docs import methods_table

        print(methods_table())
    elif given.name is None:
        rows = [("method", "removes", "needs", "paper")]
        rows += [(i.name, ", ".join(i.units), needed(i), short(i)) for i in known.values()]
        print(f"{table(rows)}\n\n`workbench methods NAME` explains one of them.")
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
    first = paper.authors.removesuffix(" et al.").split(",")[0]
    authors = first + (" et al." if first != paper.authors else "")
    return f"{authors} {paper.year}" + (f", arXiv:{paper.arxiv}" if paper.arxiv else "")


def explain(info: MethodInfo) -> str:
    """One method in full."""
    from workbench._docs import needed as in_words
    from workbench._docs import removed
    from workbench.prune import registry

    claim = getattr(registry().get(info.name), "claim", None)
    rows = [
        ("paper", str(info.citation or "none: a control that every other method must beat")),
        ("score", f"{info.formula} (higher stays)"),
        ("claim", f"{claim.statement} (paper: {claim.setting})" if claim else "none"),
        ("prunes", removed(info)),
        ("patterns", ", ".join(info.patterns) or "none: units go as a whole"),
        ("reads", in_words(info)),
        ("allocation", f"{info.default_allocation}: how the budget is spread (--allocation changes it)"),
        ("repair", f"{info.default_repair}: what mends the rest (--repair changes it)"),
        ("parameters", ", ".join(f"{k}={v!r}" for k, v in info.parameters.items()) or "none"),
    ]
    lines = [f"{info.name}: {info.title}", ""]
    for name, value in rows:
        lines += textwrap.wrap(value, 96, initial_indent=f"  {name:<11}", subsequent_indent=" " * 13)
    if claim:
        lines += ["", f"To see whether the claim holds on the default model: workbench replicate {info.name}"]
    return "\n".join(lines)
