"""Blocks of 4 rows and 1 column: four consecutive outputs share one input.

The layout is that of "An Efficient Sparse Inference Software Accelerator for Transformer-based Language Models on
CPUs" (Shen et al. 2023, arXiv 2306.16601). Strips of 4 rows keep the columns in which any of them has a weight, in
units of 1 (fp32), 2 (bf16, pairs) or 4 (int8, quads) columns; the last unit of a strip is padded with zeros in a
column that the strip has anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from workbench_kernels import _memory
from workbench_kernels._errors import KernelError, check_array
from workbench_kernels.formats._base import STORED, WeightFormat, check_weight, decode, encode

HEIGHT = 4  # rows of a block
GROUP = 16  # rows that are worked on together: strips come in groups of four
DEPTH = {"fp32": 1, "bf16": 2, "int8": 4}  # columns of a unit
LONGEST = 1 << 17  # inputs up to which sums of int8 products fit 32 bits


@dataclass(frozen=True, eq=False, repr=False)
class RowBlocks(WeightFormat):
    """W [N, K] in blocks of 4 x 1; ``kind`` is ``"4x1"``.

    Attributes
    ----------
    start : ndarray
        Int64 ``[S + 1]``: the first unit of each strip of 4 rows; S = N / 4, rounded up to whole groups of 16 rows.
    index : ndarray
        ``[units, depth]``: columns, uint16 or, from 65537 inputs on, int32.
    value : ndarray
        ``[units, 4, depth]``: weights of rows 0 to 3 of the strip.
    scale : ndarray
        Float32 ``[4 S]`` of the rows, empty unless int8.
    offset : ndarray
        Int32 ``[4 S]``: minus 128 times the sum of the row's integers, because activations are stored as uint8 with
        zero point 128; empty unless int8.
    """

    kind: ClassVar[str] = "4x1"
    start: np.ndarray
    index: np.ndarray
    value: np.ndarray
    scale: np.ndarray
    offset: np.ndarray

    def _validate(self) -> None:
        rows, inputs = self.shape
        depth, strips = DEPTH[self.values], -(-rows // GROUP) * GROUP // HEIGHT
        padded = strips * HEIGHT if self.values == "int8" else 0
        check_array("start", self.start, np.int64, (strips + 1,))
        units = int(self.start[-1])
        if self.start[0] != 0 or (np.diff(self.start) < 0).any():
            raise KernelError("start has to begin at 0 and never to fall: it counts the units of all strips before")
        check_array("index", self.index, _index_type(inputs), (units, depth))
        check_array("value", self.value, STORED[self.values], (units, HEIGHT, depth))
        check_array("scale", self.scale, np.float32, (padded,))
        check_array("offset", self.offset, np.int32, (padded,))
        low, high = (int(self.index.min()), int(self.index.max())) if units else (0, 0)
        if low < 0 or high >= inputs:
            raise KernelError(f"index runs from {low} to {high}: columns are 0 to {inputs - 1}")
        if self.values == "int8" and inputs > LONGEST:
            raise KernelError(f"shape={self.shape}: sums of int8 products overflow beyond {LONGEST} inputs")
        if padded and (self.offset != _offsets(self.start, self.value)).any():
            raise KernelError("offset is not minus 128 times the sums of the rows of value")

    @classmethod
    def from_dense(cls, weight: np.ndarray, values: str = "fp32", **options: Any) -> Self:
        """Convert a float32 matrix ``[N, K]``; columns that are zero in all 4 rows of a strip are left out.

        Examples
        --------
        >>> RowBlocks.from_dense(np.eye(8, dtype=np.float32))
        RowBlocks(8 x 8, fp32, 32 stored, 184 bytes)
        """
        weight = check_weight(weight)
        rows, inputs = weight.shape
        raw, scale = encode(weight, values)
        padded = -(-rows // GROUP) * GROUP
        full = np.zeros((padded, inputs), raw.dtype)
        full[:rows] = raw
        blocks = full.reshape(-1, HEIGHT, inputs)
        live = (decode(full, values, np.ones(padded, np.float32)) != 0).reshape(blocks.shape).any(axis=1)
        strip, column = np.nonzero(live)
        start, place = _places(live.sum(axis=1), DEPTH[values], strip)
        index, value = _filled(start, strip, column, place, blocks, DEPTH[values])
        if values != "int8":
            none = _memory.empty(0, np.int32)
            return cls((rows, inputs), values, start, index, value, _memory.empty(0, np.float32), none)
        scales = _memory.zeros(padded, np.float32)
        scales[:rows] = scale
        return cls((rows, inputs), values, start, index, value, scales, _offsets(start, value))

    def to_dense(self) -> np.ndarray:
        """The matrix ``[N, K]`` that kernels multiply by, as float32."""
        rows, inputs = self.shape
        strips, depth = self.start.size - 1, self.index.shape[1]
        ones = np.ones(self.value.shape[0] * HEIGHT, np.float32)
        plain = decode(self.value.reshape(-1, depth), self.values, ones).reshape(self.value.shape)
        dense = np.zeros((strips, HEIGHT, inputs), np.float32)
        strip = np.repeat(np.arange(strips), np.diff(self.start))
        np.add.at(dense, (strip[:, None, None], np.arange(HEIGHT)[:, None], self.index[:, None, :]), plain)
        flat = dense.reshape(-1, inputs)
        if self.values == "int8":
            flat *= self.scale[:, None]
        return np.ascontiguousarray(flat[:rows])

    @property
    def sees(self) -> str:
        """How its kernel reads activations: ``"fp32"``, ``"bf16"`` or ``"int8-token"``."""
        return "int8-token" if self.values == "int8" else self.values

    @property
    def stored(self) -> int:
        """How many weights are stored, padding included."""
        return self.value.size


def _index_type(inputs: int) -> type:
    return np.uint16 if inputs <= 1 << 16 else np.int32


def _offsets(start: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Minus 128 times the sum of each row's integers."""
    running = np.zeros((value.shape[0] + 1, HEIGHT), np.int64)
    np.cumsum(value.sum(axis=2, dtype=np.int64), axis=0, out=running[1:])
    sums = -128 * (running[start[1:]] - running[start[:-1]])
    return _memory.aligned(sums.reshape(-1).astype(np.int32))


def _places(counts: np.ndarray, depth: int, strip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first unit of each strip, and for each block in order where it stands among the units' columns."""
    start = _memory.zeros(counts.size + 1, np.int64)
    np.cumsum(-(-counts // depth), out=start[1:])
    before = np.cumsum(counts) - counts
    return start, start[strip] * depth + np.arange(strip.size) - before[strip]


def _filled(
    start: np.ndarray, strip: np.ndarray, column: np.ndarray, place: np.ndarray, blocks: np.ndarray, depth: int
) -> tuple[np.ndarray, np.ndarray]:
    """Columns ``[units, depth]`` and weights ``[units, 4, depth]``."""
    units, inputs = int(start[-1]), blocks.shape[2]
    index = _memory.zeros((units, depth), _index_type(inputs))
    value = _memory.zeros((units, HEIGHT, depth), blocks.dtype)
    first = place // depth
    if units:
        opening = place % depth == 0
        index[first[opening]] = column[opening, None]  # padding repeats the first column of its unit
        index.reshape(-1)[place] = column
        value[first, :, place % depth] = blocks[strip, :, column]
    return index, value
