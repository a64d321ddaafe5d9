"""Activations with tokens in lanes: row-major x packed into tiles, and tiles of sums back into row-major y.

    x [T, K]             ->   tile [K padded to 16][16 V]      V vectors: 16 V tokens of one input, side by side
    sums [rows][16 V]    ->   y [T, N]

Both transpose squares of 16 x 16 in registers. In a bf16 tile (V is even) a register holds 32 tokens in the order of
`narrow_halves`, so that interleaving two inputs gives their pairs with tokens in order.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from workbench_kernels import _memory
from workbench_kernels._cpu import features
from workbench_kernels._jit import inline, kernel
from workbench_kernels._pool import even, parallel
from workbench_kernels._tile import put_outputs, put_some
from workbench_kernels._transpose import HALVES, load_corner, load_square, narrow_halves, transpose, widen_pairs
from workbench_kernels._vector import F32, I32, LANES, address, broadcast, call, i32, i64, load_first
from workbench_kernels._wide import emit_dot_bf16, emit_pack_bf16


def _named_rows(ctx: Any, b: Any, sig: Any, args: Any, count: int, wide: int) -> list[Any]:
    """Where the rows of x begin that ``index[at]`` and on name: arguments acc, value, index, at, x, origin.

    ``count`` uint8 indices come in one load, for it is loads that bound these kernels.
    """
    at, origin = (ctx.cast(b, args[n], sig.args[n], types.int64) for n in (3, 5))
    packed = ir.IntType(8 * count)
    bits, out = b.zext(b.load(address(ctx, b, sig.args[2], args[2], at, count, packed), align=1), i64), []
    for n in range(count):
        index = b.and_(b.lshr(bits, ir.Constant(i64, 8 * n)), ir.Constant(i64, 255))
        out.append(b.add(origin, b.mul(index, ir.Constant(i64, wide))))
    return out


def _multiplied(ctx: Any, b: Any, sig: Any, args: Any, sums: list[Any], weight: Any, begin: Any) -> list[Any]:
    out = []
    for n, value in enumerate(sums):
        where = address(ctx, b, sig.args[4], args[4], b.add(begin, ir.Constant(i64, n * LANES)), LANES, F32.llvm)
        out.append(call(b, "llvm.fma.v16f32", F32.llvm, [weight, b.load(where, align=4), value]))
    return out


@intrinsic
def multiply_four(_typing: Any, acc: Any, value: Any, index: Any, at: Any, x: Any, origin: Any, lanes: Any) -> Any:
    """Add four entries, each to its quarter of acc: ``value[at + n] x[origin + index[at + n] * 16 V + 16 v ...]``.

    Their values come in one load too; ``lanes`` are four registers full of 0, 1, 2 and 3 that spread them. They must
    not be constants: LLVM would make four broadcasting loads of it again.
    """

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        part, several = acc.count // 4, ir.VectorType(F32.llvm.element, 4)
        starts, sums = _named_rows(ctx, b, sig, args, 4, part * LANES), cgutils.unpack_tuple(b, args[0])
        first = ctx.cast(b, args[3], sig.args[3], types.int64)
        four = b.load(address(ctx, b, sig.args[1], args[1], first, 4, several), align=4)
        nothing = ir.Constant(several, ir.Undefined)
        wide = b.shuffle_vector(four, nothing, ir.Constant(I32.llvm, [0, 1, 2, 3] + [4] * 12))
        for n, (begin, lane) in enumerate(zip(starts, cgutils.unpack_tuple(b, args[6]), strict=True)):
            if features().wide:
                weight = call(b, "llvm.x86.avx512.permvar.sf.512", F32.llvm, [wide, lane])
            else:
                weight = b.shuffle_vector(four, nothing, ir.Constant(I32.llvm, [n] * LANES))
            own = slice(part * n, part * n + part)
            sums[own] = _multiplied(ctx, b, sig, args, sums[own], weight, begin)
        return ctx.make_tuple(b, acc, sums)

    return acc(acc, value, index, at, x, origin, lanes), code


@intrinsic
def dot_four(_typing: Any, acc: Any, value: Any, shift: Any, index: Any, at: Any, x: Any, origin: Any) -> Any:
    """Add four entries of a bf16 tile: the first two to the first half of acc, the others to the second.

    ``value[at + shift]`` and on are their values in bf16.
    """

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        plain, given = types.void(*sig.args[:2], *sig.args[3:]), [*args[:2], *args[3:]]
        half = acc.count // 2
        starts = _named_rows(ctx, b, plain, given, 4, half * LANES)
        at, moved = (ctx.cast(b, args[n], sig.args[n], types.int64) for n in (4, 2))
        sums = cgutils.unpack_tuple(b, args[0])
        out: list[Any] = []
        for n in (0, 2):
            where = address(ctx, b, sig.args[1], args[1], b.add(b.add(at, moved), ir.Constant(i64, n)), 2, i32)
            weights = broadcast(b, b.load(where, align=2), I32.llvm)
            for v in range(0, half, 2):
                spots = [b.add(s, ir.Constant(i64, v * LANES)) for s in starts[n : n + 2]]
                both = [b.load(address(ctx, b, sig.args[5], args[5], w, 2 * LANES, HALVES), align=2) for w in spots]
                for rows in widen_pairs(b, *both):
                    out.append(emit_dot_bf16(b, sums[len(out)], weights, rows))
        return ctx.make_tuple(b, acc, out)

    return acc(acc, value, shift, index, at, x, origin), code


@intrinsic(prefer_literal=True)
def added(_typing: Any, acc: Any, vectors: Any) -> Any:
    """The parts of ``vectors`` registers that acc consists of, a power of two of them, added up."""
    tile = types.UniTuple(F32, vectors.literal_value)

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        values = cgutils.unpack_tuple(b, args[0])
        while len(values) > tile.count:
            half = len(values) // 2
            values = [b.fadd(values[n], values[n + half]) for n in range(half)]
        return ctx.make_tuple(b, tile, values)

    return tile(acc, vectors), code


@intrinsic
def _scaled(_typing: Any, tile: Any, factor: Any) -> Any:
    """Every register times one."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        return ctx.make_tuple(b, tile, [b.fmul(v, args[1]) for v in cgutils.unpack_tuple(b, args[0])])

    return tile(tile, factor), code


