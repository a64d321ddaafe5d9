"""Inner kernels of strips: one strip of 32 rows by one panel of tokens, sums in registers.

    fp32   acc[t, r] += w[r, k] x[t, k]                        one fused multiply-add a register and token
    bf16   acc[t, r] += w[r, 2k] x[t, 2k] + w[r, 2k+1] ...     one vdpbf16ps
    int8   for each group of 64 inputs g: sum[t, r] = sum_k u[r, k] q[t, k] - 128 sum_k q[t, k] in int32 (vpdpbusd),
           acc[t, r] += scale[t, g] sum[t, r]; at the end times the row's scale

Each output is one chain of additions in the order of its inputs, whatever the panel's width.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from workbench_kernels._jit import inline, kernel
from workbench_kernels._tile import each_mul, outer, put_outputs, put_some, zeros
from workbench_kernels._vector import F32, I32, address, broadcast, call, fetch, i32, i64, load, load_i32
from workbench_kernels._wide import emit_dot_bf16, emit_dot_int8, expand, expand_offsets, expand_pairs, ones, prefetch

STRIPS = 2
AHEAD = 8192  # bytes: how far in front of its use a weight is asked for, so that memory and arithmetic overlap
MASKS_AHEAD = 2048  # bytes, the same for masks: where the next weights begin is not known before their masks are here


def _outer_bits(dot: Any) -> Any:
    @intrinsic
    def accumulate(_typing: Any, acc: Any, weights: Any, x: Any, start: Any) -> Any:
        """``acc[t * S + s] = dot(acc[...], weights[s], x[start + t])`` for 32 raw bits of x."""
        strips = len(weights)

        def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            sums, w = cgutils.unpack_tuple(b, args[0]), cgutils.unpack_tuple(b, args[1])
            begin, out = ctx.cast(b, args[3], sig.args[3], types.int64), []
            for t in range(acc.count // strips):
                at = address(ctx, b, sig.args[2], args[2], b.add(begin, ir.Constant(i64, t)), 1, i32)
                value = broadcast(b, b.load(at, align=4), I32.llvm)
                out += [dot(b, sums[t * strips + s], w[s], value) for s in range(strips)]
            return ctx.make_tuple(b, acc, out)

        return acc(acc, weights, x, start), code

    return accumulate


outer_bf16, outer_int8 = _outer_bits(emit_dot_bf16), _outer_bits(emit_dot_int8)


@intrinsic(prefer_literal=True)
def corrections(_typing: Any, correction: Any, start: Any, count: Any, strips: Any) -> Any:
    """The int32 sums to begin a group with: ``correction[start + t]`` in all lanes of token t."""
    tile, s_count = types.UniTuple(I32, count.literal_value), strips.literal_value

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin, out = ctx.cast(b, args[1], sig.args[1], types.int64), []
        for t in range(tile.count // s_count):
            at = address(ctx, b, sig.args[0], args[0], b.add(begin, ir.Constant(i64, t)), 1, i32)
            out += [broadcast(b, b.load(at, align=4), I32.llvm)] * s_count
        return ctx.make_tuple(b, tile, out)

    return tile(correction, start, count, strips), code


@intrinsic(prefer_literal=True)
def scaled(_typing: Any, acc: Any, sums: Any, scale: Any, start: Any, strips: Any) -> Any:
    """``acc + scale[start + t] * sums``, int32 sums."""
    s_count = strips.literal_value

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        total, whole = cgutils.unpack_tuple(b, args[0]), cgutils.unpack_tuple(b, args[1])
        begin, out = ctx.cast(b, args[3], sig.args[3], types.int64), []
        for n, (a, s) in enumerate(zip(total, whole, strict=True)):
            index = b.add(begin, ir.Constant(i64, n // s_count))
            at = address(ctx, b, sig.args[2], args[2], index, 1, ir.FloatType())
            by = broadcast(b, b.load(at, align=4), F32.llvm)
            out.append(call(b, "llvm.fma.v16f32", F32.llvm, [b.sitofp(s, F32.llvm), by, a]))
        return ctx.make_tuple(b, acc, out)

    return acc(acc, sums, scale, start, strips), code


@intrinsic(prefer_literal=True)
def row_scales(_typing: Any, scale: Any, start: Any, count: Any, strips: Any) -> Any:
    """The scales of 16 S rows, repeated for every token of a tile of ``count`` vectors."""
    tile, s_count = types.UniTuple(F32, count.literal_value), strips.literal_value

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin, rows = ctx.cast(b, args[1], sig.args[1], types.int64), []
        for s in range(s_count):
            at = address(ctx, b, sig.args[0], args[0], b.add(begin, ir.Constant(i64, 16 * s)), 16, F32.llvm)
            rows.append(b.load(at, align=4))
        return ctx.make_tuple(b, tile, rows * (tile.count // s_count))

    return tile(scale, start, count, strips), code


@inline
def _expand_two(mask, m, value, p):
    first, second = fetch(mask, m), fetch(mask, m + 1)
    q = p + ones(first)
    return (expand(value, p, first), expand(value, q, second)), q + ones(second)


@inline
def _expand_two_pairs(mask, m, value, p):
    first, second = fetch(mask, m), fetch(mask, m + 1)
    q = p + ones(first)
    return (expand_pairs(value, p, first), expand_pairs(value, q, second)), q + ones(second)


@inline
def _expand_two_quads(mask, m, value, p):
    first, second = fetch(mask, m), fetch(mask, m + 1)
    q = p + ones(first)
    return (expand_offsets(value, p, first), expand_offsets(value, q, second)), q + ones(second)


@inline
def finish(y, token, stride, strip, acc, tokens, rows, wide):
    """Write a tile of 32 rows: all of it, or what is there of it."""
    row = strip * 32
    if row + 32 <= rows and token + wide <= tokens:
        put_outputs(y, token * stride + row, stride, acc, STRIPS)
    else:
        put_some(y, token * stride + row, stride, acc, STRIPS, tokens - token, rows - row)


@lru_cache
def dense(values: str, wide: int) -> Any:
    """``f(lo, hi, value, scale, x, xs, xc, y, stride, tokens, rows, inputs)`` for strips lo to hi.

    value, scale: of `Dense`, flat. x, xs, xc: of `panels`. y float32, flat: row-major, ``stride`` between tokens.
    """
    return {"fp32": _dense_fp32, "bf16": _dense_bf16, "int8": _dense_int8}[values](wide)


def _dense_fp32(wide: int) -> Any:
    size, ahead = wide * STRIPS, AHEAD // 4

    @kernel
    def run(lo, hi, value, scale, x, xs, xc, y, stride, tokens, rows, inputs):
        steps = (inputs + 15) // 16 * 16
        for strip in range(lo, hi):
            for panel in range((tokens + wide - 1) // wide):
                acc, w, at = zeros(size), strip * steps * 32, panel * steps * wide
                for k in range(inputs):
                    pair = load(value, w + k * 32), load(value, w + k * 32 + 16)
                    prefetch(value, w + k * 32 + ahead)
                    prefetch(value, w + k * 32 + 16 + ahead)
                    acc = outer(acc, pair, x, at + k * wide)
                finish(y, panel * wide, stride, strip, acc, tokens, rows, wide)

    return run


def _dense_bf16(wide: int) -> Any:
    size, ahead = wide * STRIPS, AHEAD // 2

    @kernel
    def run(lo, hi, value, scale, x, xs, xc, y, stride, tokens, rows, inputs):
        steps = (inputs + 31) // 32 * 16
        for strip in range(lo, hi):
            for panel in range((tokens + wide - 1) // wide):
                acc, w, at = zeros(size), strip * steps * 64, panel * steps * wide
                for k in range((inputs + 1) // 2):
                    pair = load_i32(value, w + k * 64), load_i32(value, w + k * 64 + 32)
                    prefetch(value, w + k * 64 + ahead)
                    prefetch(value, w + k * 64 + 32 + ahead)
                    acc = outer_bf16(acc, pair, x, at + k * wide)
                finish(y, panel * wide, stride, strip, acc, tokens, rows, wide)

    return run


def _dense_int8(wide: int) -> Any:
    size = wide * STRIPS

    @kernel
    def run(lo, hi, value, scale, x, xs, xc, y, stride, tokens, rows, inputs):
        groups = (inputs + 63) // 64
        for strip in range(lo, hi):
            for panel in range((tokens + wide - 1) // wide):
                acc, w = zeros(size), strip * groups * 2048
                for g in range(groups):
                    at = (panel * groups + g) * wide
                    sums = corrections(xc, at, size, STRIPS)
                    for k in range(16):
                        pair = load_i32(value, w), load_i32(value, w + 64)
                        prefetch(value, w + AHEAD)
                        prefetch(value, w + 64 + AHEAD)
                        sums = outer_int8(sums, pair, x, at * 16 + k * wide)
                        w += 128
                    acc = scaled(acc, sums, xs, at, STRIPS)
                acc = each_mul(acc, row_scales(scale, strip * 32, size, STRIPS))
                finish(y, panel * wide, stride, strip, acc, tokens, rows, wide)

    return run


@lru_cache
def bitmap(values: str, wide: int) -> Any:
    """``f(lo, hi, mask, value, start, scale, x, xs, xc, y, stride, tokens, rows, inputs)``; arrays of `Bitmap`."""
    return {"fp32": _bitmap_fp32, "bf16": _bitmap_bf16, "int8": _bitmap_int8}[values](wide)


def _bitmap_fp32(wide: int) -> Any:
    size, early, ahead = wide * STRIPS, MASKS_AHEAD // 2, AHEAD // 4

    @kernel
    def run(lo, hi, mask, value, start, scale, x, xs, xc, y, stride, tokens, rows, inputs):
        steps = (inputs + 15) // 16 * 16
        for strip in range(lo, hi):
            for panel in range((tokens + wide - 1) // wide):
                acc, p, m, at = zeros(size), fetch(start, strip), strip * steps * 2, panel * steps * wide
                for k in range(inputs):
                    prefetch(mask, m + 2 * k + early)
                    prefetch(value, p + ahead)
                    pair, p = _expand_two(mask, m + 2 * k, value, p)
                    acc = outer(acc, pair, x, at + k * wide)
                finish(y, panel * wide, stride, strip, acc, tokens, rows, wide)

    return run


def _bitmap_bf16(wide: int) -> Any:
    size, early, ahead = wide * STRIPS, MASKS_AHEAD // 4, AHEAD // 2

    @kernel
    def run(lo, hi, mask, value, start, scale, x, xs, xc, y, stride, tokens, rows, inputs):
        steps = (inputs + 31) // 32 * 16
        for strip in range(lo, hi):
            for panel in range((tokens + wide - 1) // wide):
                acc, p, m, at = zeros(size), fetch(start, strip), strip * steps * 2, panel * steps * wide
                for k in range((inputs + 1) // 2):
                    prefetch(mask, m + 2 * k + early)
                    prefetch(value, p + ahead)
                    pair, p = _expand_two_pairs(mask, m + 2 * k, value, p)
                    acc = outer_bf16(acc, pair, x, at + k * wide)
                finish(y, panel * wide, stride, strip, acc, tokens, rows, wide)

    return run


def _bitmap_int8(wide: int) -> Any:
    size, early, ahead = wide * STRIPS, MASKS_AHEAD // 8, AHEAD

    @kernel
    def run(lo, hi, mask, value, start, scale, x, xs, xc, y, stride, tokens, rows, inputs):
        groups = (inputs + 63) // 64
        for strip in range(lo, hi):
            for panel in range((tokens + wide - 1) // wide):
                acc, p, m = zeros(size), fetch(start, strip), strip * groups * 32
                for g in range(groups):
                    at = (panel * groups + g) * wide
                    sums = corrections(xc, at, size, STRIPS)
                    for k in range(16):
                        prefetch(mask, m + early)
                        prefetch(value, p + ahead)
                        pair, p = _expand_two_quads(mask, m, value, p)
                        sums = outer_int8(sums, pair, x, at * 16 + k * wide)
                        m += 2
                    acc = scaled(acc, sums, xs, at, STRIPS)
                acc = each_mul(acc, row_scales(scale, strip * 32, size, STRIPS))
                finish(y, panel * wide, stride, strip, acc, tokens, rows, wide)

    return run
