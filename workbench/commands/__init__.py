"""One module per subcommand of ``workbench``: ``add_parser(subparsers)`` and the function that it runs.

A new subcommand is a new module here and its name in `COMMANDS`. Torch is imported inside the functions
only, so that ``--help`` answers at once.
"""

from workbench.commands import bench, evaluate, lab, methods, models, prune, replicate

COMMANDS = (lab, prune, evaluate, models, methods, replicate, bench)

__all__ = ["COMMANDS"]
