"""Sparse or dense weights times dense activations: ``y = x W^T + b``.

    x [T, K] row-major          W [N, K] in any format          y [T, N] row-major

`matmul` checks, allocates and hands over to the kernel of the format, which its own file registers with
`multiplies`. Whatever the format, an output depends on its own row and token only: not on how many tokens come
together, nor on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from workbench_kernels import _memory
from workbench_kernels._errors import KernelError, check_array
from workbench_kernels._pool import check_threads
from workbench_kernels.formats._base import WeightFormat, from_bf16, round_inputs, to_bf16

Multiply = Callable[[Any, np.ndarray, np.ndarray, int], None]
_MULTIPLY: dict[type, Multiply] = {}
_FLOAT = np.dtype(np.float32)
SMALL = 4096  # outputs up to which their alignment matters less than the time that aligning takes


def multiplies(kind: type[WeightFormat]) -> Callable[[Multiply], Multiply]:
    """Register ``function(weight, x, y, threads)``: fill y float32 [T, N] from x float32 [T, K], T >= 1."""

    def register(function: Multiply) -> Multiply:
        _MULTIPLY[kind] = function
        return function

    return register


def matmul(
    weight: WeightFormat,
    x: np.ndarray,
    *,
    bias: np.ndarray | None = None,
    out: np.ndarray | None = None,
    threads: int | None = 1,
) -> np.ndarray:
    """Multiply activations by a stored matrix.

    Parameters
    ----------
    weight
        W [N, K] in any format.
    x
        ``[T, K]`` (or ``[K]`` for one token), C-contiguous; float32, or raw bf16 as uint16.
    bias
        Float32 ``[N]``, added to every token.
    out
        Where to write, ``[T, N]`` of the dtype of ``x``; a new array if None.
    threads
        How many; None for all cores.

    Returns
    -------
    ndarray
        ``[T, N]`` (or ``[N]``) in the dtype of ``x``; products are summed in float32.

    Raises
    ------
    KernelError
        If a shape, dtype or layout does not fit.

    Examples
    --------
    >>> from workbench_kernels.formats import Dense
    >>> matmul(Dense.from_dense(np.eye(3, dtype=np.float32)), np.array([1, 2, 3], np.float32))
    array([1., 2., 3.], dtype=float32)
    """
    multiply = _MULTIPLY.get(type(weight))
    if multiply is None or type(x) is not np.ndarray or x.dtype is not _FLOAT or x.ndim != 2 or not x.flags.carray:
        return _any(weight, x, bias, out, threads)
    (rows, inputs), (tokens, given) = weight.shape, x.shape
    if given != inputs or not tokens:
        return _any(weight, x, bias, out, threads)
    count = 1 if threads == 1 and threads is not True else check_threads(threads)
    if bias is not None:
        check_array("bias", bias, _FLOAT, (rows,))
    if out is None:
        y = np.empty((tokens, rows), _FLOAT) if tokens * rows <= SMALL else _memory.empty((tokens, rows), _FLOAT)
    else:
        y = _checked_out(out, _FLOAT, (tokens, rows))
    multiply(weight, x, y, count)
    if bias is not None:
        y += bias
    return y


def _any(
    weight: WeightFormat, x: np.ndarray, bias: np.ndarray | None, out: np.ndarray | None, threads: int | None
) -> np.ndarray:
    """`matmul` of whatever is not a float32 matrix ready for kernels: other arrays, and what is refused."""
    if not isinstance(weight, WeightFormat):
        raise KernelError(f"weight is a {type(weight).__name__}: pass a format, e.g. Dense.from_dense(array)")
    if not isinstance(x, np.ndarray) or x.dtype not in (np.float32, np.uint16):
        raise KernelError(f"x is {_described(x)}: pass a float32 array, or bf16 as uint16")
    rows, inputs = weight.shape
    vector = x.ndim == 1
    kind = x.dtype
    x = check_array("x", x, kind, (inputs,) if vector else (None, inputs)).reshape(-1, inputs)
    count, shape = check_threads(threads), ((rows,) if vector else (x.shape[0], rows))
    if bias is not None:
        check_array("bias", bias, np.float32, (rows,))
    if out is not None:
        _checked_out(out, kind, shape)
    plain = kind == np.float32
    y = out.reshape(-1, rows) if plain and out is not None else _memory.empty((x.shape[0], rows), np.float32)
    if x.shape[0]:
        _kernel_of(weight)(weight, _memory.writable(np.asarray(x)) if plain else from_bf16(x), y, count)
        if bias is not None:
            y += bias
    if plain:
        return y.reshape(shape) if out is None else out
    result = to_bf16(y).reshape(shape)
    if out is None:
        return result
    out[...] = result
    return out


def _checked_out(out: np.ndarray, kind: Any, shape: tuple[int, ...]) -> np.ndarray:
    check_array("out", out, kind, shape)
    if not out.flags.writeable:
        raise KernelError("out is read-only: pass an array that can be written")
    return out


def _kernel_of(weight: WeightFormat) -> Multiply:
    if type(weight) not in _MULTIPLY:  # the families register when they are imported
        import workbench_kernels

        _ = workbench_kernels.KERNELS
    return _MULTIPLY[type(weight)]


def matmul_reference(weight: WeightFormat, x: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """``y = x W^T + b`` in float64, of the rounded weights and of the activations as the kernel reads them.

    Parameters
    ----------
    weight, x, bias
        As of `matmul`; ``x`` float32.
    """
    seen, dense = round_inputs(x.reshape(-1, x.shape[-1]), weight.sees), weight.to_dense().astype(np.float64)
    bad = ~np.isfinite(seen)
    y = np.where(bad, 0, seen) @ dense.T
    y[bad.astype(np.float64) @ (dense != 0).T > 0] = np.nan  # a weight that is zero need not be multiplied
    return (y if bias is None else y + bias).reshape(*x.shape[:-1], dense.shape[0])


def matmul_bound(weight: WeightFormat, x: np.ndarray) -> np.ndarray:
    """How far `matmul` may be from `matmul_reference`, elementwise.

    Any order of n float32 additions of products errs by at most ``n u sum |w x|`` (u = 2^-24) to first order; a few
    more roundings apply scales. ``gamma = (n + 8) 2 u`` covers both, and denormals that bf16 units flush.
    """
    seen = np.abs(round_inputs(x.reshape(-1, x.shape[-1]), weight.sees))
    magnitude = seen @ np.abs(weight.to_dense()).astype(np.float64).T
    gamma = (weight.shape[1] + 8) * 2.0**-23
    return (gamma * magnitude + weight.shape[1] * 2.0**-126).reshape(*x.shape[:-1], weight.shape[0])


def _described(value: Any) -> str:
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
