"""Every matrix of a compiled model in a format: the one that was asked for, or the smallest."""

from __future__ import annotations

from typing import Any

import numpy as np
from workbench_kernels.formats import NM, Bitmap, BlockRows, ColumnBlocks, Dense, WeightFormat


class Encoder:
    """Chooses and remembers the format of every matrix."""

    def __init__(self, kind: str, values: str, head: str) -> None:
        self.kind, self.values, self.head = kind, values, head
        self.stored: dict[str, tuple[str, int]] = {}

    def __call__(self, name: str, matrix: np.ndarray) -> WeightFormat:
        made = Dense.from_dense(matrix, self.head) if name == "head" else encode(matrix, self.kind, self.values)
        kinds, size = self.stored.get(name, ("", 0))
        names = sorted({*filter(None, kinds.split(", ")), made.name})
        self.stored[name] = ", ".join(names), size + made.nbytes
        return made


def encode(matrix: np.ndarray, kind: str, values: str) -> WeightFormat:
    """One matrix in the format of this name; ``"auto"`` takes the one with the fewest bytes.

    Raises
    ------
    KernelError
        If the matrix does not keep to the pattern.
    """
    if kind in _FORMS:
        form, options = _FORMS[kind]
        made: WeightFormat = form.from_dense(matrix, values, **options)
        return made
    if np.count_nonzero(matrix) > 0.9 * matrix.size:
        return Dense.from_dense(matrix, values)
    return min((form.from_dense(matrix, values) for form in (Dense, ColumnBlocks, Bitmap)), key=lambda w: w.nbytes)


_FORMS: dict[str, tuple[Any, dict[str, int]]] = {
    "dense": (Dense, {}),
    "bitmap": (Bitmap, {}),
    "2:4": (NM, {"n": 2, "m": 4}),
    "16x1": (ColumnBlocks, {}),
    "bsr16": (BlockRows, {"block": 16}),
    "bsr32": (BlockRows, {"block": 32}),
}