@intrinsic
def _put_halves(_typing: Any, out: Any, start: Any, stride: Any, low: Any, high: Any) -> Any:
    """Store 32 tokens of each input as bf16 in the order of `narrow_halves`, inputs ``stride`` elements apart."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin, step = (ctx.cast(b, args[n], sig.args[n], types.int64) for n in (1, 2))
        for n, pair in enumerate(zip(cgutils.unpack_tuple(b, args[3]), cgutils.unpack_tuple(b, args[4]), strict=True)):
            place = b.add(begin, b.mul(step, ir.Constant(i64, n)))
            at = address(ctx, b, sig.args[0], args[0], place, 2 * LANES, I32.llvm)
            b.store(narrow_halves(b, emit_pack_bf16(b, *pair)), at, align=4)
        return ctx.get_dummy_value()

    return types.void(out, start, stride, low, high), code


@inline
def _columns(x, token, k, tokens, inputs):
    """Inputs k to k + 15 of tokens ``token`` to + 15, a register per input; zeros where there are none."""
    start = token * inputs + k
    if token + 16 <= tokens and k + 16 <= inputs:
        return transpose(load_square(x, start, inputs))
    return transpose(load_corner(x, start, inputs, tokens - token, inputs - k))


@lru_cache
def pack_fp32(vectors: int) -> Any:
    """``f(lo, hi, x, out, first, tokens, inputs)`` packs tiles lo to hi of x (flat) from token ``first`` on."""
    wide = vectors * LANES

    @kernel
    def pack(lo, hi, x, out, first, tokens, inputs):
        full = (inputs + 15) // 16 * 16
        for tile in range(lo, hi):
            for k in range(0, inputs, 16):
                for v in range(vectors):
                    columns = _columns(x, first + tile * wide + v * 16, k, tokens, inputs)
                    put_outputs(out, (tile * full + k) * wide + v * 16, wide, columns, 1)

    return pack


@lru_cache
def pack_pairs(vectors: int) -> Any:
    """Like `pack_fp32`, into bf16 tiles (uint16)."""
    wide = vectors * LANES

    @kernel
    def pack(lo, hi, x, out, first, tokens, inputs):
        full = (inputs + 15) // 16 * 16
        for tile in range(lo, hi):
            for k in range(0, inputs, 16):
                for v in range(0, vectors, 2):
                    token, at = first + tile * wide + v * 16, (tile * full + k) * wide + v * 16
                    low, high = _columns(x, token, k, tokens, inputs), _columns(x, token + 16, k, tokens, inputs)
                    _put_halves(out, at, wide, low, high)

    return pack


def tiles(x: np.ndarray, first: int, count: int, vectors: int, sees: str, threads: int) -> np.ndarray:
    """Pack ``count`` tiles of x [T, K] from token ``first`` on: flat float32, or uint16 where bf16 is seen."""
    tokens, inputs = x.shape
    kind, make = (np.uint16, pack_pairs) if sees == "bf16" else (np.float32, pack_fp32)
    out = _memory.empty(count * -(-inputs // 16) * 16 * vectors * LANES, kind)
    parallel(make(vectors), even(count, threads), x.reshape(-1), out, first, tokens, inputs)
    return out


@inline
def unpack(sums, at, wide, y, token, tokens, line, lines, rows, scale):
    """Write sums [lines][wide] from ``at`` on to y [tokens, rows] at ``token`` and row ``line``, scaled if asked."""
    for i in range(0, lines, 16):
        live = min(lines - i, 16)
        for v in range(0, min(wide, tokens - token), 16):
            square: Any = transpose(load_square(sums, at + i * wide + v, wide))
            if scale.size:
                square = _scaled(square, load_first(scale, line + i, live))
            start, left = (token + v) * rows + line + i, tokens - token - v
            if live == 16 and left >= 16:
                put_outputs(y, start, rows, square, 1)
            else:
                put_some(y, start, rows, square, 1, left, live)


@kernel
def unpack_tiles(lo, hi, sums, count, wide, y, tokens, rows, scale):
    """Write blocks lo to hi of 16 rows of ``sums`` [tile][rows padded to 16][wide] to y [tokens, rows]."""
    full = (rows + 15) // 16 * 16
    for block in range(lo, hi):
        for tile in range(count):
            at, lines = (tile * full + block * 16) * wide, min(rows - block * 16, 16)
            unpack(sums, at, wide, y, tile * wide, tokens, block * 16, lines, rows, scale)


def plan(tokens: int, most: int, least: int = 1) -> list[tuple[int, int, int]]:
    """How tokens are cut into tiles: (first token, tiles, vectors of 16 tokens per tile), widths powers of two.

    Examples
    --------
    >>> plan(150, 4), plan(3, 4, 2)
    ([(0, 2, 4), (128, 1, 2)], [(0, 1, 2)])
    """
    full, rest = divmod(tokens, most * LANES)
    out = [(0, full, most)] if full else []
    if rest:
        fitting = [v for v in (1, 2, 4, 8) if least <= v <= most and v * LANES >= rest]
        out.append((full * most * LANES, 1, fitting[0]))
    return out
