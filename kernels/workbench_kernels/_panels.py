"""Activations in panels: what kernels with output rows in lanes read, one broadcast per token and input.

    fp32   [panel][K][TB]        float32                      K rounded up to 16
    bf16   [panel][K/2][TB]      pairs of bf16 in 32 bits     K rounded up to 32
    int8   [panel][K/4][TB]      quads of int8 in 32 bits     K rounded up to 64, and for each group of 64 inputs
           [panel][K/64][TB]     the scale, and minus 128 times the sum of the group's integers, for weights
                                 are stored as uint8 with zero point 128

TB, tokens of a panel, is a power of two; missing tokens and inputs are zeros. The transposition is done in registers:
log2(TB) riffles of TB vectors turn [TB][16] into [16][TB].
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from workbench_kernels._jit import kernel
from workbench_kernels._vector import (
    F32,
    I32,
    LANES,
    call,
    constant,
    first_lanes,
    i8,
    i32,
    i64,
    pointer,
    splat,
    store_i32,
    total_i32,
)
from workbench_kernels._vector import add_i32 as plus
from workbench_kernels._wide import emit_pack_bf16

UNIT = {"fp32": 16, "bf16": 32, "int8": 64}  # inputs that one 64-byte register holds
STEP = {"fp32": 1, "bf16": 2, "int8": 4}  # inputs that one 32-bit lane holds


def width(tokens: int, most: int) -> int:
    """Tokens of a panel: the widest up to ``most`` that does not need more padding than a narrower one.

    Examples
    --------
    >>> [width(t, 8) for t in (1, 2, 3, 4, 8, 9, 16)]
    [1, 2, 4, 4, 8, 4, 8]
    """
    fitting = [w for w in (16, 8, 4, 2, 1) if w <= most and w < 2 * tokens]
    padded = {w: -(-tokens // w) * w for w in fitting if w >= min(4, fitting[0])}
    return min(padded, key=lambda w: (padded[w], -w))


def padded(inputs: int, sees: str) -> int:
    """Inputs rounded up to whole registers."""
    return -(-inputs // UNIT[sees]) * UNIT[sees]


@intrinsic(prefer_literal=True)
def load_rows(_typing: Any, x: Any, start: Any, stride: Any, tokens: Any, inputs: Any, count: Any) -> Any:
    """``count`` vectors ``x[start + t * stride ...]``: zeros from token ``tokens`` and from lane ``inputs`` on."""
    tile = types.UniTuple(F32, count.literal_value)

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        numbers = [ctx.cast(b, args[n], sig.args[n], types.int64) for n in range(1, 5)]
        out = []
        for t in range(tile.count):
            live = b.icmp_signed("<", ir.Constant(i64, t), numbers[2])
            lanes = b.select(live, numbers[3], ir.Constant(i64, 0))
            index = b.add(numbers[0], b.mul(numbers[1], ir.Constant(i64, t)))
            at = pointer(ctx, b, types.void(x, types.int64), [args[0], index], 0, F32.llvm)
            given = [at, ir.Constant(i32, 1), first_lanes(b, lanes), constant(F32.llvm, 0.0)]
            out.append(call(b, "llvm.masked.load.v16f32.p0", F32.llvm, given))
        return ctx.make_tuple(b, tile, out)

    return tile(x, start, stride, tokens, inputs, count), code


@intrinsic
def transposed(_typing: Any, tile: Any) -> Any:
    """A tile of n vectors [n][16] read as [16][n], n a power of two up to 16."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        vectors = list(cgutils.unpack_tuple(b, args[0]))
        half = len(vectors) // 2
        lanes = ir.VectorType(i32, LANES)
        low = ir.Constant(lanes, [n // 2 + LANES * (n % 2) for n in range(LANES)])
        high = ir.Constant(lanes, [LANES // 2 + n // 2 + LANES * (n % 2) for n in range(LANES)])
        for _ in range(len(vectors).bit_length() - 1):
            pairs = [(vectors[j], vectors[j + half]) for j in range(half)]
            vectors = [b.shuffle_vector(p, q, mask) for p, q in pairs for mask in (low, high)]
        return ctx.make_tuple(b, tile, vectors)

    return tile(tile), code


@intrinsic
def put_vectors(_typing: Any, array: Any, start: Any, tile: Any) -> Any:
    """Store a tile of any vectors as consecutive 64 bytes each, at an index of 32-bit elements."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin = ctx.cast(b, args[1], sig.args[1], types.int64)
        for n, value in enumerate(cgutils.unpack_tuple(b, args[2])):
            index = b.add(begin, ir.Constant(i64, n * LANES))
            where = types.void(array, types.int64)
            b.store(value, pointer(ctx, b, where, [args[0], index], LANES, value.type), align=4)
        return ctx.get_dummy_value()

    return types.void(array, start, tile), code


@intrinsic
def pair_rows(_typing: Any, low: Any, high: Any) -> Any:
    """Member by member: 16 and 16 float32 to 16 pairs of bf16."""
    tile = types.UniTuple(I32, low.count)

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        both = zip(cgutils.unpack_tuple(b, args[0]), cgutils.unpack_tuple(b, args[1]), strict=True)
        return ctx.make_tuple(b, tile, [emit_pack_bf16(b, *pair) for pair in both])

    return tile(low, high), code


@intrinsic
def largest_size(_typing: Any, a: Any, b_: Any, c: Any, d: Any) -> Any:
    """The largest magnitude of four vectors, NaN if there is one: without their signs, floats are ordered like ints."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        sizes = [b.and_(b.bitcast(v, I32.llvm), constant(I32.llvm, 0x7FFFFFFF)) for v in args]
        while len(sizes) > 1:
            sizes = [
                call(b, "llvm.smax.v16i32", I32.llvm, [p, q]) for p, q in zip(sizes[::2], sizes[1::2], strict=True)
            ]
        return b.bitcast(call(b, "llvm.vector.reduce.smax.v16i32", i32, sizes), ir.FloatType())

    return types.float32(a, b_, c, d), code


@intrinsic
def rounded(_typing: Any, x: Any, factor: Any) -> Any:
    """``x * factor``, of magnitude at most 127, to the nearest integer, halves to even; of NaN anything in 22 bits.

    Adding 1.5 x 2^23 leaves the integer in the low bits of the sum. The conversion that saturates is slow on x86.
    """

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        shifted = b.fadd(b.fmul(args[0], args[1]), constant(F32.llvm, 12582912.0))
        bits = b.shl(b.bitcast(shifted, I32.llvm), constant(I32.llvm, 10))
        return b.ashr(bits, constant(I32.llvm, 10))

    return I32(x, factor), code


@intrinsic
def narrow_int8(_typing: Any, q0: Any, q1: Any, q2: Any, q3: Any) -> Any:
    """Four vectors of int32 to 64 int8, in order; numbers must fit."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        bytes_ = [b.trunc(a, ir.VectorType(i8, LANES)) for a in args]
        halves = [_join(b, *bytes_[:2]), _join(b, *bytes_[2:])]
        return b.bitcast(_join(b, *halves), I32.llvm)

    return I32(q0, q1, q2, q3), code


def _join(b: Any, low: Any, high: Any) -> Any:
    return b.shuffle_vector(
        low, high, ir.Constant(ir.VectorType(i32, 2 * low.type.count), list(range(2 * low.type.count)))
    )


@intrinsic(prefer_literal=True)
def take_vectors(_typing: Any, array: Any, start: Any, count: Any) -> Any:
    """``count`` consecutive vectors of 32-bit elements as raw bits."""
    tile = types.UniTuple(I32, count.literal_value)

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin, out = ctx.cast(b, args[1], sig.args[1], types.int64), []
        for n in range(tile.count):
            where, index = types.void(array, types.int64), b.add(begin, ir.Constant(i64, n * LANES))
            out.append(b.load(pointer(ctx, b, where, [args[0], index], LANES, I32.llvm), align=4))
        return ctx.make_tuple(b, tile, out)

    return tile(array, start, count), code


@lru_cache
def pack_fp32(wide: int, unit: int = 16) -> Any:
    """``f(lo, hi, x, out, tokens, inputs)`` packs panels lo to hi of x [tokens, inputs] (flat) into out (flat).

    Inputs are rounded up to ``unit``, 16 or 32.
    """

    @kernel
    def pack(lo, hi, x, out, tokens, inputs):
        full = (inputs + unit - 1) // unit * unit
        for p in range(lo, hi):
            for k in range(0, full, 16):
                tile = load_rows(x, p * wide * inputs + k, inputs, tokens - p * wide, inputs - k, wide)
                put_vectors(out, (p * full + k) * wide, transposed(tile))

    return pack


@lru_cache
def pack_pairs(wide: int) -> Any:
    """Like `pack_fp32`, into pairs of bf16 (out: 32-bit elements)."""

    @kernel
    def pack(lo, hi, x, out, tokens, inputs):
        full = (inputs + 31) // 32 * 32
        for p in range(lo, hi):
            start, live = p * wide * inputs, tokens - p * wide
            for k in range(0, inputs, 32):
                low = load_rows(x, start + k, inputs, live, inputs - k, wide)
                high = load_rows(x, start + k + 16, inputs, live, inputs - k - 16, wide)
                put_vectors(out, (p * full + k) // 2 * wide, transposed(pair_rows(low, high)))

    return pack


@lru_cache
def pack_quads(wide: int) -> Any:
    """Like `pack_fp32`, into quads of int8 with scales and corrections (float32, int32 [panel][K/64][TB])."""

    @kernel
    def pack(lo, hi, x, out, scale, correction, tokens, inputs):
        groups = (inputs + 63) // 64
        for p in range(lo, hi):
            for g in range(groups):
                base = (p * groups + g) * wide
                for t in range(wide):
                    live, k = np.int64(p * wide + t < tokens), g * 64
                    a, b, c, d = _four(x, (p * wide + t) * inputs + k, live, inputs - k)
                    size = largest_size(a, b, c, d) * np.float32(1 / 127)
                    inverse = splat(np.float32(1) / size if size >= np.float32(2.0**-126) else np.float32(0))
                    qa, qb, qc, qd = rounded(a, inverse), rounded(b, inverse), rounded(c, inverse), rounded(d, inverse)
                    scale[base + t] = size
                    correction[base + t] = -128 * total_i32(plus(plus(qa, qb), plus(qc, qd)))
                    store_i32(out, (base + t) * 16, narrow_int8(qa, qb, qc, qd))
                put_vectors(out, base * 16, transposed(take_vectors(out, base * 16, wide)))

    return pack


@intrinsic
def _four(_typing: Any, x: Any, start: Any, live: Any, inputs: Any) -> Any:
    """Four consecutive vectors of one token, zeros where it or the input is missing."""
    tile = types.UniTuple(F32, 4)

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin, alive, left = (ctx.cast(b, args[n], sig.args[n], types.int64) for n in (1, 2, 3))
        out = []
        for n in range(4):
            lanes = b.mul(alive, b.sub(left, ir.Constant(i64, n * LANES)))
            where = types.void(x, types.int64)
            at = pointer(ctx, b, where, [args[0], b.add(begin, ir.Constant(i64, n * LANES))], 0, F32.llvm)
            given = [at, ir.Constant(i32, 1), first_lanes(b, lanes), constant(F32.llvm, 0.0)]
            out.append(call(b, "llvm.masked.load.v16f32.p0", F32.llvm, given))
        return ctx.make_tuple(b, tile, out)

    return tile(x, start, live, inputs), code
