"""The steps of multiplying by blocks of 4 rows and 1 column with tokens in lanes: 16, or 64, tokens at a time.

A unit holds 4 rows and ``depth`` columns: 1 of fp32, 2 of bf16 or 4 of int8. ``depth`` is a number that the kernel
closes over and stands for the type of the values as well. Activations lie in tiles of 16 V tokens, one row per input,
counted in words of 32 bits:

            V = 1, 16 words per input                  V = 4
    fp32    the number                                 64 words: the number
    bf16    the number, twice                          32 words: halves in the order of `narrow_halves`
    int8    the uint8 with zero point 128, four times  16 words: bytes in the order of `narrow_bytes`

A wide tile is four times as compact with int8; in a narrow one a unit's operand is a choice of bits, not a shuffle.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from workbench_kernels._tile import _at, _index
from workbench_kernels._transpose import narrow_bytes, narrow_halves, widen_pairs, widen_quads
from workbench_kernels._vector import F32, I32, LANES, address, broadcast, call, constant, f32, i32, i64
from workbench_kernels._wide import emit_dot_bf16, emit_dot_int8, emit_pack_bf16

HEIGHT = 4
SHIFT = 12582912.0 + 128.0  # 1.5 * 2^23 rounds what is added to it to a whole number; 128 is the zero point
SHARED = {2: 0x0000FFFF, 4: 0x00FF00FF}  # bits of the first of two operands


def words(depth: int, vectors: int) -> int:
    """Words of 32 bits that one input takes in a tile."""
    return LANES if vectors == 1 else LANES * vectors // depth


def element(ctx: Any, b: Any, array_type: Any, array: Any, place: Any, to: Any, count: int = 1) -> Any:
    """Load ``to`` from element ``place`` of an array, of which ``count`` elements are read."""
    return b.load(address(ctx, b, array_type, array, place, count, to), align=1)


def column(ctx: Any, b: Any, array_type: Any, array: Any, place: Any) -> Any:
    """Entry ``place`` of an index, as int64."""
    return b.zext(element(ctx, b, array_type, array, place, ir.IntType(array_type.dtype.bitwidth)), i64)


@intrinsic(prefer_literal=True)
def begin(_typing: Any, depth: Any, vectors: Any, offset: Any, start: Any) -> Any:
    """Sums of 4 rows of ``vectors`` registers: zeros, or of int8 what makes up for the zero point."""
    count, int8 = vectors.literal_value, depth.literal_value == 4
    tile = types.UniTuple(I32 if int8 else F32, HEIGHT * count)

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        if not int8:
            return ctx.make_tuple(b, tile, [constant(F32.llvm, 0.0)] * tile.count)
        first, out = _index(ctx, b, sig, args, 3), []
        for r in range(HEIGHT):
            value = element(ctx, b, sig.args[2], args[2], _at(b, first, r), i32)
            out += [broadcast(b, value, I32.llvm)] * count
        return ctx.make_tuple(b, tile, out)

    return tile(depth, vectors, offset, start), code


def _chosen(b: Any, x: Any, y: Any, bits: int) -> Any:
    """Where ``bits`` are set those of x, elsewhere those of y (one ``vpternlog``)."""
    keep = bits if bits < 1 << 31 else bits - (1 << 32)
    return b.or_(b.and_(x, constant(I32.llvm, keep)), b.and_(y, constant(I32.llvm, ~keep)))


def _operands(b: Any, rows: list[list[Any]]) -> list[Any]:
    """One register per 16 tokens with the unit's inputs side by side; ``rows[i]`` are the registers of input i."""
    if len(rows) == 1:
        return [b.bitcast(v, F32.llvm) for v in rows[0]]
    if len(rows) == 2:
        if len(rows[0]) == 1:
            return [_chosen(b, rows[0][0], rows[1][0], SHARED[2])]
        return [v for x, y in zip(*rows, strict=True) for v in widen_pairs(b, x, y)]
    return widen_quads(b, [row[0] for row in rows])


def _added(b: Any, depth: int, acc: Any, weight: Any, x: Any) -> Any:
    if depth == 1:
        return call(b, "llvm.fma.v16f32", F32.llvm, [b.bitcast(weight, F32.llvm), x, acc])
    return emit_dot_bf16(b, acc, weight, x) if depth == 2 else emit_dot_int8(b, acc, x, weight)


