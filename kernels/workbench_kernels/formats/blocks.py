"""Formats of whole blocks: 16 output rows that share their inputs, rows in lanes.

    ColumnBlocks   16x1: a strip of 16 rows lists its inputs one by one
    BlockRows      bsr16, bsr32: it lists runs of 16 (32) consecutive inputs; a 32 x 32 block lies as two 16-row strips

    index [blocks]            the input (or the run's number)      uint16 up to 65,536 inputs, else uint32
    value [blocks, run, 16]   float32, bf16 as uint16, or int8     ``run`` inputs of 16 rows each
    start [strips + 1]        where each strip begins in both
    scale [16 strips]         one float32 a row for int8, else empty

A block is stored if any of its weights is not zero. Weights are widened to float32 in registers, so that activations
are read as they are whatever the values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from workbench_kernels import _memory
from workbench_kernels._errors import KernelError, check_array, check_choice
from workbench_kernels.formats._base import STORED, WeightFormat, check_weight, decode, encode

ROWS = 16


def index_type(inputs: int) -> type:
    """The narrowest unsigned type that numbers this many inputs."""
    return np.uint16 if inputs <= 1 << 16 else np.uint32


@dataclass(frozen=True, eq=False, repr=False)
class ColumnBlocks(WeightFormat):
    """Blocks of 16 rows by one input, or by a run of consecutive inputs.

    Attributes
    ----------
    index
        ``[blocks]``, ascending within a strip.
    value
        ``[blocks, run, 16]``.
    start
        Int64 ``[strips + 1]``.
    scale
        Float32 ``[16 strips]`` for int8, else empty.
    """

    kind: ClassVar[str] = "16x1"
    index: np.ndarray
    value: np.ndarray
    start: np.ndarray
    scale: np.ndarray

    @property
    def run(self) -> int:
        """Consecutive inputs of a block."""
        return 1

    def _validate(self) -> None:
        rows, inputs = self.shape
        strips = -(-rows // ROWS)
        check_array("index", self.index, index_type(inputs), (None,))
        blocks = self.index.size
        check_array("value", self.value, STORED[self.values], (blocks, self.run, ROWS))
        check_array("start", self.start, np.int64, (strips + 1,))
        check_array("scale", self.scale, np.float32, (strips * ROWS if self.values == "int8" else 0,))
        if self.start[0] != 0 or self.start[-1] != blocks or (np.diff(self.start) < 0).any():
            raise KernelError(f"start must rise from 0 to {blocks}, the number of blocks")
        if blocks and int(self.index.max()) * self.run >= inputs:
            raise KernelError(f"index reaches {self.index.max()}: {inputs} inputs have {-(-inputs // self.run)} runs")

    @classmethod
    def from_dense(cls, weight: np.ndarray, values: str = "fp32", **options: Any) -> Self:
        """Convert a float32 matrix ``[N, K]``; blocks of zeros are left out."""
        return cls(*_blocks(check_weight(weight), values, 1, ROWS))

    def to_dense(self) -> np.ndarray:
        """The matrix ``[N, K]`` as float32."""
        rows, inputs = self.shape
        runs, strips = -(-inputs // self.run), len(self.start) - 1
        raw = np.zeros((strips, runs, self.run, ROWS), self.value.dtype)
        raw[np.repeat(np.arange(strips), np.diff(self.start)), self.index] = self.value
        whole = raw.transpose(0, 3, 1, 2).reshape(strips * ROWS, runs * self.run)[:rows, :inputs]
        return decode(whole, self.values, self.scale[:rows])

    @property
    def stored(self) -> int:
        """Weights stored, padding included."""
        return int(self.value.size)


@dataclass(frozen=True, eq=False, repr=False)
class BlockRows(ColumnBlocks):
    """Blocks of ``block`` rows by ``block`` inputs, 16 or 32; those of 32 rows lie as two strips with equal indices.

    Attributes
    ----------
    block
        16 or 32.
    """

    kind: ClassVar[str] = "bsr"
    block: int = 16

    @property
    def run(self) -> int:
        """Consecutive inputs of a block."""
        return self.block

    @property
    def name(self) -> str:
        """E.g. ``"bsr16"``, ``"bsr32-bf16"``."""
        return f"bsr{self.block}" + ("" if self.values == "fp32" else f"-{self.values}")

    def _validate(self) -> None:
        check_choice("block", self.block, (16, 32))
        super()._validate()

    @classmethod
    def from_dense(cls, weight: np.ndarray, values: str = "fp32", *, block: int = 16, **options: Any) -> Self:
        """Convert a float32 matrix ``[N, K]``; blocks of zeros are left out."""
        check_choice("block", block, (16, 32))
        return cls(*_blocks(check_weight(weight), values, block, block), block)


def _blocks(weight: np.ndarray, values: str, run: int, height: int) -> tuple[Any, ...]:
    """Shape, values and arrays of the blocks ``height`` by ``run`` that hold anything, in strips of 16 rows."""
    rows, inputs = weight.shape
    raw, row_scale = encode(weight, values)
    strips, runs, share = -(-rows // ROWS), -(-inputs // run), height // ROWS
    whole = np.zeros((-(-strips // share) * share * ROWS, runs * run), raw.dtype)
    whole[:rows, :inputs] = raw
    lanes = whole.reshape(-1, ROWS, runs, run).transpose(0, 2, 3, 1)
    used = np.zeros(whole.shape, bool)
    used[:rows, :inputs] = weight != 0
    kept = used.reshape(-1, height, runs, run).any(axis=(1, 3)).repeat(share, axis=0)[:strips]
    strip, index = np.nonzero(kept)
    start = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int64)
    scale = _memory.zeros(strips * ROWS if values == "int8" else 0, np.float32)
    scale[: row_scale.size] = row_scale
    index = _memory.aligned(index.astype(index_type(inputs)))
    return weight.shape, values, index, _memory.aligned(lanes[:strips][strip, index]), start, scale
