"""What all weight formats share: a frozen value that knows its shape, its bytes and how to be dense again.

A format stores W [out, in]. Values are ``fp32``, ``bf16`` (raw uint16, rounded to nearest even) or ``int8`` with one
float32 scale per row (``w = scale[row] * q``, q in -127..127, ``scale = max |row| / 127``).

`WeightFormat.sees` says how its kernel reads activations, so that the reference can be exact about it:
``fp32`` as they are, ``bf16`` rounded to bf16, ``int8`` rounded per token and group of inputs, ``int8-token`` rounded
per token (see `round_inputs`).
"""

from __future__ import annotations

import html
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np

from workbench_kernels._errors import KernelError, check_array, check_choice

VALUES = ("fp32", "bf16", "int8")
STORED = {"fp32": np.float32, "bf16": np.uint16, "int8": np.int8}
ROWS = 1024  # that are rounded at a time, which takes several times their memory: an output head is large
GROUP = 64  # inputs that share one scale where activations are int8


def to_bf16(values: np.ndarray) -> np.ndarray:
    """Float32 to raw bf16 (uint16), nearest even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), ((bits >> 16) | 0x40).astype(np.uint16), rounded)


def from_bf16(raw: np.ndarray) -> np.ndarray:
    """Raw bf16 (uint16) to float32, exactly."""
    return (raw.astype(np.uint32) << 16).view(np.float32)


def quantise_rows(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Int8 values ``[N, K]`` and float32 scales ``[N]`` with ``W ~ scale q``; a row of zeros has scale 0."""
    scale = (np.abs(weight).max(axis=1, initial=0) / 127).astype(np.float32)
    safe = np.where(scale > 0, scale, 1).astype(np.float32)
    return np.clip(np.rint(weight / safe[:, None]), -127, 127).astype(np.int8), scale


