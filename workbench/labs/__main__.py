"""Make the notebooks of the labs.

python -m workbench.labs FOLDER       student/, solution/ and instructor/ notebooks there, for a teacher
python -m workbench.labs --refresh    the students' notebooks of this checkout, after a master was changed
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.labs import notebooks


def main(arguments: list[str] | None = None) -> int:
    """Write notebooks; the exit status is 0 when they are there."""
    parser = argparse.ArgumentParser(
        prog="python -m workbench.labs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="where they go")
    where.add_argument("--refresh", action="store_true", help="replace those in notebooks/labs")
    given = parser.parse_args(arguments)
    try:
        made = notebooks.write_student() if given.refresh else notebooks.write(given.folder)
    except WorkbenchError as error:
        sys.stderr.write(f"workbench: error: {error}\n")
        return 2
    sys.stdout.write("".join(f"{path}\n" for path in made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
