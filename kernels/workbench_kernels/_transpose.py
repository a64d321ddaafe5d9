"""Squares of 16 x 16 float32 turned in registers, and bytes or halves of registers put side by side.

    load_square   16 rows of 16 numbers, at a stride
    transpose     rows to columns: 64 shuffles of two registers, half of them within quarters of 128 bits

`narrow` stores tokens in an order that `widen_pairs` and `widen_quads` undo with shuffles within quarters alone.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from workbench_kernels._vector import F32, I32, LANES, address, call, constant, first_lanes, i8, i16, i32, i64

SQUARE = types.UniTuple(F32, LANES)
HALVES, BYTES = ir.VectorType(i16, 32), ir.VectorType(i8, 64)


def shuffled(b: Any, x: Any, y: Any, lanes: list[int]) -> Any:
    """Lanes of two registers; those of ``y`` count from the length of ``x``."""
    return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(i32, len(lanes)), lanes))


def interleaved(b: Any, x: Any, y: Any, upper: bool) -> Any:
    """Elements of x and y in turns, from the lower or the upper half of each quarter of 128 bits (``vpunpck``)."""
    count = x.type.count
    half = count // 8
    picked = [quarter * 2 * half + upper * half + e for quarter in range(4) for e in range(half)]
    return shuffled(b, x, y, [lane for e in picked for lane in (e, count + e)])


def _quarters(b: Any, x: Any, y: Any, chosen: tuple[int, int]) -> Any:
    """Two quarters of x, then the same two of y."""
    return shuffled(b, x, y, [o + 4 * q + e for o in (0, LANES) for q in chosen for e in range(4)])


def _four(b: Any, rows: list[Any]) -> list[Any]:
    """Transpose 4 x 4 within each quarter: register j holds columns j, 4 + j, 8 + j, 12 + j of four rows."""
    wide = ir.VectorType(i64, 8)
    pairs = [b.bitcast(interleaved(b, rows[i], rows[i + 1], upper), wide) for upper in (False, True) for i in (0, 2)]
    whole = [interleaved(b, pairs[h], pairs[h + 1], upper) for h in (0, 2) for upper in (False, True)]
    return [b.bitcast(v, F32.llvm) for v in whole]


def emit_transpose(b: Any, rows: list[Any]) -> list[Any]:
    """The columns of a square whose rows are given."""
    fours = [_four(b, rows[g : g + 4]) for g in range(0, LANES, 4)]
    columns: list[Any] = [None] * LANES
    for j in range(4):
        for low in (0, 2):
            x = _quarters(b, fours[0][j], fours[1][j], (low, low + 1))
            y = _quarters(b, fours[2][j], fours[3][j], (low, low + 1))
            columns[4 * low + j], columns[4 * low + 4 + j] = _quarters(b, x, y, (0, 2)), _quarters(b, x, y, (1, 3))
    return columns


@intrinsic
def transpose(_typing: Any, square: Any) -> Any:
    """A tuple of 16 registers, rows to columns."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        return ctx.make_tuple(b, square, emit_transpose(b, cgutils.unpack_tuple(b, args[0])))

    return square(square), code


@intrinsic
def load_square(_typing: Any, array: Any, start: Any, stride: Any) -> Any:
    """Sixteen rows of 16 numbers: row i begins at element ``start + i * stride``."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin, step = (ctx.cast(b, args[n], sig.args[n], types.int64) for n in (1, 2))
        out = []
        for n in range(LANES):
            place = b.add(begin, b.mul(step, ir.Constant(i64, n)))
            out.append(b.load(address(ctx, b, sig.args[0], args[0], place, LANES, F32.llvm), align=4))
        return ctx.make_tuple(b, SQUARE, out)

    return SQUARE(array, start, stride), code


@intrinsic
def load_corner(_typing: Any, array: Any, start: Any, stride: Any, rows: Any, columns: Any) -> Any:
    """The first ``rows`` rows and ``columns`` columns of `load_square`, zeros beside; reads nothing else."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin, step, live, width = (ctx.cast(b, args[n], sig.args[n], types.int64) for n in (1, 2, 3, 4))
        out, none = [], ir.Constant(i64, 0)
        for n in range(LANES):
            inside = b.icmp_signed("<", ir.Constant(i64, n), live)
            place = b.add(begin, b.mul(b.select(inside, step, none), ir.Constant(i64, n)))
            at = address(ctx, b, sig.args[0], args[0], place, 0, F32.llvm)
            given = [at, ir.Constant(i32, 1), first_lanes(b, b.select(inside, width, none)), constant(F32.llvm, 0.0)]
            out.append(call(b, "llvm.masked.load.v16f32.p0", F32.llvm, given))
        return ctx.make_tuple(b, SQUARE, out)

    return SQUARE(array, start, stride, rows, columns), code


def widen_pairs(b: Any, first: Any, second: Any) -> list[Any]:
    """Two registers of 32 halves in the order of `narrow_halves`: two registers of 16 pairs, tokens in order."""
    x, y = b.bitcast(first, HALVES), b.bitcast(second, HALVES)
    return [b.bitcast(interleaved(b, x, y, upper), I32.llvm) for upper in (False, True)]


def widen_quads(b: Any, rows: list[Any]) -> list[Any]:
    """Four registers of 64 bytes in the order of `narrow_bytes`: four registers of 16 quads, tokens in order."""
    raw = [b.bitcast(row, BYTES) for row in rows]
    out = []
    for upper in (False, True):
        x, y = (b.bitcast(interleaved(b, raw[i], raw[i + 1], upper), HALVES) for i in (0, 2))
        out += [b.bitcast(interleaved(b, x, y, high), I32.llvm) for high in (False, True)]
    return out


def narrow_halves(b: Any, halves: Any) -> Any:
    """32 halves of tokens 0 to 31 in the order of `widen_pairs`: 0-3, 16-19, 4-7, 20-23, ..."""
    order = [o + 4 * quarter + e for quarter in range(4) for o in (0, 16) for e in range(4)]
    raw = b.bitcast(halves, HALVES)
    return b.bitcast(shuffled(b, raw, raw, order), I32.llvm)


def narrow_bytes(b: Any, words: list[Any]) -> Any:
    """The low bytes of four registers (tokens 0-15, 16-31, ...) in the order of `widen_quads`.

    Each quarter of 128 bits holds 4 tokens of the first register, 4 of the second, and so on.
    """
    raw = [b.bitcast(word, BYTES) for word in words]
    half = [16 * quarter + o + 4 * e for quarter in range(4) for o in (0, 64) for e in range(4)]
    x, y = (shuffled(b, raw[i], raw[i + 1], half) for i in (0, 2))  # 32 bytes each: 8 per quarter
    order = [o + 8 * quarter + e for quarter in range(4) for o in (0, 32) for e in range(8)]
    return b.bitcast(shuffled(b, x, y, order), I32.llvm)