def round_inputs(x: np.ndarray, sees: str) -> np.ndarray:
    """The activations ``[T, K]`` that a kernel really multiplies, as float64.

    ``int8``: per token and group of 64 inputs, ``q = rint(x / s)`` with ``s = max |x| / 127`` of the group;
    ``int8-token``: with one scale per token. Where the scale would be below 2^-126, zeros.
    """
    if sees == "fp32":
        return x.astype(np.float64)
    if sees == "bf16":
        return from_bf16(to_bf16(x)).astype(np.float64)
    tokens, inputs = x.shape
    if sees == "int8-token":
        step = np.abs(x).max(axis=1, keepdims=True, initial=0) * np.float32(1 / 127)
        usable = step >= np.float32(2.0**-126)
        over = np.where(usable, np.float32(1) / np.where(usable, step, 1), 0).astype(np.float32)
        return np.rint(x * over).astype(np.float64) * step
    padded = np.zeros((tokens, -(-inputs // GROUP) * GROUP), np.float32)
    padded[:, :inputs] = x
    groups = padded.reshape(tokens, padded.shape[1] // GROUP, GROUP)
    scale = np.abs(groups).max(axis=2, keepdims=True) * np.float32(1 / 127)
    usable = scale >= np.float32(2.0**-126)
    inverse = np.where(usable, np.float32(1) / np.where(usable, scale, 1), 0).astype(np.float32)
    rounded = np.rint(groups * inverse).astype(np.float64) * scale
    return rounded.reshape(padded.shape)[:, :inputs]


@dataclass(frozen=True, eq=False, repr=False)
class WeightFormat:
    """Base of all formats.

    Attributes
    ----------
    shape : (int, int)
        Outputs N and inputs K of the matrix that it stands for.
    values : str
        ``"fp32"``, ``"bf16"`` or ``"int8"``.
    """

    kind: ClassVar[str]
    shape: tuple[int, int]
    values: str

    def __post_init__(self) -> None:
        ok = len(self.shape) == 2 and all(isinstance(n, int) and n >= 1 for n in self.shape)
        if not ok:
            raise KernelError(f"shape={self.shape!r}: two whole numbers of at least 1, outputs and inputs")
        check_choice("values", self.values, VALUES)
        self._validate()
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles take the fields only, not what kernels keep ready beside them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _validate(self) -> None:
        """Raise `KernelError` if the arrays do not fit each other."""

    @classmethod
    def from_dense(cls, weight: np.ndarray, values: str = "fp32", **options: Any) -> Self:
        """Convert a float32 matrix ``[N, K]``; what is zero is left out where the format can leave it out."""
        raise NotImplementedError

    def to_dense(self) -> np.ndarray:
        """The matrix ``[N, K]`` that kernels multiply by, as float32: rounded values, scales applied."""
        raise NotImplementedError

    @property
    def sees(self) -> str:
        """How its kernel reads activations: ``"fp32"``, ``"bf16"``, ``"int8"`` or ``"int8-token"``."""
        return "fp32"

    @property
    def stored(self) -> int:
        """How many weights are stored, padding included."""
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays: what one multiplication by a vector reads."""
        arrays = (getattr(self, f.name) for f in fields(self))
        return sum(a.nbytes for a in arrays if isinstance(a, np.ndarray))

    @property
    def name(self) -> str:
        """Kind and values, e.g. ``"bitmap-int8"``; fp32 goes without saying."""
        return self.kind if self.values == "fp32" else f"{self.kind}-{self.values}"

    def __repr__(self) -> str:
        n, k = self.shape
        return f"{type(self).__name__}({n} x {k}, {self.values}, {self.stored:,} stored, {self.nbytes:,} bytes)"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        dense = 4 * self.shape[0] * self.shape[1]
        rows = [("format", self.name), ("outputs x inputs", f"{self.shape[0]} x {self.shape[1]}")]
        rows += [("weights stored", f"{self.stored:,} ({self.stored / (dense // 4):.1%})")]
        rows += [("bytes", f"{self.nbytes:,} ({self.nbytes / dense:.1%} of dense fp32)")]
        rows += [(f.name, _brief(getattr(self, f.name))) for f in fields(self) if f.name not in ("shape", "values")]
        cells = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in rows)
        return {"text/plain": repr(self), "text/html": f"<table>{cells}</table>"}


def _brief(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else str(value)


def check_weight(weight: Any) -> np.ndarray:
    """Return a float32 C-contiguous matrix with at least one row and column, all of it finite.

    Raises
    ------
    KernelError
        If it is anything else.
    """
    if isinstance(weight, np.ndarray) and weight.dtype == np.float32 and weight.ndim == 2:
        weight = np.ascontiguousarray(weight)
    weight = check_array("weight", weight, np.float32, (None, None))
    if not weight.size:
        raise KernelError(f"weight has shape {weight.shape}: at least one row and one column")
    if not np.isfinite(weight).all():
        raise KernelError("weight has entries that are not finite: a format holds numbers only")
    return weight


def encode(weight: np.ndarray, values: str) -> tuple[np.ndarray, np.ndarray]:
    """Raw values ``[N, K]`` in the storage type, and row scales ``[N]`` (empty unless int8)."""
    check_choice("values", values, VALUES)
    scale = np.empty(len(weight) if values == "int8" else 0, np.float32)
    if values == "fp32":
        return weight, scale
    raw = np.empty(weight.shape, STORED[values])
    for first in range(0, len(weight), ROWS):
        some = slice(first, first + ROWS)
        if values == "int8":
            raw[some], scale[some] = quantise_rows(weight[some])
        else:
            raw[some] = to_bf16(weight[some])
    return raw, scale


def decode(raw: np.ndarray, values: str, scale: np.ndarray) -> np.ndarray:
    """Raw values ``[N, K]`` back to float32."""
    if values == "int8":
        return raw.astype(np.float32) * scale[:, None]
    return from_bf16(raw) if values == "bf16" else raw.astype(np.float32)
