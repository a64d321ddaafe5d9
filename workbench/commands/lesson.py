"""``workbench lesson``: open one lesson or lab."""

from __future__ import annotations

import argparse

from workbench.commands._shared import Subparsers, add
from workbench.commands.lab import add_serving

EPILOG = """\
examples:
  workbench lesson 01                 by its number; workbench list says what there is
  workbench lesson 04_decoding
  workbench lesson pruning            a lab
  workbench lesson 01 --fresh         as it was shipped; what you changed is kept as NAME.mine.ipynb
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "lesson", "open a lesson or a lab in JupyterLab", EPILOG)
    parser.add_argument("name", metavar="NAME", help="a number, or the beginning of a name")
    add_serving(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Find it and serve it until interrupted."""
    from workbench import lab
    from workbench.lessons import find

    return lab.serve(
        find(given.name).path,
        folder=given.folder,
        fresh=given.fresh,
        port=given.port,
        browser=False if given.no_browser else None,
    )
