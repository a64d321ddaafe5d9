"""Steps of attention on tiles of registers: strided rows, masks of key ranges, transposition.

attend     acc[r * S + s] += b[s] * x[start + r * stride]      R query rows, S vectors of keys or of outputs
window     lanes first <= i < last keep their value            the edges of a row's key range
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from workbench_kernels._tile import _at, _index
from workbench_kernels._vector import (
    F32,
    I32,
    LANES,
    address,
    broadcast,
    call,
    f32,
    i16,
    i32,
    i64,
    widen_bf16,
)

_HALF = ir.VectorType(i16, LANES)


@intrinsic(prefer_literal=True)
def vectors(_typing: Any, array: Any, start: Any, step: Any, count: Any) -> Any:
    """``count`` vectors, ``step`` elements apart, of float32 memory or of raw bf16 (uint16), widened."""
    tile = types.UniTuple(F32, count.literal_value)
    half = array.dtype == types.uint16
    raw = _HALF if half else F32.llvm

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin, apart, out = _index(ctx, b, sig, args, 1), _index(ctx, b, sig, args, 2), []
        for n in range(tile.count):
            place = b.add(begin, b.mul(apart, ir.Constant(i64, n)))
            value = b.load(address(ctx, b, sig.args[0], args[0], place, LANES, raw), align=2 if half else 4)
            out.append(widen_bf16(b, value) if half else value)
        return ctx.make_tuple(b, tile, out)

    return tile(array, start, step, count), code


@intrinsic(prefer_literal=True)
def get_tile(_typing: Any, array: Any, start: Any, stride: Any, rows: Any, wide: Any) -> Any:
    """Load ``rows`` rows of ``wide`` vectors each, ``stride`` elements apart."""
    tile, per = types.UniTuple(F32, rows.literal_value * wide.literal_value), wide.literal_value

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin, step, out = _index(ctx, b, sig, args, 1), _index(ctx, b, sig, args, 2), []
        for n in range(tile.count):
            place = _at(b, b.add(begin, b.mul(step, ir.Constant(i64, n // per))), n % per * LANES)
            out.append(b.load(address(ctx, b, sig.args[0], args[0], place, LANES, F32.llvm), align=4))
        return ctx.make_tuple(b, tile, out)

    return tile(array, start, stride, rows, wide), code


def _attend(b: Any, ctx: Any, sig: Any, args: Any, keep: Any = None) -> Any:
    sums, vector = cgutils.unpack_tuple(b, args[0]), cgutils.unpack_tuple(b, args[1])
    begin, step, out, wide = _index(ctx, b, sig, args, 3), _index(ctx, b, sig, args, 4), [], len(sig.args[1])
    for n, old in enumerate(sums):
        r, s = divmod(n, wide)
        if s == 0:
            place = b.add(begin, b.mul(step, ir.Constant(i64, r)))
            at = address(ctx, b, sig.args[2], args[2], place, 1, f32)
            value = broadcast(b, b.load(at, align=4), F32.llvm)
        new = call(b, "llvm.fma.v16f32", F32.llvm, [vector[s], value, old])
        out.append(new if keep is None else b.select(keep[s], new, old))
    b.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)
    return ctx.make_tuple(b, sig.args[0], out)


@intrinsic
def attend(_typing: Any, acc: Any, b_row: Any, x: Any, start: Any, stride: Any) -> Any:
    """``acc[r * S + s] += b_row[s] * x[start + r * stride]``; S = number of vectors in ``b_row``.

    The empty statement behind it keeps LLVM from loading for the next step early, which would spill the tile.
    """
    return acc(acc, b_row, x, start, stride), lambda ctx, b, sig, args: _attend(b, ctx, sig, args)


@intrinsic
def attend_from(_typing: Any, acc: Any, b_row: Any, x: Any, start: Any, stride: Any, first: Any) -> Any:
    """`attend` for lanes ``first <= 16 s + i`` only: the others keep their bits, whatever is multiplied."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        low = broadcast(b, b.trunc(_index(ctx, b, sig, args, 5), i32), I32.llvm)
        lanes = [ir.Constant(I32.llvm, [LANES * s + i for i in range(LANES)]) for s in range(len(b_row))]
        return _attend(b, ctx, sig, args, [b.icmp_signed(">=", lane, low) for lane in lanes])

    return acc(acc, b_row, x, start, stride, first), code


@intrinsic
def larger(_typing: Any, x: Any, y: Any) -> Any:
    """``y`` where it is larger than ``x``, else ``x``: a NaN in ``y`` is passed over."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.select(b.fcmp_ordered(">", args[1], args[0]), args[1], args[0])

    return F32(x, y), code


@intrinsic
def window(_typing: Any, x: Any, first: Any, last: Any, other: Any) -> Any:
    """Lanes ``first <= i < last`` of ``x``, and of ``other`` elsewhere."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        lane = ir.Constant(I32.llvm, list(range(LANES)))
        low, high = (b.trunc(_clamp(b, _index(ctx, b, sig, args, n)), i32) for n in (1, 2))
        after = b.icmp_signed(">=", lane, broadcast(b, low, I32.llvm))
        before = b.icmp_signed("<", lane, broadcast(b, high, I32.llvm))
        return b.select(b.and_(after, before), args[0], args[3])

    return F32(x, first, last, other), code


def _clamp(b: Any, value: Any) -> Any:
    """Keep an int64 within what int32 can hold."""
    value = call(b, "llvm.smax.i64", i64, [value, ir.Constant(i64, -LANES)])
    return call(b, "llvm.smin.i64", i64, [value, ir.Constant(i64, LANES)])


@intrinsic
def scale_tile(_typing: Any, tile: Any, factor: Any) -> Any:
    """Every member of a tile times one vector."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        return ctx.make_tuple(b, tile, [b.fmul(value, args[1]) for value in cgutils.unpack_tuple(b, args[0])])

    return tile(tile, factor), code


@intrinsic
def apart(_typing: Any) -> Any:
    """Keep the function that this stands in a function of its own: its callers compile faster, and run as fast."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        b.function.attributes.add("noinline")
        return ctx.get_dummy_value()

    return types.void(), code
