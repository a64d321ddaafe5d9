"""Constant fan-in: every row that lives has the same number of weights, `Condensed`.

SRigL (Lasby et al., arXiv 2305.02299) trains networks so: neurons are ablated whole, all others have F weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from workbench_kernels._errors import KernelError, check_array
from workbench_kernels._vector import LANES
from workbench_kernels.formats._base import STORED, WeightFormat, check_weight, encode
from workbench_kernels.formats.csr import NARROW, check_below, check_scale, keep_aligned, refuse_options, scattered


@dataclass(frozen=True, eq=False, repr=False)
class Condensed(WeightFormat):
    """Rows of F weights each in strips of 16; rows without weights are dropped.

    Attributes
    ----------
    fan_in : int
        F, weights of every row that lives.
    row : ndarray
        Int32 ``[L]``, ascending: the rows that live.
    index : ndarray
        Columns ``[strips, F, 16]``, uint16 (uint32 if there are more than 65536 columns).
    value : ndarray
        Raw values ``[strips, F, 16]``.
    scale : ndarray
        Float32 ``[N]`` for int8, empty otherwise.
    """

    kind: ClassVar[str] = "condensed"
    fan_in: int
    row: np.ndarray
    index: np.ndarray
    value: np.ndarray
    scale: np.ndarray

    def _validate(self) -> None:
        rows, inputs = self.shape
        check_array("row", self.row, np.int32, (None,))
        shape = (self.strips, self.fan_in, LANES)
        check_array("index", self.index, np.uint16 if inputs <= NARROW else np.uint32, shape)
        check_array("value", self.value, STORED[self.values], shape)
        check_scale(self.scale, rows, self.values)
        keep_aligned(self, "row", "index", "value", "scale")
        check_below("row", self.row, rows)
        check_below("index", self.index, inputs)
        if (np.diff(self.row) < 1).any():
            raise KernelError("row must be ascending, each row once")

    @property
    def strips(self) -> int:
        """Strips of 16 live rows."""
        return -(-self.row.size // LANES)

    @classmethod
    def from_dense(cls, weight: np.ndarray, values: str = "fp32", pad: bool = False, **options: Any) -> Self:
        """Keep what is not zero in a float32 matrix ``[N, K]``.

        Parameters
        ----------
        weight, values
            As for all formats.
        pad
            Fill shorter rows up with zeros that name their last column again.

        Raises
        ------
        KernelError
            If rows that live differ in how many weights they have and ``pad`` is False.
        """
        refuse_options(cls, options)
        weight = check_weight(weight)
        raw, scale = encode(weight, values)
        shape = (int(weight.shape[0]), int(weight.shape[1]))
        kept = np.count_nonzero(weight, axis=1)
        live = np.flatnonzero(kept)
        fan_in = int(kept.max())
        if not pad and (kept[live] != fan_in).any():
            raise KernelError(
                f"rows that live have {kept[live].min()} to {fan_in} weights, and Condensed wants one number for all: "
                "pass pad=True to fill shorter rows up with zeros, or use CSR"
            )
        columns = _columns(weight[live], kept[live], fan_in)
        picked = np.take_along_axis(raw[live], columns, axis=1)
        picked[np.arange(fan_in) >= kept[live, None]] = 0
        kind = np.uint16 if shape[1] <= NARROW else np.uint32
        return cls(shape, values, fan_in, live.astype(np.int32), _strips(columns.astype(kind)), _strips(picked), scale)

    def to_dense(self) -> np.ndarray:
        """The matrix ``[N, K]``, float32."""
        flat = (self.strips * LANES, self.fan_in)
        index, value = (a.transpose(0, 2, 1).reshape(flat)[: self.row.size] for a in (self.index, self.value))
        return scattered(value, self, np.repeat(self.row, self.fan_in), index.astype(np.int64).reshape(-1))

    @property
    def stored(self) -> int:
        """How many weights are stored, padding included."""
        return self.value.size


def _columns(weight: np.ndarray, kept: np.ndarray, fan_in: int) -> np.ndarray:
    """Columns ``[L, F]`` of what is not zero, in order; the last one again where a row has fewer."""
    row, column = np.nonzero(weight)
    begin = np.cumsum(kept) - kept
    out = np.zeros((kept.size, fan_in), np.int64)
    out[row, np.arange(row.size) - begin[row]] = column
    return np.take_along_axis(out, np.minimum(np.arange(fan_in), kept[:, None] - 1), axis=1)


def _strips(rows: np.ndarray) -> np.ndarray:
    """``[L, F]`` to ``[strips, F, 16]``; rows behind the last are zeros."""
    count, fan_in = rows.shape
    out = np.zeros((-(-count // LANES) * LANES, fan_in), rows.dtype)
    out[:count] = rows
    return np.ascontiguousarray(out.reshape(-(-count // LANES), LANES, fan_in).transpose(0, 2, 1))
