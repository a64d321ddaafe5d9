"""Formats in strips of 32 output rows, rows in lanes: dense, and bitmap for any pattern of zeros.

For every step of s inputs (s = 1 for fp32, 2 for bf16, 4 for int8: what one 32-bit lane holds) a strip has two
registers of 16 rows. `Dense` stores both whole. `Bitmap` stores one mask per register and the weights that are set
in it, one after the other; kernels expand them back into the register.

    Dense.value    [strips, K/s, 2, 16, s]
    Bitmap.mask    [strips, K/s, 2]   uint16, uint32 or uint64: bit 16... of row r and input i is r * s + i
    Bitmap.value   [stored]           Bitmap.start [strips + 1]: where each strip begins

Int8 weights are stored as uint8 with zero point 128, and ``scale`` [rows, padded] holds one float32 a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from workbench_kernels import _memory
from workbench_kernels._errors import KernelError, check_array, check_choice
from workbench_kernels._panels import STEP, padded
from workbench_kernels.formats._base import VALUES, WeightFormat, check_weight, decode, encode

ROWS = 32
AT_ONCE = 64  # strips that are converted at once
MASKS = {"fp32": np.uint16, "bf16": np.uint32, "int8": np.uint64}
RAW = {"fp32": np.float32, "bf16": np.uint16, "int8": np.uint8}


def strips_of(rows: int) -> int:
    """Strips that hold this many rows."""
    return -(-rows // ROWS)


def arrange(weight: np.ndarray, values: str, zero: int) -> np.ndarray:
    """Raw values ``[N, K]`` as ``[strips, K/s, 2, 16 s]``, missing rows and inputs ``zero``."""
    rows, inputs = weight.shape
    step, full = STEP[values], padded(inputs, values)
    whole = np.full((strips_of(rows) * ROWS, full), zero, weight.dtype)
    whole[:rows, :inputs] = weight
    lanes = whole.reshape(-1, 2, 16, full // step, step).transpose(0, 3, 1, 2, 4)
    return lanes.reshape(-1, full // step, 2, 16 * step)


def restore(lanes: np.ndarray, shape: tuple[int, int], values: str) -> np.ndarray:
    """Undo `arrange`."""
    step = STEP[values]
    steps = lanes.shape[1]
    whole = lanes.reshape(-1, steps, 2, 16, step).transpose(0, 2, 3, 1, 4).reshape(-1, steps * step)
    return whole[: shape[0], : shape[1]]


def offset(raw: np.ndarray, values: str) -> np.ndarray:
    """Int8 as uint8 with zero point 128; anything else as it is."""
    return (raw.astype(np.int16) + 128).astype(np.uint8) if values == "int8" else raw


def centred(raw: np.ndarray, values: str) -> np.ndarray:
    """Undo `offset`."""
    return (raw.astype(np.int16) - 128).astype(np.int8) if values == "int8" else raw


def padded_scale(scale: np.ndarray, rows: int) -> np.ndarray:
    """Scales of whole strips, or nothing where there are none."""
    out = _memory.zeros(strips_of(rows) * ROWS if scale.size else 0, np.float32)
    out[: scale.size] = scale
    return out


class _Strips(WeightFormat):
    """What dense and bitmap share."""

    @property
    def sees(self) -> str:
        """Activations are rounded like the weights: bf16 with bf16, int8 groups with int8."""
        return self.values

    @property
    def _steps(self) -> tuple[int, int]:
        return strips_of(self.shape[0]), padded(self.shape[1], self.values) // STEP[self.values]


@dataclass(frozen=True, eq=False, repr=False)
class Dense(_Strips):
    """All weights, in the order in which a kernel reads them.

    Attributes
    ----------
    value
        ``[strips, K/s, 2, 16 s]``: float32, bf16 as uint16, or uint8 with zero point 128.
    scale
        Float32 ``[32 strips]`` for int8, else empty.
    """

    kind: ClassVar[str] = "dense"
    value: np.ndarray
    scale: np.ndarray

    def _validate(self) -> None:
        strips, steps = self._steps
        check_array("value", self.value, RAW[self.values], (strips, steps, 2, 16 * STEP[self.values]))
        check_array("scale", self.scale, np.float32, (strips * ROWS if self.values == "int8" else 0,))

    @classmethod
    def from_dense(cls, weight: np.ndarray, values: str = "fp32", **options: Any) -> Self:
        """Convert a float32 matrix ``[N, K]``, some strips at a time: it may be the largest matrix of a model."""
        weight = check_weight(weight)
        check_choice("values", values, VALUES)
        zero, step = 128 if values == "int8" else 0, STEP[values]
        strips, steps = strips_of(weight.shape[0]), padded(weight.shape[1], values) // step
        lanes, scales = _memory.empty((strips, steps, 2, 16 * step), RAW[values]), []
        for first in range(0, strips, AT_ONCE):
            raw, scale = encode(weight[first * ROWS : (first + AT_ONCE) * ROWS], values)
            lanes[first : first + AT_ONCE] = arrange(offset(raw, values), values, zero)
            scales.append(scale)
        scale = np.concatenate([np.empty(0, np.float32), *scales])
        return cls(weight.shape, values, lanes, padded_scale(scale, weight.shape[0]))

    def to_dense(self) -> np.ndarray:
        """The matrix ``[N, K]`` as float32."""
        raw = restore(centred(self.value, self.values), self.shape, self.values)
        return decode(raw, self.values, self.scale[: self.shape[0]])

    @property
    def stored(self) -> int:
        """Weights stored, padding included."""
        return int(self.value.size)


@dataclass(frozen=True, eq=False, repr=False)
class Bitmap(_Strips):
    """The weights that are not zero, and a bit for each that could be.

    Attributes
    ----------
    mask
        ``[strips, K/s, 2]`` of uint16 (fp32), uint32 (bf16) or uint64 (int8).
    value
        ``[stored]``: float32, bf16 as uint16, or uint8 with zero point 128.
    start
        Int64 ``[strips + 1]``.
    scale
        Float32 ``[32 strips]`` for int8, else empty.
    """

    kind: ClassVar[str] = "bitmap"
    mask: np.ndarray
    value: np.ndarray
    start: np.ndarray
    scale: np.ndarray

    def _validate(self) -> None:
        strips, steps = self._steps
        check_array("mask", self.mask, MASKS[self.values], (strips, steps, 2))
        check_array("start", self.start, np.int64, (strips + 1,))
        check_array("value", self.value, RAW[self.values], (None,))
        check_array("scale", self.scale, np.float32, (strips * ROWS if self.values == "int8" else 0,))
        ones = np.bitwise_count(self.mask).sum(axis=(1, 2), dtype=np.int64)
        if self.start[0] != 0 or (np.diff(self.start) != ones).any() or self.start[-1] != self.value.size:
            raise KernelError("start does not count the bits of mask: start[s + 1] - start[s] = bits of strip s")

    @classmethod
    def from_dense(cls, weight: np.ndarray, values: str = "fp32", **options: Any) -> Self:
        """Convert a float32 matrix ``[N, K]``; entries that are zero are left out."""
        weight = check_weight(weight)
        raw, scale = encode(weight, values)
        set_ = arrange(weight != 0, values, 0)
        lanes = arrange(offset(raw, values), values, 0)
        mask = np.packbits(set_, axis=-1, bitorder="little").view(MASKS[values])[..., 0]
        start = np.concatenate([[0], np.cumsum(set_.sum(axis=(1, 2, 3)))]).astype(np.int64)
        arrays = _memory.aligned(mask), _memory.aligned(lanes[set_]), start
        return cls(weight.shape, values, *arrays, padded_scale(scale, weight.shape[0]))

    def to_dense(self) -> np.ndarray:
        """The matrix ``[N, K]`` as float32."""
        width = 16 * STEP[self.values]
        bits = np.unpackbits(self.mask.view(np.uint8).reshape(*self.mask.shape, -1), axis=-1, bitorder="little")
        lanes = np.zeros((*self.mask.shape, width), RAW[self.values])
        lanes[bits.astype(bool)] = self.value
        lanes = centred(lanes, self.values)
        lanes[~bits.astype(bool)] = 0
        return decode(restore(lanes, self.shape, self.values), self.values, self.scale[: self.shape[0]])

    @property
    def stored(self) -> int:
        """Weights stored."""
        return int(self.value.size)


@dataclass(frozen=True, eq=False, repr=False)
class NM(Bitmap):
    """At most n of every m consecutive inputs of a row: a bitmap of ``m`` bits a group, which is what N:M needs.

    Two of four cost four bits of mask, as two indices of two bits would, and need no other kernel.

    Attributes
    ----------
    n, m
        The pattern.
    """

    kind: ClassVar[str] = "nm"
    n: int = 2
    m: int = 4

    def _validate(self) -> None:
        super()._validate()
        if not 1 <= self.n <= self.m:
            raise KernelError(f"n={self.n}, m={self.m}: 1 <= n <= m")
        rows, inputs = self.shape
        full = np.zeros((rows, -(-inputs // self.m) * self.m), bool)
        full[:, :inputs] = self.to_dense() != 0
        most = int(full.reshape(rows, -1, self.m).sum(axis=2).max())
        if most > self.n:
            raise KernelError(
                f"{most} weights of {self.m} consecutive inputs are not zero: {self.n}:{self.m} allows {self.n}"
            )

    @property
    def name(self) -> str:
        """E.g. ``"2:4"``, ``"2:4-int8"``."""
        pattern = f"{self.n}:{self.m}"
        return pattern if self.values == "fp32" else f"{pattern}-{self.values}"

    @classmethod
    def from_dense(cls, weight: np.ndarray, values: str = "fp32", *, n: int = 2, m: int = 4, **options: Any) -> Self:
        """Convert a float32 matrix ``[N, K]`` that keeps to n of m."""
        base = Bitmap.from_dense(weight, values)
        return cls(base.shape, values, base.mask, base.value, base.start, base.scale, n, m)
