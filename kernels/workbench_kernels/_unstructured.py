"""What kernels of unstructured formats share: single stored values in all lanes, gathers, work split by entries."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic, overload

from workbench_kernels._vector import (
    F32,
    I32,
    LANES,
    address,
    broadcast,
    call,
    constant,
    first_lanes,
    i8,
    i16,
    i32,
    i64,
    pointer,
    widen_bf16,
    widen_int8,
)


def _broadcast_value(ctx: Any, b: Any, array_type: Any, array: Any, place: Any) -> Any:
    """Element ``place`` of stored values (float32, bf16 as uint16, or int8) in all lanes, as float32."""
    bits = array_type.dtype.bitwidth
    element = {32: ir.FloatType(), 16: i16, 8: i8}[bits]
    value = b.load(address(ctx, b, array_type, array, place, 1, element), align=bits // 8)
    if bits == 32:
        return broadcast(b, value, F32.llvm)
    wide = b.bitcast(broadcast(b, value, ir.VectorType(element, 512 // bits)), I32.llvm)
    if bits == 16:
        return b.bitcast(b.and_(wide, constant(I32.llvm, -65536)), F32.llvm)
    return b.sitofp(b.ashr(wide, constant(I32.llvm, 24)), F32.llvm)


def _columns(ctx: Any, b: Any, array_type: Any, array: Any, first: Any, count: int, check: bool = True) -> list[Any]:
    """``count`` (a multiple of 4) indices from element ``first`` on as int64, 64 bits to a load: loads are scarce."""
    bits = array_type.dtype.bitwidth
    each, out = 64 // bits, []
    for n in range(0, count, each):
        place = b.add(first, ir.Constant(i64, n))
        packed = b.load(address(ctx, b, array_type, array, place, each if check else 0, i64), align=bits // 8)
        shifted = [b.lshr(packed, ir.Constant(i64, bits * e)) for e in range(each)]
        out += [b.and_(v, ir.Constant(i64, (1 << bits) - 1)) for v in shifted]
    return out


@intrinsic
def multiply_columns(_typing: Any, acc: Any, value: Any, index: Any, at: Any, x: Any, origin: Any, lines: Any) -> Any:
    """``acc[n V + v] += value[at + n] x[origin + index[at + n] * 16 V + 16 v ...]`` for n < N.

    ``lines`` is a tuple of length N, acc one of length N V.
    """
    count = len(lines)
    vectors = acc.count // count

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        first, begin = (ctx.cast(b, args[n], sig.args[n], types.int64) for n in (3, 5))
        sums, out = cgutils.unpack_tuple(b, args[0]), []
        for n, column in enumerate(_columns(ctx, b, sig.args[2], args[2], first, count)):
            weight = _broadcast_value(ctx, b, sig.args[1], args[1], b.add(first, ir.Constant(i64, n)))
            row = b.add(begin, b.mul(column, ir.Constant(i64, vectors * LANES)))
            for v in range(vectors):
                where = b.add(row, ir.Constant(i64, v * LANES))
                number = b.load(address(ctx, b, sig.args[4], args[4], where, LANES, F32.llvm), align=4)
                out.append(call(b, "llvm.fma.v16f32", F32.llvm, [weight, number, sums[n * vectors + v]]))
        return ctx.make_tuple(b, acc, out)

    return acc(acc, value, index, at, x, origin, lines), code


@intrinsic
def multiply_last(_typing: Any, acc: Any, value: Any, index: Any, at: Any, x: Any, origin: Any, count: Any) -> Any:
    """`multiply_columns` with V = 1 of the first ``count`` entries only, fewer than there are sums."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        first, begin, live = (ctx.cast(b, args[n], sig.args[n], types.int64) for n in (3, 5, 6))
        sums = cgutils.unpack_tuple(b, args[0])
        for n in range(acc.count - 1):
            before, place = b.block, b.add(first, ir.Constant(i64, n))
            with b.if_then(b.icmp_signed("<", ir.Constant(i64, n), live)):
                bits = ir.IntType(sig.args[2].dtype.bitwidth)
                column = b.zext(b.load(address(ctx, b, sig.args[2], args[2], place, 1, bits)), i64)
                row = b.add(begin, b.mul(column, ir.Constant(i64, LANES)))
                number = b.load(address(ctx, b, sig.args[4], args[4], row, LANES, F32.llvm), align=4)
                weight = _broadcast_value(ctx, b, sig.args[1], args[1], place)
                added, inside = call(b, "llvm.fma.v16f32", F32.llvm, [weight, number, sums[n]]), b.block
            merged = b.phi(F32.llvm)
            merged.add_incoming(sums[n], before)
            merged.add_incoming(added, inside)
            sums[n] = merged
        return ctx.make_tuple(b, acc, sums)

    return acc(acc, value, index, at, x, origin, count), code


