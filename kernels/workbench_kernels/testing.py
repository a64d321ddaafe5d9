"""The battery that every kernel passes: `check_kernel`. Public, so that a new kernel gets the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench_kernels._errors import KernelError
from workbench_kernels._kernel import KERNELS, Kernel
from workbench_kernels._pool import always_split

DENSITIES = (0.0, 0.3, 1.0)


def check_kernel(name: str, seed: int = 0) -> None:
    """Hold one kernel to its reference and to the rules that all keep.

    Odd shapes, nothing kept, one column, no token and one; an output full of NaN before; the same bytes for one
    thread and three; NaN and infinity go where the reference lets them go; arrays that are not contiguous are refused.

    Parameters
    ----------
    name
        In `KERNELS`.
    seed
        Of all inputs.

    Raises
    ------
    AssertionError
        Saying which rule is broken, for which shape.
    """
    kernel, rng = KERNELS[name], np.random.default_rng(seed)
    for shape in kernel.shapes:
        for density in DENSITIES:
            inputs = kernel.make(rng, shape, density)
            got = compare(kernel, inputs, f"{name} {shape} density {density}")
            with always_split():
                again = kernel.run(**inputs, threads=3)
            _same(got, again, f"{name} {shape}: three threads give other bytes than one")
    inputs = dict(kernel.make(rng, kernel.shapes[-2], 0.5))
    for array in kernel.arrays:
        _refuses(kernel, inputs, array)
        _passes_on(kernel, inputs, array, np.nan)
        _passes_on(kernel, inputs, array, np.inf)


def compare(kernel: Kernel, inputs: Any, what: str, threads: int = 1) -> np.ndarray:
    """Run a kernel into an array of NaN and hold it to its reference; return what it wrote."""
    want, bound = kernel.reference(**inputs), kernel.bound(**inputs)
    out = np.full(want.shape, np.nan, np.float32)
    got = kernel.run(**inputs, threads=threads, out=out)
    if got is not out:
        raise AssertionError(f"{what}: the result is not the array given as out")
    if not np.isfinite(got).all():
        raise AssertionError(f"{what}: {np.count_nonzero(~np.isfinite(got))} of {got.size} outputs were not written")
    error = np.abs(got - want)
    if (error > bound).any():
        worst = float((error / np.maximum(bound, 1e-300)).max())
        raise AssertionError(f"{what}: off by {error.max():.3g}, {worst:.3g} times the bound")
    return got


def _same(a: np.ndarray, b: np.ndarray, message: str) -> None:
    if a.tobytes() != b.tobytes():
        raise AssertionError(message)


def _refuses(kernel: Kernel, inputs: dict[str, Any], array: str) -> None:
    given = inputs[array]
    wrong = np.asfortranarray(np.repeat(given, 2, axis=-1))[..., ::2]
    try:
        kernel.run(**{**inputs, array: wrong})
    except KernelError as error:
        if array not in str(error) or "contiguous" not in str(error):
            raise AssertionError(f"{kernel.name}: the message does not help: {error}") from error
        return
    raise AssertionError(f"{kernel.name}: {array} that is not contiguous was taken")


def _passes_on(kernel: Kernel, inputs: dict[str, Any], array: str, value: float) -> None:
    """Where the reference is not finite the kernel is not; rows that the reference leaves clean stay clean."""
    given = inputs[array].copy()
    given.reshape(-1)[given.size // 2] = value
    changed = {**inputs, array: given}
    with np.errstate(invalid="ignore", over="ignore"):
        want = kernel.reference(**changed)
    got = kernel.run(**changed)
    spoiled = ~np.isfinite(want)
    if np.isfinite(got[spoiled]).any():
        raise AssertionError(f"{kernel.name}: {value} in {array} became a finite number")
    clean = ~spoiled.any(axis=-1)
    if not np.isfinite(got[clean]).all():
        raise AssertionError(f"{kernel.name}: {value} in {array} spoiled outputs that do not read it")
