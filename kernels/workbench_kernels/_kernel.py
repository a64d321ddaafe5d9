"""One row per kernel: its reference, its error bound, its inputs, its work. Tests and benchmark iterate `KERNELS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench_kernels._errors import KernelError

Inputs = Mapping[str, Any]
KERNELS: dict[str, Kernel] = {}


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel as the battery of checks and the benchmark see it.

    Attributes
    ----------
    name, title : str
    run
        ``run(**inputs, threads=n, out=None)``: the public operation, array out.
    reference
        ``reference(**inputs)``: plain numpy, float64.
    bound
        ``bound(**inputs)``: elementwise, how far `run` may be from `reference`.
    make
        ``make(rng, shape, density)``: inputs for a shape (the meaning of its numbers is the family's).
    shapes
        Small odd shapes for the battery, degenerate ones included.
    flops
        ``flops(inputs)``: multiplications and additions that the operation needs.
    bytes
        ``bytes(inputs)``: bytes that it must move at least.
    arrays
        Names of the inputs that are dense arrays (the battery makes them non-contiguous, NaN, Inf).
    """

    name: str
    title: str
    run: Callable[..., np.ndarray]
    reference: Callable[..., np.ndarray]
    bound: Callable[..., np.ndarray]
    make: Callable[[np.random.Generator, tuple[int, ...], float], Inputs]
    shapes: tuple[tuple[int, ...], ...]
    flops: Callable[[Inputs], int]
    bytes: Callable[[Inputs], int]
    arrays: tuple[str, ...]


def register(kernel: Kernel) -> Kernel:
    """Add a kernel to `KERNELS`."""
    if kernel.name in KERNELS:
        raise KernelError(f"kernel {kernel.name!r} is registered already")
    KERNELS[kernel.name] = kernel
    return kernel


SHAPES = ((1, 1, 1), (3, 5, 2), (17, 33, 1), (33, 70, 5), (64, 128, 8), (48, 64, 17), (70, 200, 66), (5, 64, 0))


def register_matmul(
    form: Any, values: str, title: str, prune: Callable[..., np.ndarray], *, name: str = "", **options: Any
) -> Kernel:
    """Register `matmul` of one format and one value type.

    Parameters
    ----------
    form
        The format's class.
    values
        ``"fp32"``, ``"bf16"`` or ``"int8"``.
    title
        In words.
    prune
        ``prune(rng, weight, density)``: zeroes a float32 weight as the format likes it.
    name
        Of the kernel but for the values; the format's kind if empty.
    **options
        Of ``form.from_dense``.
    """
    from workbench_kernels.matmul import matmul, matmul_bound, matmul_reference

    def make(rng: np.random.Generator, shape: tuple[int, ...], density: float) -> Inputs:
        rows, inputs, tokens = shape
        dense = prune(rng, rng.standard_normal((rows, inputs)).astype(np.float32), density)
        weight = form.from_dense(dense, values, **options)
        return {"weight": weight, "x": rng.standard_normal((tokens, inputs)).astype(np.float32)}

    def moved(given: Inputs) -> int:
        tokens, rows = given["x"].shape[0], given["weight"].shape[0]
        return int(given["weight"].nbytes + given["x"].nbytes + 4 * tokens * rows)

    name = (name or form.kind) + ("" if values == "fp32" else f"-{values}")
    flops: Callable[[Inputs], int] = lambda given: 2 * given["weight"].stored * given["x"].shape[0]  # noqa: E731
    made = Kernel(name, title, matmul, matmul_reference, matmul_bound, make, SHAPES, flops, moved, ("x",))
    return register(made)


def unstructured(rng: np.random.Generator, weight: np.ndarray, density: float) -> np.ndarray:
    """Zero single weights at random."""
    return np.where(rng.random(weight.shape) < density, weight, 0).astype(np.float32)


def blocks(height: int, width: int = 1) -> Callable[..., np.ndarray]:
    """A ``prune`` that zeroes whole blocks of ``height`` rows and ``width`` columns."""

    def prune(rng: np.random.Generator, weight: np.ndarray, density: float) -> np.ndarray:
        rows, columns = weight.shape
        keep = rng.random((-(-rows // height), -(-columns // width))) < density
        mask = keep.repeat(height, axis=0).repeat(width, axis=1)[:rows, :columns]
        return np.where(mask, weight, 0).astype(np.float32)

    return prune
