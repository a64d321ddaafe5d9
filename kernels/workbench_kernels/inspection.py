"""What a kernel really does: the machine code of its inner loop.

    matmul(weight, x) --which kernel ran--> assembly --> innermost loops --> the one that multiplies most

Kernels that come from the cache on disk carry no assembly, so the one in question is compiled once more.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np

from workbench_kernels import _pool
from workbench_kernels._errors import KernelError
from workbench_kernels._jit import OPTIONS
from workbench_kernels.formats._base import WeightFormat
from workbench_kernels.matmul import matmul

_LABEL = re.compile(r"^(\.?L\w+):")
_JUMP = re.compile(r"^\s+(?:j\w+|b\.\w+|b|cbn?z|tbn?z)\s+.*?(\.?L\w+)\s*$")
_LINE = re.compile(r"^\s+(?:\{\w+\}\s+)?([a-z][a-z0-9_.]*)\b(.*)$")  # {vex} asks for an encoding
_REGISTER = re.compile(r"%[xyz]mm\d|%k[0-7]|\b[vzq]\d+\b")
_ADDS_UP = re.compile(r"fmadd|fmla|dp(bf16|busd|bssd|wssd)|[us]dot|bfdot")  # multiplies and adds in one
_MULTIPLIES = re.compile(r"mul|madd")


def instructions(weight: WeightFormat, tokens: int) -> dict[str, int]:
    """Vector instructions in the inner loop of the kernel that multiplies ``weight`` by so many tokens.

    A processor without the instructions that a format asks for may have none there.

    Parameters
    ----------
    weight
        In any format; its values must not be empty.
    tokens
        At least 1.

    Returns
    -------
    dict
        Mnemonic to count, the most frequent first.

    Raises
    ------
    KernelError
        If no kernel reads the weight, or its loops hold no multiplication.

    Examples
    --------
    >>> from workbench_kernels.formats import Dense
    >>> instructions(Dense.from_dense(np.ones((64, 64), np.float32)), 8)          # doctest: +SKIP
    {'vfmadd231ps': 16, 'vbroadcastss': 8, 'vmovups': 2}
    """
    names = [_LINE.match(line) for line in inner_loop(assembly(weight, tokens))]
    return dict(Counter(m[1] for m in names if m and _REGISTER.search(m[2])).most_common())


def assembly(weight: WeightFormat, tokens: int) -> str:
    """Machine code, in the assembler's words, of the kernel that reads the stored values."""
    x = np.ones((tokens, weight.shape[1]), np.float32)
    with _calls() as seen:
        matmul(weight, x)
    stored = weight.value.ctypes.data if weight.stored else 0
    for function, args in reversed(seen):
        arrays = [a for a in args if isinstance(a, np.ndarray) and a.size]
        if hasattr(function, "py_func") and any(a.ctypes.data == stored for a in arrays):
            types = tuple(function.typeof_pyval(a) for a in args)
            fresh = numba.njit(**OPTIONS)(function.py_func)
            fresh.compile(types)
            return str(fresh.inspect_asm(fresh.signatures[0]))
    raise KernelError(f"{weight!r}: no kernel was seen to read its values; it must store at least one")


@contextmanager
def _calls() -> Iterator[list[tuple[Any, tuple[Any, ...]]]]:
    """Kernels that are run within, with their arguments: `parallel` is watched wherever it is used."""
    original, seen = _pool.parallel, []

    def watched(function: Any, bounds: Any, *args: Any) -> None:
        seen.append((function, (bounds[0], bounds[1], *args)))
        original(function, bounds, *args)

    homes = [m for n, m in sys.modules.items() if n.startswith("workbench_kernels.") and m is not _pool]
    users = [m for m in homes if getattr(m, "parallel", None) is original]
    for module in users:
        module.parallel = watched
    try:
        yield seen
    finally:
        for module in users:
            module.parallel = original


def inner_loop(code: str) -> list[str]:
    """The lines of the innermost loop that multiplies and adds up the most.

    Raises
    ------
    KernelError
        If there is none.
    """
    lines = code.splitlines()
    labels = {m[1]: n for n, line in enumerate(lines) if (m := _LABEL.match(line))}
    jumps = [(labels.get(m[1], n), n) for n, line in enumerate(lines) if (m := _JUMP.match(line))]
    loops = [(a, b) for a, b in jumps if a < b]
    inner = [(a, b) for a, b in loops if not any((c, d) != (a, b) and a <= c and d <= b for c, d in loops)]

    def work(loop: tuple[int, int]) -> tuple[int, ...]:
        """How often it multiplies and adds vectors, multiplies vectors, multiplies at all."""
        body = [m for line in lines[loop[0] : loop[1]] if (m := _LINE.match(line))]
        wide = [m for m in body if _REGISTER.search(m[2])]
        ways = (_ADDS_UP, wide), (_MULTIPLIES, wide), (_MULTIPLIES, body)
        return tuple(sum(bool(way.search(m[1])) for m in of) for way, of in ways)

    best = max(inner, key=work, default=None)
    if best is None or not any(work(best)):
        raise KernelError("the code has no loop that multiplies")
    return lines[best[0] : best[1] + 1]
