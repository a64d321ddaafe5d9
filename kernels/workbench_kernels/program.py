"""Compiled programs: a list of steps that one call runs through, by one thread or several in lockstep.

    table [steps, 2]    the address of a step's code, and of its record of int64 arguments
    thread t of n       runs every step as function(record, t, n): its share of the step's work, then waits for all

A step is a C function made by `_jit.entry`. Calling one costs a few nanoseconds, so a whole forward pass of a model is
one call from Python. Between two steps threads meet at a counter in memory: a few hundred nanoseconds when each has a
core of its own. They spin only within a running program, and yield the core when the wait is long.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from workbench_kernels._errors import KernelError
from workbench_kernels._jit import inline, kernel
from workbench_kernels._pool import parallel
from workbench_kernels._vector import i64

RECORD = 32  # int64 arguments of a step
_SPINS = 4000  # pauses before a waiting thread gives up its core


@intrinsic
def _pointer(_typing: Any, address: Any) -> Any:
    return types.voidptr(types.int64), lambda ctx, b, sig, args: b.inttoptr(args[0], cgutils.voidptr_t)


@inline
def view(address, count, dtype):
    """The ``count`` elements at an address as an array."""
    return numba.carray(_pointer(address), (count,), dtype)


@intrinsic
def _call(_typing: Any, code: Any, record: Any, thread: Any, threads: Any) -> Any:
    def emit(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [i64, i64, i64])
        b.call(b.inttoptr(args[0], kind.as_pointer()), args[1:])
        return ctx.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), emit


@intrinsic
def _arrive(_typing: Any, counter: Any) -> Any:
    """Add one to the first element, seen by all threads in order."""

    def emit(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        at = ctx.make_array(sig.args[0])(ctx, b, args[0]).data
        b.atomic_rmw("add", at, ir.Constant(i64, 1), "acq_rel")
        return ctx.get_dummy_value()

    return types.void(counter), emit


@intrinsic
def _arrived(_typing: Any, counter: Any) -> Any:
    def emit(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        at = ctx.make_array(sig.args[0])(ctx, b, args[0]).data
        return b.load_atomic(at, "acquire", 8)

    return types.int64(counter), emit


@intrinsic
def _yield(_typing: Any) -> Any:
    """Let another thread have the core."""

    def emit(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        if sys.platform == "win32":
            kind, name = ir.FunctionType(ir.IntType(32), []), "SwitchToThread"
        else:
            kind, name = ir.FunctionType(ir.IntType(32), []), "sched_yield"
        b.call(cgutils.get_or_insert_function(b.module, kind, name), [])
        return ctx.get_dummy_value()

    return types.void(), emit


@intrinsic
def _pause(_typing: Any) -> Any:
    """Tell the core that this is a waiting loop."""

    def emit(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        triple = str(b.module.triple)
        if "x86_64" in triple:
            kind = ir.FunctionType(ir.VoidType(), [])
            b.call(cgutils.get_or_insert_function(b.module, kind, "llvm.x86.sse2.pause"), [])
        return ctx.get_dummy_value()

    return types.void(), emit


@kernel
def _run(first, last, table, threads, counter):
    for thread in range(first, last):
        for step in range(table.shape[0]):
            _call(table[step, 0], table[step, 1], thread, threads)
            if threads > 1:
                _arrive(counter)
                wanted, spins = (step + 1) * threads, 0
                while _arrived(counter) < wanted:
                    spins += 1
                    if spins > _SPINS:
                        _yield()
                    else:
                        _pause()


class Program:
    """Steps in order, with the arrays that they use kept alive.

    Parameters
    ----------
    threads
        That run it together.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.names: list[str] = []
        self._steps: list[tuple[int, np.ndarray]] = []
        self._keep: list[Any] = []
        self._table = np.empty((0, 2), np.int64)
        self._counter = np.zeros(8, np.int64)

    def add(self, name: str, code: Any, *arguments: int | np.ndarray) -> None:
        """Append a step.

        Parameters
        ----------
        name
            What profiles call it.
        code
            Made by `_jit.entry`.
        *arguments
            Its record: whole numbers; an array stands for two, its address and its length.
        """
        numbers: list[int] = []
        for value in arguments:
            if isinstance(value, np.ndarray):
                if not value.flags.c_contiguous:
                    raise KernelError(f"step {name}: an array is not contiguous")
                numbers += [value.ctypes.data, value.size]
                self._keep.append(value)
            else:
                numbers.append(int(value))
        if len(numbers) > RECORD:
            raise KernelError(f"step {name} has {len(numbers)} arguments: at most {RECORD}")
        record = np.zeros(RECORD, np.int64)
        record[: len(numbers)] = numbers
        self._steps.append((code.address, record))
        self._keep.append(code)
        self.names.append(name)

    def run(self, steps: int | None = None) -> None:
        """Run all steps, or the first ``steps``, without the GIL."""
        if len(self._table) != len(self._steps):
            self._table = np.array([(a, r.ctypes.data) for a, r in self._steps], np.int64).reshape(-1, 2)
        self._execute(self._table[:steps])

    def run_step(self, index: int) -> None:
        """Run one step alone, to time it."""
        address, record = self._steps[index]
        self._execute(np.array([[address, record.ctypes.data]], np.int64))

    def _execute(self, table: np.ndarray) -> None:
        self._counter[0] = 0
        parallel(_run, _each(self.threads), table, self.threads, self._counter)


def _each(threads: int) -> Sequence[int]:
    return range(threads + 1)


@inline
def share(items, thread, threads):
    """First and last of the items that a thread does."""
    return items * thread // threads, items * (thread + 1) // threads
