"""Small products with the result in registers: what scores and outputs of attention both are.

    y[r][16 s + i] (+)= sum_j x[r][j] b[j][s][i]        r < rows, s < wide, j < n ascending

    x[r][j] at x_at + r x_row + j x_step    b[j][s] at b_at + j b_step + s b_wide    y[r][s] at y_at + r y_row + 16 s

``fresh`` (1 or 0) says whether y starts at zero. Up to six rows of four vectors: 24 sums, four vectors and one number
in 32 registers, ten loads for 24 multiplications. One kernel per number of rows; all strides are arguments, because
numba would compile anew for every constant.
"""

from __future__ import annotations

from typing import Any

from workbench_kernels._attention_tile import apart, attend, attend_from, get_tile, vectors
from workbench_kernels._cpu import features
from workbench_kernels._jit import inline, kernel
from workbench_kernels._tile import put_outputs, zeros

TILE_ROWS = 6 if features().wide else 2  # rows that one tile takes at most: so many rows of scores are scratch
WIDE = 4 if features().wide else 2  # vectors of one tile


def _product(rows: int, wide: int) -> Any:
    """``y[r][16 s + i] (+)= sum_j x[r][j] b[j][s][i]``, y in registers throughout, j ascending."""
    count = rows * wide

    @kernel
    def run(x, x_at, x_row, x_step, b, b_at, b_step, b_wide, n, y, y_at, y_row, fresh):
        apart()
        acc = zeros(count)
        if not fresh:
            acc = get_tile(y, y_at, y_row, rows, wide)
        for j in range(n):
            acc = attend(acc, vectors(b, b_at + j * b_step, b_wide, wide), x, x_at + j * x_step, x_row)
        put_outputs(y, y_at, y_row, acc, wide)

    return run


def _product_from(rows: int, wide: int) -> Any:
    """``y[r][16 s + i] += sum_j x[r][j] b[j][s][i]`` where ``first + j <= 16 s + i``; other lanes meet nothing."""

    @kernel
    def run(x, x_at, x_row, x_step, b, b_at, b_step, b_wide, n, y, y_at, y_row, first):
        apart()
        acc = get_tile(y, y_at, y_row, rows, wide)
        for j in range(n):
            acc = attend_from(acc, vectors(b, b_at + j * b_step, b_wide, wide), x, x_at + j * x_step, x_row, first + j)
        put_outputs(y, y_at, y_row, acc, wide)

    return run


FROM_ROWS = 4 if features().wide else 2
product_from = _product_from(FROM_ROWS, WIDE)
_six, _four, _three, _two, _one = (_product(rows, WIDE) for rows in (6, 4, 3, 2, 1))
_six_narrow, _three_narrow, _one_narrow = (_product(rows, 1) for rows in (6, 3, 1))


@inline
def tile_rows(left):
    """How many of the rows that are left the next tile takes."""
    if TILE_ROWS < 6:
        return min(left, TILE_ROWS)
    return 3 if left == 5 else min(left, 6)


@inline
def product(rows, x, x_at, x_row, x_step, b, b_at, b_step, b_wide, n, y, y_at, y_row, fresh):
    """`_product` of ``rows`` rows (as `tile_rows` gives them) and `WIDE` vectors."""
    apart()
    if rows == 1:
        _one(x, x_at, x_row, x_step, b, b_at, b_step, b_wide, n, y, y_at, y_row, fresh)
    elif rows == 2:
        _two(x, x_at, x_row, x_step, b, b_at, b_step, b_wide, n, y, y_at, y_row, fresh)
    elif TILE_ROWS > 2:
        if rows == 3:
            _three(x, x_at, x_row, x_step, b, b_at, b_step, b_wide, n, y, y_at, y_row, fresh)
        elif rows == 4:
            _four(x, x_at, x_row, x_step, b, b_at, b_step, b_wide, n, y, y_at, y_row, fresh)
        else:
            _six(x, x_at, x_row, x_step, b, b_at, b_step, b_wide, n, y, y_at, y_row, fresh)


@inline
def product_narrow(rows, x, x_at, x_row, x_step, b, b_at, b_step, b_wide, n, y, y_at, y_row, fresh):
    """The same of one vector."""
    apart()
    r = 0
    if TILE_ROWS > 2:
        if rows == 6:
            _six_narrow(x, x_at, x_row, x_step, b, b_at, b_step, b_wide, n, y, y_at, y_row, fresh)
            r = 6
        elif rows >= 3:
            _three_narrow(x, x_at, x_row, x_step, b, b_at, b_step, b_wide, n, y, y_at, y_row, fresh)
            r = 3
    for t in range(r, rows):
        _one_narrow(x, x_at + t * x_row, x_row, x_step, b, b_at, b_step, b_wide, n, y, y_at + t * y_row, y_row, fresh)
