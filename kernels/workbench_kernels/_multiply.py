"""Matrices as steps of a program: which code runs a format, and what its record holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench_kernels import _memory, _steps, blocks
from workbench_kernels._cpu import features
from workbench_kernels._errors import KernelError
from workbench_kernels._panels import STEP, padded, width
from workbench_kernels._pool import even
from workbench_kernels.formats import Bitmap, ColumnBlocks, Dense, WeightFormat
from workbench_kernels.formats.strips import strips_of
from workbench_kernels.program import Program


@dataclass(frozen=True, slots=True)
class Panel:
    """Room for packed activations, and how they are packed."""

    sees: str
    wide: int
    unit: int
    lanes: np.ndarray
    scale: np.ndarray
    correction: np.ndarray


def runs(weight: WeightFormat) -> bool:
    """Whether a program can multiply by this format."""
    return isinstance(weight, Dense | Bitmap | ColumnBlocks)


def panel_for(weight: WeightFormat, tokens: int) -> Panel:
    """Room for what this format reads of ``tokens`` tokens."""
    sees, inputs = weight.sees, weight.shape[1]
    in_blocks = isinstance(weight, ColumnBlocks)
    most = (16 if features().wide else 4) if in_blocks else features().tokens
    wide, unit = width(tokens, most), max(16, weight.run) if isinstance(weight, ColumnBlocks) else 16
    panels = -(-tokens // wide)
    full = -(-inputs // unit) * unit if sees == "fp32" else padded(inputs, sees)
    groups = panels * full // 64 * wide if sees == "int8" else 0
    lanes = _memory.empty(panels * full // STEP[sees] * wide, np.uint32)
    return Panel(sees, wide, unit, lanes, _memory.empty(groups, np.float32), _memory.empty(groups, np.int32))


def add_pack(program: Program, name: str, x: np.ndarray, panel: Panel, tokens: int, inputs: int) -> None:
    """Append the step that packs ``x`` [tokens, inputs] (flat)."""
    code = _steps.pack(panel.sees, panel.wide, panel.unit)
    program.add(name, code, x, panel.lanes, panel.scale, panel.correction, tokens, inputs)


def add_multiply(
    program: Program, name: str, weight: WeightFormat, panel: Panel, y: np.ndarray, stride: int, tokens: int
) -> None:
    """Append the step that writes ``x W^T`` to ``y`` (flat), ``stride`` numbers from token to token.

    Raises
    ------
    KernelError
        If the format has no step.
    """
    rows, inputs = weight.shape
    packed, sizes = (panel.lanes, panel.scale, panel.correction), (stride, tokens, rows, inputs)
    if isinstance(weight, Dense):
        bounds = _bounds(even(strips_of(rows), program.threads))
        code = _steps.dense(weight.values, panel.wide)
        program.add(name, code, bounds, weight.value, weight.scale, *packed, y, *sizes)
    elif isinstance(weight, Bitmap):
        bounds = _bounds(even(strips_of(rows), program.threads))
        code = _steps.bitmap(weight.values, panel.wide)
        arrays = weight.mask, weight.value, weight.start, weight.scale
        program.add(name, code, bounds, *arrays, *packed, y, *sizes)
    elif isinstance(weight, ColumnBlocks):
        bounds = _bounds(blocks.balanced(weight.start, program.threads))
        code = _steps.column_blocks(weight.values, panel.wide, weight.run, weight.index.dtype.name)
        arrays = weight.index, weight.value, weight.start, weight.scale
        program.add(name, code, bounds, *arrays, panel.lanes, y, *sizes)
    else:
        raise KernelError(f"{type(weight).__name__}: compiled programs run dense, bitmap, N:M, 16x1 and bsr weights")


def _bounds(parts: Any) -> np.ndarray:
    return np.array(parts, np.int64)