@intrinsic
def put_named(_typing: Any, sums: Any, start: Any, names: Any, at: Any, acc: Any, lines: Any) -> Any:
    """Store line n of acc, V registers, as row ``names[at + n]`` of ``sums`` (which begins at ``start``)."""
    count = len(lines)
    vectors = acc.count // count

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin, first = (ctx.cast(b, args[n], sig.args[n], types.int64) for n in (1, 3))
        ends, values = ctx.make_array(sig.args[2])(ctx, b, args[2]).nitems, cgutils.unpack_tuple(b, args[4])
        for n in range(count):
            place = b.add(first, ir.Constant(i64, n))
            with b.if_then(b.icmp_signed("<", place, ends)):
                name = b.zext(b.load(address(ctx, b, sig.args[2], args[2], place, 1, i32)), i64)
                for v in range(vectors):
                    to = b.add(
                        begin, b.add(b.mul(name, ir.Constant(i64, vectors * LANES)), ir.Constant(i64, v * LANES))
                    )
                    at = address(ctx, b, sig.args[0], args[0], to, LANES, F32.llvm)
                    b.store(values[n * vectors + v], at, align=4)
        return ctx.get_dummy_value()

    return types.void(sums, start, names, at, acc, lines), code


@intrinsic
def fold(_typing: Any, acc: Any) -> Any:
    """The sum of 16 registers, added in halves: lane by lane in the order in which `total` adds its lanes."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        values = cgutils.unpack_tuple(b, args[0])
        while len(values) > 1:
            half = len(values) // 2
            values = [b.fadd(values[n], values[n + half]) for n in range(half)]
        return values[0]

    return F32(acc), code


@intrinsic
def load_values(_typing: Any, array: Any, index: Any) -> Any:
    """Sixteen stored values as float32; may read the slack behind the array."""
    bits = array.dtype.bitwidth

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        raw = {32: F32.llvm, 16: ir.VectorType(i16, LANES), 8: ir.VectorType(i8, LANES)}[bits]
        value = b.load(pointer(ctx, b, sig, args, 0, raw), align=1)
        return {32: lambda b, v: v, 16: widen_bf16, 8: widen_int8}[bits](b, value)

    return F32(array, index), code


@intrinsic
def first_of(_typing: Any, value: Any, count: Any) -> Any:
    """The first ``count`` lanes, zeros behind."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        mask = first_lanes(b, ctx.cast(b, args[1], sig.args[1], types.int64))
        return b.select(mask, args[0], constant(F32.llvm, 0.0))

    return F32(value, count), code


@intrinsic
def collect(_typing: Any, array: Any, indices: Any, start: Any) -> Any:
    """``array[indices[start + i]]`` for 16 lanes, float32, by single loads: several times as fast as vgatherdps here.

    Nothing is checked: indices are valid by construction, and 16 of them are readable (slack included).
    """

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        x, first = ctx.make_array(sig.args[0])(ctx, b, args[0]), ctx.cast(b, args[2], sig.args[2], types.int64)
        out = ir.Constant(F32.llvm, ir.Undefined)
        for n, index in enumerate(_columns(ctx, b, sig.args[1], args[1], first, LANES, False)):
            out = b.insert_element(out, b.load(b.gep(x.data, [index])), ir.Constant(i32, n))
        return out

    return F32(array, indices, start), code


def either(value: Any, spare: Any) -> Any:
    """``spare`` for int8 values, ``value`` itself otherwise; chosen when compiled."""
    return spare if value.dtype == np.int8 else value


@overload(either)
def _either(value, spare):
    if value.dtype == types.int8:
        return lambda value, spare: spare
    return lambda value, spare: value


def balanced(work: np.ndarray, threads: int) -> list[int]:
    """Bounds of at most ``threads`` contiguous parts of about equal ``work``, none of them empty.

    Examples
    --------
    >>> balanced(np.array([9, 1, 1, 1, 8]), 2), balanced(np.array([0, 0]), 3)
    ([0, 2, 5], [0, 1, 2])
    """
    parts = max(1, min(threads, work.size))
    if parts == 1:
        return [0, int(work.size)]
    total = np.cumsum(work + 1e-9 * max(1.0, float(work.sum())))
    middles = (total[:-1] + total[1:]) / 2  # a cut goes where the sum up to it is nearest to its share
    cuts = np.searchsorted(middles, total[-1] * np.arange(1, parts) / parts) + 1
    return [0, *(int(c) for c in np.unique(cuts[cuts < work.size])), int(work.size)]
