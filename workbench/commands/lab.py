"""``workbench lab``: open JupyterLab on the first tutorial."""

from __future__ import annotations

import argparse
from pathlib import Path

from workbench.commands._shared import Subparsers, add, count

EPILOG = """\
examples:
  workbench lab                       the first tutorial; a browser opens if there is a display
  workbench lab --no-browser          only print the address
  workbench lab --folder ~/course     copy the notebooks there first, keep what is there already
  workbench lab --folder ~/course --fresh     ... and start again from the shipped ones

The server listens to this machine only. Over ssh, forward the port: ssh -L 8888:127.0.0.1:8888 HOST
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "lab", "open JupyterLab on the first tutorial", EPILOG)
    parser.add_argument("notebook", nargs="?", help="path below the notebooks' folder (default: the first tutorial)")
    parser.add_argument("--folder", type=Path, help="work on a copy of the notebooks in this folder")
    parser.add_argument("--fresh", action="store_true", help="replace notebooks in the copy by the shipped ones")
    parser.add_argument("--port", type=count, help="port to listen on (default: the first free one from 8888 on)")
    parser.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from workbench import lab

    return lab.serve(
        given.notebook or lab.FIRST,
        folder=given.folder,
        fresh=given.fresh,
        port=given.port,
        browser=False if given.no_browser else None,
    )