@intrinsic(prefer_literal=True)
def block(_typing: Any, depth: Any, acc: Any, value: Any, index: Any, unit: Any, x: Any, base: Any) -> Any:
    """Add one unit to the sums of 4 rows: ``acc[r] += value[unit, r] * x[index[unit]]``.

    ``base`` is the first word of the tile of activations.
    """
    deep, vectors = depth.literal_value, acc.count // HEIGHT
    width = words(deep, vectors)

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        sums, at = cgutils.unpack_tuple(b, args[1]), _index(ctx, b, sig, args, 4)
        start, rows = _index(ctx, b, sig, args, 6), []
        for i in range(deep):
            k = column(ctx, b, sig.args[3], args[3], _at(b, b.mul(at, ir.Constant(i64, deep)), i))
            place = b.add(start, b.mul(k, ir.Constant(i64, width)))
            each = [_at(b, place, LANES * v) for v in range(width // LANES)]
            rows.append([element(ctx, b, sig.args[5], args[5], p, I32.llvm, LANES) for p in each])
        if deep == 4 and vectors == 1:
            halves = [_chosen(b, rows[i][0], rows[i + 1][0], SHARED[4]) for i in (0, 2)]
            inputs = [_chosen(b, *halves, SHARED[2])]
        else:
            inputs = _operands(b, rows)
        first, out = b.mul(at, ir.Constant(i64, HEIGHT * deep)), []
        for r in range(HEIGHT):
            word = element(ctx, b, sig.args[2], args[2], _at(b, first, r * deep), i32, deep)
            weight = broadcast(b, word, I32.llvm)
            out += [_added(b, deep, sums[r * vectors + v], weight, inputs[v]) for v in range(vectors)]
        return ctx.make_tuple(b, acc, out)

    return acc(depth, acc, value, index, unit, x, base), code


@intrinsic(prefer_literal=True)
def finish(_typing: Any, depth: Any, acc: Any, scale: Any, row: Any, token_scale: Any, token: Any) -> Any:
    """Sums as float32; of int8 times the scales of row and token."""
    vectors, tile = acc.count // HEIGHT, types.UniTuple(F32, acc.count)

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        if sig.args[0].literal_value != 4:
            return args[1]
        first, begin_at = _index(ctx, b, sig, args, 3), _index(ctx, b, sig, args, 5)
        tokens, out = [_at(b, begin_at, LANES * v) for v in range(vectors)], []
        seen = [element(ctx, b, sig.args[4], args[4], p, F32.llvm, LANES) for p in tokens]
        for n, total in enumerate(cgutils.unpack_tuple(b, args[1])):
            own = element(ctx, b, sig.args[2], args[2], _at(b, first, n // vectors), f32)
            factor = b.fmul(broadcast(b, own, F32.llvm), seen[n % vectors])
            out.append(b.fmul(b.sitofp(total, F32.llvm), factor))
        return ctx.make_tuple(b, tile, out)

    return tile(depth, acc, scale, row, token_scale, token), code


def emit_quantise(b: Any, x: Any, inverse: Any) -> Any:
    """``rint(x * inverse) + 128`` in the low byte of each lane, for whole numbers from -127 to 127."""
    shifted = b.fadd(b.fmul(x, inverse), constant(F32.llvm, SHIFT))
    return b.bitcast(shifted, I32.llvm)


def _repeated(b: Any, value: Any, depth: int) -> Any:
    """The low byte four times, or the low half twice."""
    if depth == 4:
        value = b.and_(value, constant(I32.llvm, 0xFF))
        value = b.or_(value, b.shl(value, constant(I32.llvm, 8)))
    return b.or_(value, b.shl(value, constant(I32.llvm, 16)))


def _narrowed(b: Any, depth: int, row: list[Any]) -> list[Any]:
    """What a tile holds of one input; ``row`` are registers of float32, or of quantised words."""
    if depth == 1:
        return row
    if depth == 4:
        return [_repeated(b, row[0], 4)] if len(row) == 1 else [narrow_bytes(b, row)]
    if len(row) > 1:
        pairs = [(row[v], row[v + 1]) for v in range(0, len(row), 2)]
        return [narrow_halves(b, emit_pack_bf16(b, x, y)) for x, y in pairs]
    halves = b.bitcast(emit_pack_bf16(b, row[0], row[0]), ir.VectorType(ir.IntType(16), 32))
    low = b.shuffle_vector(halves, halves, ir.Constant(I32.llvm, list(range(LANES))))
    return [_repeated(b, b.zext(low, I32.llvm), 2)]


@intrinsic(prefer_literal=True)
def put_inputs(_typing: Any, depth: Any, x: Any, place: Any, row: Any, inverse: Any, token: Any) -> Any:
    """Write one input of all tokens of a tile at word ``place``; ``row`` are its registers of float32."""
    deep = depth.literal_value

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        values, at = cgutils.unpack_tuple(b, args[3]), _index(ctx, b, sig, args, 2)
        if deep == 4:
            first = _index(ctx, b, sig, args, 5)
            where = [_at(b, first, LANES * v) for v in range(len(values))]
            factors = [element(ctx, b, sig.args[4], args[4], p, F32.llvm, LANES) for p in where]
            values = [emit_quantise(b, v, f) for v, f in zip(values, factors, strict=True)]
        for v, value in enumerate(_narrowed(b, deep, values)):
            target = address(ctx, b, sig.args[1], args[1], _at(b, at, LANES * v), LANES, value.type)
            b.store(value, target, align=4)
        return ctx.get_dummy_value()

    return types.void(depth, x, place, row, inverse, token), code
