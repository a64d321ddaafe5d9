"""Compile the kernels that the lessons use, so that the first cell of a visitor does not: part of postBuild."""

import sys
import time

from workbench_kernels._jit import folder

from workbench.lessons.warming import done, warm

if __name__ == "__main__":
    start = time.monotonic()
    warm()
    if (place := folder()) is not None:
        done(place)
    print(f"kernels compiled in {time.monotonic() - start:.0f} s", file=sys.stderr)
