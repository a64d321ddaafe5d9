"""One piece of work as the benchmark sees it: our call, the right answer, and how much work it is."""

from __future__ import annotations

import copy
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import workbench_kernels
from measure import Call
from shapes import Case
from workbench_kernels import _memory
from workbench_kernels._kernel import KERNELS, Kernel
from workbench_kernels.matmul import matmul_reference
from workbench_kernels.testing import compare


@dataclass(frozen=True, slots=True)
class Prepared:
    """A side that is ready to be timed.

    Attributes
    ----------
    copy
        Copies the weights to new memory and returns a call that uses the copy.
    nbytes
        Of one copy.
    finish
        From what the call returns to float32 as the reference has it.
    same
        Whether all copies give the same output.
    """

    copy: Callable[[], Call]
    nbytes: int
    finish: Callable[[Any], np.ndarray] = np.asarray
    same: bool = True


@dataclass(frozen=True, slots=True)
class Problem:
    """Inputs, the answer, the work, and our side.

    Attributes
    ----------
    case : Case
    shape : tuple of int
    sparsity : float
        What the weights really have.
    want : ndarray
        The reference's result, float64.
    dense : ndarray
        The weights ``[N, K]``, float32, as peers get them; attention has none.
    inputs : dict
        Of the kernel.
    flops, nbytes : int
        Operations on what is stored, and bytes moved at least.
    values : str
        The type that is multiplied: ``"fp32"``, ``"bf16"`` or ``"int8"``.
    ours : Prepared
    """

    case: Case
    shape: tuple[int, ...]
    sparsity: float
    want: np.ndarray
    dense: np.ndarray
    inputs: dict[str, Any]
    flops: int
    nbytes: int
    values: str
    ours: Prepared


def load_kernels() -> list[str]:
    """Import every module of the package, so that `KERNELS` is full; return what could not be imported, and why."""
    failed = []
    for module in pkgutil.walk_packages(workbench_kernels.__path__, "workbench_kernels."):
        try:
            importlib.import_module(module.name)
        except Exception as error:  # noqa: BLE001 - one broken kernel must not keep the others from being timed
            failed.append(f"{module.name}: {type(error).__name__}: {error}")
    return failed


def multiplications() -> list[str]:
    """Names of the registered kernels that multiply by weights."""
    return [name for name, kernel in KERNELS.items() if kernel.reference is matmul_reference]


def clone(value: Any) -> Any:
    """A copy in new memory of all arrays that an object holds, however deep; it skips the object's checks."""
    if isinstance(value, np.ndarray):
        return _memory.aligned(value)
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(clone(v) for v in value)
    if type(value).__module__.startswith("workbench_kernels"):
        made = copy.copy(value)
        for name, member in vars(value).items():
            object.__setattr__(made, name, clone(member))
        return made
    return value


def other_problem(case: Case, shape: tuple[int, ...], threads: int, seed: int = 0) -> Problem:
    """Any registered kernel at a shape of its own, as `matmul_problem`; its reference in numpy is its only peer."""
    kernel: Kernel = KERNELS[case.kernel]
    inputs = dict(kernel.make(np.random.default_rng(seed), shape, 1 - case.sparsity))
    compare(kernel, inputs, f"{kernel.name} {shape}", threads)

    def fresh() -> Call:
        own = {name: clone(value) for name, value in inputs.items()}
        return lambda: kernel.run(**own, threads=threads)

    size, none = (kernel.flops(inputs), kernel.bytes(inputs)), np.empty((0, 0), np.float32)
    want = kernel.reference(**inputs)
    return Problem(case, shape, case.sparsity, want, none, inputs, *size, "fp32", Prepared(fresh, size[1]))


def matmul_problem(case: Case, shape: tuple[int, ...], threads: int, seed: int = 0) -> Problem:
    """Make the weights, hold the kernel to its reference on just these, and return both.

    Raises
    ------
    AssertionError
        If the kernel and its reference differ by more than the kernel's bound.
    """
    kernel: Kernel = KERNELS[case.kernel]
    rng = np.random.default_rng(seed)
    inputs = dict(kernel.make(rng, (*shape, case.tokens), 1 - case.sparsity))
    what = f"{kernel.name} {shape[0]}x{shape[1]} T={case.tokens}"
    compare(kernel, inputs, what, threads)
    weight, rest = inputs["weight"], {k: v for k, v in inputs.items() if k != "weight"}
    dense = weight.to_dense()

    def fresh() -> Call:
        own = clone(weight)
        return lambda: kernel.run(own, **rest, threads=threads)

    want = rest["x"].astype(np.float64) @ dense.T.astype(np.float64)
    return Problem(
        case, shape, float(1 - np.count_nonzero(dense) / dense.size), want, dense, inputs,
        kernel.flops(inputs), kernel.bytes(inputs), weight.sees.split("-")[0], Prepared(fresh, weight.nbytes),
    )  # fmt: skip
