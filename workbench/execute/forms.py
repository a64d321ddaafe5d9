"""The weight formats that there are, and which of them suit a matrix: one row per format.

A format suits a matrix if it stores little besides the weights that are not zero: blocks that are half empty are
multiplied in full. What it would store is counted on the mask, without building it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from workbench_kernels import KernelError
from workbench_kernels.formats import (
    CSR,
    NM,
    VALUES,
    Bitmap,
    BlockRows,
    ColumnBlocks,
    Condensed,
    Dense,
    PanelCSR,
    RowBlocks,
    WeightFormat,
)  # fmt: skip

from workbench.errors import ArgumentError, unknown

WASTE = 1.25  # stored over nonzero weights, up to which a format suits
Count = Callable[[np.ndarray], int | None]


def kept(mask: np.ndarray) -> int:
    """Weights that are not zero."""
    return int(np.count_nonzero(mask))


def whole(mask: np.ndarray) -> int:
    """All weights."""
    return int(mask.size)


def blocks(height: int, width: int) -> Count:
    """Weights in blocks that hold anything; the matrix is padded to whole blocks."""

    def count(mask: np.ndarray) -> int:
        return int(np.count_nonzero(tiled(mask, height, width).any(axis=(1, 3)))) * height * width

    return count


def groups(n: int, m: int) -> Count:
    """Weights that are not zero, or None if more than ``n`` of ``m`` consecutive inputs are not."""

    def count(mask: np.ndarray) -> int | None:
        most = int(tiled(mask, 1, m).sum(axis=3, dtype=np.int64).max())
        return kept(mask) if most <= n else None

    return count


def fan_in(mask: np.ndarray) -> int:
    """Weights of strips of 16 rows that are as long as the longest row; rows without weights are dropped."""
    rows = np.count_nonzero(mask, axis=1)
    return -(-int(np.count_nonzero(rows)) // 16) * 16 * int(rows.max())


def tiled(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask ``[N, K]`` as ``[N / height, height, K / width, width]``, padded with False."""
    rows, columns = mask.shape
    full = -(-rows // height) * height, -(-columns // width) * width
    if full != mask.shape:
        mask = np.pad(mask, ((0, full[0] - rows), (0, full[1] - columns)))
    return mask.reshape(full[0] // height, height, full[1] // width, width)


@dataclass(frozen=True, slots=True)
class Form:
    """One format as `sparsify` and `time_kernels` see it.

    Attributes
    ----------
    name
        As reports call it, without its values.
    kind
        Its class.
    stores
        How many weights it would store of a mask (True: not zero), or None if it cannot hold it.
    pattern
        The pattern that it is made for, as `pattern_of` names it; empty: any.
    options
        Of ``from_dense``.
    """

    name: str
    kind: type[WeightFormat]
    stores: Count
    pattern: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def build(self, weight: np.ndarray, values: str = "fp32") -> WeightFormat:
        """The format of a float32 matrix ``[N, K]``.

        Raises
        ------
        ArgumentError
            If it cannot hold the matrix.
        """
        try:
            return self.kind.from_dense(weight, values, **self.options)
        except KernelError as error:
            raise ArgumentError(f"format={self.name!r}: {error}") from error

    def named(self, values: str) -> str:
        """With its values, e.g. ``"16x1-bf16"``; fp32 goes without saying."""
        return self.name if values == "fp32" else f"{self.name}-{values}"


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("dense", Dense, whole),
        Form("bitmap", Bitmap, kept),
        Form("2:4", NM, groups(2, 4), "2:4", {"n": 2, "m": 4}),
        Form("16x1", ColumnBlocks, blocks(16, 1), "16x1"),
        Form("4x1", RowBlocks, blocks(4, 1), "4x1"),
        Form("bsr16", BlockRows, blocks(16, 16), "bsr16", {"block": 16}),
        Form("bsr32", BlockRows, blocks(32, 32), "bsr32", {"block": 32}),
        Form("csr", CSR, kept),
        Form("csr-panels", PanelCSR, kept),
        Form("condensed", Condensed, fan_in, options={"pad": True}),
    )
}


def form(name: str) -> Form:
    """The form of a name; an unknown one lists the near ones."""
    if name not in FORMS:
        raise unknown("format", name, FORMS)
    return FORMS[name]


def check_values(values: str) -> str:
    """Return ``values`` if kernels know it."""
    if values not in VALUES:
        raise unknown("values", values, VALUES)
    return values


def candidates(weight: np.ndarray, values: str = "fp32") -> list[Form]:
    """The formats that suit a matrix, the dense one first.

    Parameters
    ----------
    weight
        Float32 ``[N, K]``, or its mask as bool.
    values
        ``"fp32"``, ``"bf16"`` or ``"int8"``.

    Examples
    --------
    >>> [f.name for f in candidates(np.kron(np.eye(4), np.ones((16, 1))).astype(np.float32))]
    ['dense', 'bitmap', '2:4', '16x1', '4x1', 'csr', 'csr-panels', 'condensed']
    """
    check_values(values)
    mask = np.asarray(weight) != 0
    limit = WASTE * max(kept(mask), 1)
    chosen = []
    for one in FORMS.values():
        stored = one.stores(mask)
        if one.name == "dense" or (stored is not None and stored <= limit and kept(mask) < mask.size):
            chosen.append(one)
    return chosen


def named_forms(formats: Sequence[str] | str | None, weight: np.ndarray, values: str) -> list[Form]:
    """The dense form and those of these names, each once; the candidates if None."""
    if formats is None:
        return candidates(weight, values)
    names = (formats,) if isinstance(formats, str) else tuple(formats)
    return [form(name) for name in dict.fromkeys(("dense", *names))]
