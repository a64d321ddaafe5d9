"""The steps of multiplying few tokens by blocks of 4 rows: the 4 rows of a strip in a quarter of a register.

Each step reads 16 bytes of weights, as many as a unit has, and one word of activations for all 4 rows. Sums run over
the units in the same order, by the same instructions, as with tokens in lanes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from workbench_kernels._cpu import features
from workbench_kernels._row_blocks_steps import HEIGHT, column, element, emit_quantise
from workbench_kernels._tile import _at, _index
from workbench_kernels._vector import (
    F32,
    LANES,
    F32x4,
    Vector,
    address,
    broadcast,
    call,
    constant,
    f32,
    i8,
    i32,
    i64,
)
from workbench_kernels._vector import I32 as WORDS
from workbench_kernels._wide import _BFloat

I32x4 = Vector("i32", i32, HEIGHT)
PAIRS, QUADS = ir.VectorType(_BFloat(), 2 * HEIGHT), ir.VectorType(i8, 4 * HEIGHT)


def _sums(depth: Any) -> Vector:
    return I32x4 if depth.literal_value == 4 else F32x4


@intrinsic(prefer_literal=True)
def begin_strip(_typing: Any, depth: Any, offset: Any, row: Any) -> Any:
    """Sums of 4 rows: zeros, or of int8 what makes up for the zero point."""
    kind = _sums(depth)

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        if kind is F32x4:
            return constant(kind.llvm, 0.0)
        return element(ctx, b, sig.args[1], args[1], _index(ctx, b, sig, args, 2), kind.llvm, HEIGHT)

    return kind(depth, offset, row), code


def _dot_bf16(b: Any, acc: Any, x: Any, y: Any) -> Any:
    if features().dot_bf16:
        name = "llvm.x86.avx512bf16.dpbf16ps.128"
        return call(b, name, F32x4.llvm, [acc, b.bitcast(x, PAIRS), b.bitcast(y, PAIRS)])
    low = [b.bitcast(b.shl(v, constant(I32x4.llvm, 16)), F32x4.llvm) for v in (x, y)]
    high = [b.bitcast(b.and_(v, constant(I32x4.llvm, -65536)), F32x4.llvm) for v in (x, y)]
    acc = call(b, "llvm.fma.v4f32", F32x4.llvm, [*low, acc])
    return call(b, "llvm.fma.v4f32", F32x4.llvm, [*high, acc])


def _dot_int8(b: Any, acc: Any, unsigned: Any, signed: Any) -> Any:
    if features().dot_int8:
        given = [acc, b.bitcast(unsigned, QUADS), b.bitcast(signed, QUADS)]
        return call(b, "llvm.x86.avx512.vpdpbusd.128", I32x4.llvm, given)
    for j in range(4):
        u = b.and_(b.lshr(unsigned, constant(I32x4.llvm, 8 * j)), constant(I32x4.llvm, 255))
        s = b.ashr(b.shl(signed, constant(I32x4.llvm, 24 - 8 * j)), constant(I32x4.llvm, 24))
        acc = b.add(acc, b.mul(u, s))
    return acc


@intrinsic(prefer_literal=True)
def unit(_typing: Any, depth: Any, acc: Any, value: Any, index: Any, at: Any, x: Any, base: Any) -> Any:
    """Add one unit to the sums of 4 rows; ``base`` is where the token's inputs begin in ``x``."""
    deep = depth.literal_value
    narrow = ir.IntType(32 // deep)

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        number, start, word = _index(ctx, b, sig, args, 4), _index(ctx, b, sig, args, 6), None
        for i in range(deep):
            k = column(ctx, b, sig.args[3], args[3], _at(b, b.mul(number, ir.Constant(i64, deep)), i))
            part = element(ctx, b, sig.args[5], args[5], b.add(start, k), narrow)
            if deep > 1:
                part = b.shl(b.zext(part, i32), ir.Constant(i32, 32 // deep * i))
            word = part if word is None else b.or_(word, part)
        seen = broadcast(b, word, I32x4.llvm)
        first = b.mul(number, ir.Constant(i64, HEIGHT * deep))
        weights = element(ctx, b, sig.args[2], args[2], first, I32x4.llvm, HEIGHT * deep)
        if deep == 4:
            return _dot_int8(b, args[1], seen, weights)
        if deep == 2:
            return _dot_bf16(b, args[1], weights, seen)
        given = [b.bitcast(weights, F32x4.llvm), b.bitcast(seen, F32x4.llvm), args[1]]
        return call(b, "llvm.fma.v4f32", F32x4.llvm, given)

    return acc(depth, acc, value, index, at, x, base), code


@intrinsic(prefer_literal=True)
def put_strip(
    _typing: Any, depth: Any, y: Any, place: Any, acc: Any, scale: Any, row: Any, token_scale: Any, rows: Any
) -> Any:
    """Write the first ``rows`` sums of a strip, of int8 times the scales of row and token."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        value, at, live = args[3], _index(ctx, b, sig, args, 2), _index(ctx, b, sig, args, 7)
        if sig.args[3] is I32x4:
            own = element(ctx, b, sig.args[4], args[4], _index(ctx, b, sig, args, 5), F32x4.llvm, HEIGHT)
            factor = b.fmul(own, broadcast(b, args[6], F32x4.llvm))
            value = b.fmul(b.sitofp(value, F32x4.llvm), factor)
        target = address(ctx, b, sig.args[1], args[1], at, 0, F32x4.llvm)
        lanes = ir.Constant(I32x4.llvm, list(range(HEIGHT)))
        mask = b.icmp_signed("<", lanes, broadcast(b, b.trunc(live, i32), I32x4.llvm))
        call(b, "llvm.masked.store.v4f32.p0", ir.VoidType(), [value, target, ir.Constant(i32, 1), mask])
        return ctx.get_dummy_value()

    return types.void(depth, y, place, acc, scale, row, token_scale, rows), code


@intrinsic
def put_bytes(_typing: Any, array: Any, place: Any, x: Any, inverse: Any) -> Any:
    """Quantise 16 numbers and write them as uint8 with zero point 128."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        narrow = ir.VectorType(i8, LANES)
        value = b.trunc(emit_quantise(b, args[2], broadcast(b, args[3], F32.llvm)), narrow)
        target = address(ctx, b, sig.args[0], args[0], _index(ctx, b, sig, args, 1), LANES, narrow)
        b.store(value, target, align=1)
        return ctx.get_dummy_value()

    return types.void(array, place, x, types.float32), code


@intrinsic
def magnitude(_typing: Any, most: Any, x: Any) -> Any:
    """The larger of ``most`` and the magnitudes of ``x``, as bits: NaN is larger than any number."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        bits = b.and_(b.bitcast(args[1], WORDS.llvm), constant(WORDS.llvm, 0x7FFFFFFF))
        return call(b, "llvm.smax.v16i32", WORDS.llvm, [args[0], bits])

    return WORDS(most, x), code


@intrinsic
def largest_magnitude(_typing: Any, most: Any) -> Any:
    """The largest lane of what `magnitude` left, as float32."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.bitcast(call(b, "llvm.vector.reduce.smax.v16i32", i32, [args[0]]), f32)

    return types.float32(most), code
