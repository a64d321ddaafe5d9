"""``workbench lab``, and ``workbench`` alone: open JupyterLab on the first lesson."""

from __future__ import annotations

import argparse
from pathlib import Path

from workbench.commands._shared import Subparsers, add, count

EPILOG = """\
examples:
  workbench                           the tour; a browser opens if there is a display
  workbench lab --no-browser          only print the address
  workbench lab --folder ~/course     copy lessons and labs there instead of ~/sparse-workbench/notebooks
  workbench lab --fresh               the shipped notebooks again; what you changed is kept as NAME.mine.ipynb
  workbench lab --in-place            in a checkout: the notebooks themselves, to write lessons

Without --fresh nothing that you changed is touched. The server listens to this machine only. Over ssh, forward the
port: ssh -L 8888:127.0.0.1:8888 HOST
"""


def add_parser(subparsers: Subparsers) -> None:
    """Add the subcommand."""
    parser = add(subparsers, "lab", "open JupyterLab on the first lesson", EPILOG)
    parser.add_argument("notebook", nargs="?", help="path below the notebooks' folder (default: the first lesson)")
    add_serving(parser)
    parser.add_argument("--in-place", action="store_true", help="open the checkout's own notebooks, not a copy")
    parser.set_defaults(run=run)


def add_serving(parser: argparse.ArgumentParser) -> None:
    """The options of whatever opens JupyterLab."""
    parser.add_argument("--folder", type=Path, help="where the copies are (default: ~/sparse-workbench/notebooks)")
    parser.add_argument("--fresh", action="store_true", help="take the shipped notebook; a changed one is put aside")
    parser.add_argument("--port", type=count, help="port to listen on (default: the first free one from 8888 on)")
    parser.add_argument("--no-browser", action="store_true", help="print the address, open nothing")


def run(given: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from workbench import lab

    return lab.serve(
        given.notebook,
        folder=given.folder,
        fresh=given.fresh,
        in_place=given.in_place,
        port=given.port,
        browser=False if given.no_browser else None,
    )
