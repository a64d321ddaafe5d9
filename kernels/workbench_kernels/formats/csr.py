"""Unstructured weights row by row, `CSR`, and the checks that all formats of single weights share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from workbench_kernels import _memory
from workbench_kernels._errors import KernelError, check_array
from workbench_kernels.formats._base import STORED, WeightFormat, check_weight, decode, encode, from_bf16

NARROW = 1 << 16  # columns that a uint16 can name


def check_scale(scale: Any, rows: int, values: str) -> None:
    """Raise `KernelError` unless there is one float32 scale per row for int8, and none otherwise."""
    check_array("scale", scale, np.float32, (rows if values == "int8" else 0,))


def check_starts(name: str, starts: np.ndarray, end: int) -> None:
    """Raise `KernelError` unless offsets begin with 0, never fall, and end with ``end``."""
    if starts[0] != 0 or starts[-1] != end or (np.diff(starts) < 0).any():
        raise KernelError(f"{name} must begin with 0, never fall and end with {end}")


def check_below(name: str, numbers: np.ndarray, end: int) -> None:
    """Raise `KernelError` if one of ``numbers`` is ``end`` or more, or negative."""
    if numbers.size and (int(numbers.max()) >= end or int(numbers.min()) < 0):
        raise KernelError(f"{name} has entries outside of 0..{end - 1}")


def keep_aligned(weight: WeightFormat, *names: str) -> None:
    """Replace arrays by aligned copies with zeros in the slack behind: kernels read it, as indices too.

    Nobody else can change what was checked.
    """
    for name in names:
        array = getattr(weight, name)
        copy = _memory.zeros(array.size + _memory.SLACK // array.itemsize, array.dtype)
        copy[: array.size] = array.reshape(-1)
        object.__setattr__(weight, name, copy[: array.size].reshape(array.shape))


def widened(raw: np.ndarray, values: str) -> np.ndarray:
    """Stored values as float32, without scales."""
    return from_bf16(raw) if values == "bf16" else raw.astype(np.float32)


@dataclass(frozen=True, eq=False, repr=False)
class CSR(WeightFormat):
    """Compressed sparse rows.

    Attributes
    ----------
    start : ndarray
        Int64 ``[N + 1]``: row n holds entries ``start[n]`` to ``start[n + 1]``.
    index : ndarray
        Column of each entry: uint16, or uint32 if there are more than 65536 columns.
    value : ndarray
        Its raw value.
    scale : ndarray
        Float32 ``[N]`` for int8, empty otherwise.

    Examples
    --------
    >>> CSR.from_dense(np.eye(3, dtype=np.float32)).index
    array([0, 1, 2], dtype=uint16)
    """

    kind: ClassVar[str] = "csr"
    start: np.ndarray
    index: np.ndarray
    value: np.ndarray
    scale: np.ndarray

    def _validate(self) -> None:
        rows, inputs = self.shape
        check_array("start", self.start, np.int64, (rows + 1,))
        check_array("index", self.index, np.uint16 if inputs <= NARROW else np.uint32, (None,))
        check_array("value", self.value, STORED[self.values], self.index.shape)
        check_scale(self.scale, rows, self.values)
        keep_aligned(self, "start", "index", "value", "scale")
        check_starts("start", self.start, self.index.size)
        check_below("index", self.index, inputs)

    @classmethod
    def from_dense(cls, weight: np.ndarray, values: str = "fp32", **options: Any) -> Self:
        """Keep what is not zero in a float32 matrix ``[N, K]``."""
        refuse_options(cls, options)
        weight = check_weight(weight)
        raw, scale = encode(weight, values)
        row, column = np.nonzero(weight)
        start = np.zeros(weight.shape[0] + 1, np.int64)
        np.cumsum(np.bincount(row, minlength=weight.shape[0]), out=start[1:])
        kind = np.uint16 if weight.shape[1] <= NARROW else np.uint32
        shape = (int(weight.shape[0]), int(weight.shape[1]))
        return cls(shape, values, start, column.astype(kind), raw[row, column], scale)

    def to_dense(self) -> np.ndarray:
        """The matrix ``[N, K]``, float32."""
        row = np.repeat(np.arange(self.shape[0]), np.diff(self.start))
        return scattered(self.value, self, row, self.index.astype(np.int64))

    @cached_property
    def work(self) -> np.ndarray:
        """Stored weights of each row, int64."""
        return np.diff(self.start)

    @property
    def stored(self) -> int:
        """How many weights are stored."""
        return self.value.size


def refuse_options(cls: type, options: dict[str, Any]) -> None:
    """Raise `KernelError` if a format was given an option that it does not have."""
    if options:
        raise KernelError(f"{cls.__name__} has no option {', '.join(options)}")


def scattered(value: np.ndarray, weight: Any, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Dense float32 ``[N, K]`` from the row and column of each stored value; double entries add up."""
    dense = np.zeros(weight.shape, np.float32)
    np.add.at(dense, (row, column), widened(value.reshape(-1), weight.values))
    return decode(dense, "int8", weight.scale) if weight.values == "int8" else dense
