"""Unstructured weights in panels of columns: `PanelCSR`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from workbench_kernels._errors import KernelError, check_array
from workbench_kernels.formats._base import STORED, WeightFormat, check_weight, encode
from workbench_kernels.formats.csr import (
    NARROW,
    check_scale,
    check_starts,
    keep_aligned,
    refuse_options,
    scattered,
)

UNIT = 4  # weights that kernels multiply at a time


@dataclass(frozen=True, eq=False, repr=False)
class PanelCSR(WeightFormat):
    """Sparse rows within panels of columns, so that a panel of activations stays in the first cache.

    Blocks of ``height`` rows are cut into panels of ``width`` columns. The rows of a panel are sorted by how many
    weights they have there, in multiples of `UNIT`, so that the length of the innermost loop seldom changes; padding is
    zeros that name the last column again. Activations are rounded to bf16 where values are bf16 or int8.

    Attributes
    ----------
    height, width : int
        Rows of a block (at most 65536); columns of a panel (at most 256).
    group : ndarray
        Int64 ``[blocks * panels + 1, 3]``: where each panel begins in ``run``, ``row`` and ``index``.
    run : ndarray
        Int32 ``[R, 2]``: weights per row, and how many rows in succession have that many.
    row : ndarray
        uint16, rows within their block.
    index, value : ndarray
        uint8 columns within their panel, and raw values.
    scale : ndarray
        Float32 ``[N]`` for int8, empty otherwise.
    """

    kind: ClassVar[str] = "csr-panels"
    height: int
    width: int
    group: np.ndarray
    run: np.ndarray
    row: np.ndarray
    index: np.ndarray
    value: np.ndarray
    scale: np.ndarray

    def _validate(self) -> None:
        rows, inputs = self.shape
        if not (1 <= self.height <= NARROW and 1 <= self.width <= 256):
            raise KernelError(f"height={self.height!r}, width={self.width!r}: 1 to 65536 rows, 1 to 256 columns")
        check_array("group", self.group, np.int64, (self.blocks * self.panels + 1, 3))
        check_array("run", self.run, np.int32, (None, 2))
        check_array("row", self.row, np.uint16, (None,))
        check_array("index", self.index, np.uint8, (None,))
        check_array("value", self.value, STORED[self.values], self.index.shape)
        check_scale(self.scale, rows, self.values)
        keep_aligned(self, "group", "run", "row", "index", "value", "scale")
        for n, array in enumerate((self.run, self.row, self.index)):
            check_starts(f"group[:, {n}]", self.group[:, n], len(array))
        self._check_runs()
        within = np.repeat(np.arange(len(self.group) - 1), np.diff(self.group[:, 1]))
        left = np.minimum(self.height, rows - within // self.panels * self.height)
        check_each_below("row", self.row, left)
        within = np.repeat(np.arange(len(self.group) - 1), np.diff(self.group[:, 2]))
        check_each_below("index", self.index, np.minimum(self.width, inputs - within % self.panels * self.width))

    def _check_runs(self) -> None:
        length, count = self.run[:, 0].astype(np.int64), self.run[:, 1].astype(np.int64)
        if (length < 1).any() or (count < 1).any() or (length % UNIT).any():
            raise KernelError(f"run must hold lengths, multiples of {UNIT}, and counts of at least 1")
        for n, sizes in ((1, count), (2, length * count)):
            total = np.concatenate([[0], np.cumsum(sizes)])[self.group[:, 0]]
            if (total != self.group[:, n]).any():
                raise KernelError(f"group[:, {n}] does not agree with the lengths and counts of run")

    @property
    def blocks(self) -> int:
        """Blocks of rows."""
        return -(-self.shape[0] // self.height)

    @property
    def panels(self) -> int:
        """Panels of columns."""
        return -(-self.shape[1] // self.width)

    @cached_property
    def work(self) -> np.ndarray:
        """Stored weights of each block of rows, int64."""
        return np.diff(self.group[:: self.panels, 2])

    @cached_property
    def room(self) -> int:
        """Most weights of one panel, rounded up to 32."""
        return int(-(-np.diff(self.group[:, 2]).max() // 32) * 32)

    @property
    def sees(self) -> str:
        """bf16 for bf16 and int8 values."""
        return "fp32" if self.values == "fp32" else "bf16"

    @property
    def stored(self) -> int:
        """How many weights are stored, padding included."""
        return self.value.size

    @classmethod
    def from_dense(
        cls,
        weight: np.ndarray,
        values: str = "fp32",
        height: int | None = None,
        width: int | None = None,
        **options: Any,
    ) -> Self:
        """Keep what is not zero in a float32 matrix ``[N, K]``.

        Parameters
        ----------
        weight, values
            As for all formats.
        height, width
            Rows of a block and columns of a panel; by default even parts of up to 256 rows, and of 144 columns (256
            where activations are bf16).
        """
        refuse_options(cls, options)
        weight = check_weight(weight)
        raw, scale = encode(weight, values)
        rows, inputs = (int(n) for n in weight.shape)
        height = height or part(rows, 256)
        width = width or part(inputs, 144 if values == "fp32" else 256)
        arrays = _in_panels(weight, raw, height, width)
        return cls((rows, inputs), values, height, width, *arrays, scale)

    def to_dense(self) -> np.ndarray:
        """The matrix ``[N, K]``, float32."""
        length, count = self.run[:, 0], self.run[:, 1]
        groups = np.arange(len(self.group) - 1)
        block = np.repeat(groups // self.panels, np.diff(self.group[:, 1]))
        row = np.repeat(block * self.height + self.row, np.repeat(length, count))
        panel = np.repeat(groups % self.panels, np.diff(self.group[:, 2]))
        return scattered(self.value, self, row, panel * self.width + self.index)


def part(total: int, most: int) -> int:
    """The size of even parts of ``total`` that are at most ``most``.

    Examples
    --------
    >>> part(576, 256), part(5, 256)
    (192, 5)
    """
    return -(-total // -(-total // most))


def check_each_below(name: str, numbers: np.ndarray, ends: np.ndarray) -> None:
    """Raise `KernelError` if one of ``numbers`` reaches its own end."""
    bad = np.flatnonzero(numbers >= ends)
    if bad.size:
        raise KernelError(f"{name}[{bad[0]}] is {numbers[bad[0]]}: its block ends with {ends[bad[0]] - 1}")


def _in_panels(weight: np.ndarray, raw: np.ndarray, height: int, width: int) -> tuple[np.ndarray, ...]:
    """Arrays group, run, row, index and value of a `PanelCSR`."""
    panels, blocks = -(-weight.shape[1] // width), -(-weight.shape[0] // height)
    row, column = np.nonzero(weight)
    key = row * panels + column // width  # each row's part of each panel, in row-major order
    count = np.bincount(key, minlength=weight.shape[0] * panels)
    begin = np.concatenate([[0], np.cumsum(count)])
    length = -(-count // UNIT) * UNIT
    part_row, part_panel = np.divmod(np.arange(count.size), panels)
    group = part_row // height * panels + part_panel
    order = np.lexsort((part_row, -length, group))
    order = order[length[order] > 0]
    place = np.zeros(count.size, np.int64)
    place[order] = np.cumsum(length[order]) - length[order]
    at = place[key] + np.arange(row.size) - begin[key]
    last = column[np.minimum(begin[1:], column.size) - 1] % width if column.size else count
    index = np.repeat(last[order], length[order]).astype(np.uint8)
    value = np.zeros(index.size, raw.dtype)
    index[at], value[at] = column % width, raw[row, column]
    sizes, groups = length[order], group[order]
    fresh = np.flatnonzero(np.diff(sizes, prepend=-1) | np.diff(groups, prepend=-1))
    run = np.stack([sizes[fresh], np.diff(np.append(fresh, sizes.size))], axis=1).astype(np.int32)
    ends = [np.bincount(groups[fresh], minlength=blocks * panels), np.bincount(groups, minlength=blocks * panels)]
    ends.append(np.bincount(group, weights=length, minlength=blocks * panels).astype(np.int64))
    starts = np.zeros((blocks * panels + 1, 3), np.int64)
    starts[1:] = np.cumsum(np.stack(ends, axis=1), axis=0)
    return starts, run, (part_row[order] % height).astype(np.uint16), index, value
