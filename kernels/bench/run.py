"""Check the kernels, then time them: ``python kernels/bench/run.py [--quick] [--threads N] [--json FILE]``.

Every kernel is first held to its reference on the very weights that are timed, and is refused if it fails. Then it is
timed interleaved with torch, scipy and MKL on the same values, with weights warm and from memory. The tables go to
stdout, progress to stderr. What is compared, how, and what the figures mean: `shapes`, `peers`, `measure`, `report`.

torch alone answers for most peers; ``pip install scipy sparse_dot_mkl mkl`` brings the others. What is missing is
named and left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

QUICK_SECONDS = 42  # what has not begun by then is left out


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    shape = "outputs x inputs; attention: KV heads x queries per head x tokens x head dimension"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="run.py")
    parser.add_argument("--quick", action="store_true", help="one telling shape per goal, within a minute")
    parser.add_argument("--threads", type=_positive, default=1, metavar="N", help="for every side (default 1)")
    parser.add_argument("--case", action="append", default=[], metavar="TEXT", help="cases whose name contains this")
    parser.add_argument("--kernel", action="append", default=[], metavar="NAME", help="kernels of this name")
    parser.add_argument("--peer", action="append", default=[], metavar="TEXT", help="peers whose name contains this")
    parser.add_argument("--shape", action="append", default=[], type=_shape, metavar="NxK", help=shape)
    parser.add_argument("--sparsity", type=_share, metavar="S", help="instead of the case's, 0 to 1; no goals then")
    parser.add_argument("--tokens", type=_positive, metavar="T", help="instead of the case's; no goals then")
    parser.add_argument("--repeats", type=_positive, metavar="R", help="samples of each side (default 15, quick 9)")
    parser.add_argument("--goals-only", action="store_true", help="leave out kernels and formats that no goal names")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one record a measurement")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    options = parser.parse_args(given)
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {options.json.parent}")
    return options


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to below 1, e.g. 0.8")
    return value


def _shape(text: str) -> tuple[int, ...]:
    return tuple(_positive(part) for part in text.split("x"))


def environment(threads: int) -> None:
    """Tell the libraries how many threads to use, and MKL's wrapper where MKL is, before any of them is imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    found = sorted((Path(sys.prefix) / "lib").glob("libmkl_rt.so*"))
    if found:
        os.environ.setdefault("MKL_RT", str(found[0]))
    folder = Path(__file__).resolve().parent
    for path in (folder.parent, folder):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 if all that was wanted was timed, 1 if a kernel was refused, 130 if interrupted."""
    options, start = arguments(given), time.monotonic()
    environment(options.threads)
    from trial import Bench

    try:
        bench = Bench(options, deadline=start + QUICK_SECONDS if options.quick else None)
        if options.list:
            print("\n".join(f"{case.name}: {', '.join(map(str, case.goals)) or 'no goal'}" for case in bench.cases))
            return 0
        bench.run()
        if options.json is not None:
            bench.write(options.json)
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    print(bench.text())
    return 1 if bench.refused else 0


if __name__ == "__main__":
    sys.exit(main())
