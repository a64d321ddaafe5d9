"""The console command ``workbench``: one module of `workbench.commands` per subcommand.

Exit status: 0 done, 2 a wrong argument or something missing (one line says what to do), 130 cancelled.
Results go to standard output, progress and errors to standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from workbench import __version__
from workbench.commands import COMMANDS
from workbench.errors import Cancelled, WorkbenchError

DEFAULT = "lab"
EPILOG = """\
first steps:
  workbench                                       copy the lessons to a folder of yours, and open the first one
  workbench list                                  lessons and labs: how long, how hard, about what
  workbench doctor                                whether everything is there, and what to do if not
  workbench methods                               what there is to prune with, and by whom
  workbench prune --method wanda --sparsity 0.5 --out my-model
  workbench eval my-model                         its perplexity beside the dense model's

Every subcommand explains itself: workbench prune --help
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; nothing heavy is imported for it."""
    parser = argparse.ArgumentParser(
        prog="workbench",
        description="Prune, measure and compare real language models.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sparse-workbench {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Parameters
    ----------
    arguments
        As after the command's name; those of this process if None.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0].startswith("-") and words[0] not in {"-h", "--help", "--version"}):
        words.insert(0, DEFAULT)  # `workbench`, `workbench --fresh`
    given = build_parser().parse_args(words)
    try:
        status: int = given.run(given)
        sys.stdout.flush()
    except (KeyboardInterrupt, Cancelled):
        return _end("cancelled: nothing was changed", 130)
    except WorkbenchError as error:
        return _end(f"error: {error}", 2)
    except BrokenPipeError:  # `workbench methods | head`: nobody listens any more, also not to the last flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _end(message: str, status: int) -> int:
    print(f"workbench: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
