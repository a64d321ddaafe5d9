"""Tiles: tuples of registers that stay in registers, and the steps that fill them.

A tile is a plain tuple of `F32` or `I32` vectors. Its length is a number that the kernel closes over, so every step
here is unrolled when it is compiled, and LLVM keeps the tuple's members in registers throughout a loop.

    outer      acc[t * S + s] += w[s] * x[t]        S vectors of weights, one broadcast per token
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from workbench_kernels._vector import F32, I32, LANES, address, broadcast, call, constant, f32, first_lanes, i32, i64


def _filled(vector: Any, value: float) -> Any:
    @intrinsic(prefer_literal=True)
    def filled(_typing: Any, count: Any) -> Any:
        tile = types.UniTuple(vector, count.literal_value)

        def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            return ctx.make_tuple(b, tile, [constant(vector.llvm, value)] * tile.count)

        return tile(count), code

    return filled


zeros, zeros_i32 = _filled(F32, 0.0), _filled(I32, 0)
lowest = _filled(F32, float("-inf"))


def _at(b: Any, start: Any, step: int) -> Any:
    return b.add(start, ir.Constant(i64, step))


def _index(ctx: Any, b: Any, sig: Any, args: Any, which: int) -> Any:
    return ctx.cast(b, args[which], sig.args[which], types.int64)


@intrinsic(prefer_literal=True)
def row(_typing: Any, array: Any, start: Any, count: Any) -> Any:
    """``count`` consecutive vectors of float32 memory."""
    tile = types.UniTuple(F32, count.literal_value)

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin, out = _index(ctx, b, sig, args, 1), []
        for n in range(tile.count):
            at = address(ctx, b, sig.args[0], args[0], _at(b, begin, n * LANES), LANES, F32.llvm)
            out.append(b.load(at, align=4))
        return ctx.make_tuple(b, tile, out)

    return tile(array, start, count), code


@intrinsic
def put_row(_typing: Any, array: Any, start: Any, tile: Any) -> Any:
    """Store a tile as consecutive vectors."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin = _index(ctx, b, sig, args, 1)
        for n, value in enumerate(cgutils.unpack_tuple(b, args[2])):
            at = address(ctx, b, sig.args[0], args[0], _at(b, begin, n * LANES), LANES, F32.llvm)
            b.store(value, at, align=4)
        return ctx.get_dummy_value()

    return types.void(array, start, tile), code


@intrinsic
def outer(_typing: Any, acc: Any, weights: Any, x: Any, start: Any) -> Any:
    """``acc[t * S + s] += weights[s] * x[start + t]`` for a float32 array ``x``; S = number of weight vectors."""
    strips = len(weights)

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        sums, w = cgutils.unpack_tuple(b, args[0]), cgutils.unpack_tuple(b, args[1])
        begin, out = _index(ctx, b, sig, args, 3), []
        for t in range(acc.count // strips):
            at = address(ctx, b, sig.args[2], args[2], _at(b, begin, t), 1, f32)
            value = broadcast(b, b.load(at, align=4), F32.llvm)
            out += [call(b, "llvm.fma.v16f32", F32.llvm, [w[s], value, sums[t * strips + s]]) for s in range(strips)]
        return ctx.make_tuple(b, acc, out)

    return acc(acc, weights, x, start), code


@intrinsic(prefer_literal=True)
def put_outputs(_typing: Any, y: Any, start: Any, stride: Any, acc: Any, strips: Any) -> Any:
    """``y[start + t * stride + 16 s ...] = acc[t * S + s]``: one row of outputs per token."""
    s_count = strips.literal_value

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin, step = _index(ctx, b, sig, args, 1), _index(ctx, b, sig, args, 2)
        for n, value in enumerate(cgutils.unpack_tuple(b, args[3])):
            t, s = divmod(n, s_count)
            place = _at(b, b.add(begin, b.mul(step, ir.Constant(i64, t))), s * LANES)
            b.store(value, address(ctx, b, sig.args[0], args[0], place, LANES, F32.llvm), align=4)
        return ctx.get_dummy_value()

    return types.void(y, start, stride, acc, strips), code


@intrinsic(prefer_literal=True)
def put_some(_typing: Any, y: Any, start: Any, stride: Any, acc: Any, strips: Any, tokens: Any, rows: Any) -> Any:
    """`put_outputs` of the first ``tokens`` tokens and first ``rows`` rows only; touches nothing else."""
    s_count = strips.literal_value

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin, step = _index(ctx, b, sig, args, 1), _index(ctx, b, sig, args, 2)
        live, width = _index(ctx, b, sig, args, 5), _index(ctx, b, sig, args, 6)
        for n, value in enumerate(cgutils.unpack_tuple(b, args[3])):
            t, s = divmod(n, s_count)
            with b.if_then(b.icmp_signed("<", ir.Constant(i64, t), live)):
                place = _at(b, b.add(begin, b.mul(step, ir.Constant(i64, t))), s * LANES)
                at = address(ctx, b, sig.args[0], args[0], place, 0, F32.llvm)
                mask = first_lanes(b, b.sub(width, ir.Constant(i64, s * LANES)))
                call(b, "llvm.masked.store.v16f32.p0", ir.VoidType(), [value, at, ir.Constant(i32, 1), mask])
        return ctx.get_dummy_value()

    return types.void(y, start, stride, acc, strips, tokens, rows), code


def _each(name: str) -> Any:
    @intrinsic
    def each(_typing: Any, x: Any, y: Any) -> Any:
        """Member by member."""

        def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            pairs = zip(cgutils.unpack_tuple(b, args[0]), cgutils.unpack_tuple(b, args[1]), strict=True)
            out = [call(b, name, F32.llvm, [p, q]) if "." in name else getattr(b, name)(p, q) for p, q in pairs]
            return ctx.make_tuple(b, x, out)

        return x(x, y), code

    return each


each_add, each_mul, each_sub = _each("fadd"), _each("fmul"), _each("fsub")
each_max = _each("llvm.maximum.v16f32")
