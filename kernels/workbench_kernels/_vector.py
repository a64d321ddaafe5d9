"""Vector registers as values of compiled code.

    F32    16 x float32        the arithmetic
    I32    16 x int32          indices, sums of integer products, or 64 raw bytes (bf16 pairs, int8 quads)
    F32x4  4 x float32         a quarter

LLVM turns each into one AVX-512 register, two of AVX2 or four of NEON. Numba's own loops vectorise when they
please; these do as they say. Loads and stores take an array and an element index; with ``NUMBA_BOUNDSCHECK=1`` they
raise IndexError outside of the array (a raw load may read the slack that `_memory.empty` leaves).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, config, types
from numba.core.extending import intrinsic, models, register_model

LANES = 16
f32, i1, i8, i16, i32, i64 = ir.FloatType(), *(ir.IntType(n) for n in (1, 8, 16, 32, 64))


class Vector(types.Type):
    """Numba's type of a register: ``lanes`` elements of one LLVM type."""

    def __init__(self, name: str, element: ir.Type, lanes: int) -> None:
        self.llvm = ir.VectorType(element, lanes)
        super().__init__(name=f"vector_{name}x{lanes}")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector.llvm)


F32, I32, F32x4 = Vector("f32", f32, LANES), Vector("i32", i32, LANES), Vector("f32", f32, 4)


def constant(vector: ir.VectorType, value: float) -> ir.Constant:
    """A vector constant, the same in all lanes."""
    return ir.Constant(vector, [value] * vector.count)


def broadcast(b: Any, scalar: Any, vector: ir.VectorType) -> Any:
    """A scalar in all lanes."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = b.insert_element(undefined, scalar, ir.Constant(i32, 0))
    return b.shuffle_vector(first, undefined, constant(ir.VectorType(i32, vector.count), 0))


def call(b: Any, name: str, result: ir.Type, args: list[Any]) -> Any:
    """Call an LLVM intrinsic."""
    function = ir.FunctionType(result, [a.type for a in args])
    return b.call(cgutils.get_or_insert_function(b.module, function, name), args)


def address(ctx: Any, b: Any, array_type: Any, array: Any, index: Any, count: int, to: ir.Type) -> Any:
    """A pointer to element ``index``, of which ``count`` elements will be touched."""
    made = ctx.make_array(array_type)(ctx, b, array)
    if config.BOUNDSCHECK and count:
        end = b.add(index, ir.Constant(i64, count))
        outside = b.or_(b.icmp_signed("<", index, ir.Constant(i64, 0)), b.icmp_signed(">", end, made.nitems))
        with b.if_then(outside, likely=False):
            ctx.call_conv.return_user_exc(b, IndexError, ("a vector reaches outside of its array",))
    return b.bitcast(b.gep(made.data, [index]), ir.PointerType(to))


def pointer(ctx: Any, b: Any, sig: Any, args: Any, count: int, to: ir.Type) -> Any:
    """`address` of the first two arguments: an array and an index."""
    index = ctx.cast(b, args[1], sig.args[1], types.intp)
    return address(ctx, b, sig.args[0], args[0], index, count, to)


def _load(out: Vector, raw: ir.Type, widen: Callable[[Any, Any], Any] | None = None, count: int = LANES) -> Any:
    @intrinsic
    def load(_typing: Any, array: Any, index: Any) -> Any:
        def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            bits = array.dtype.bitwidth
            width = raw.element.width if isinstance(raw.element, ir.IntType) else 32
            value = b.load(pointer(ctx, b, sig, args, raw.count * width // bits if count else 0, raw), align=1)
            return widen(b, value) if widen else value

        return out(array, index), code

    return load


def widen_bf16(b: Any, value: Any) -> Any:
    """16 x bf16, as raw bits, to float32."""
    wide = b.zext(value, I32.llvm)
    return b.bitcast(b.shl(wide, constant(I32.llvm, 16)), F32.llvm)


def widen_int8(b: Any, value: Any) -> Any:
    """16 x int8 to float32."""
    return b.sitofp(b.sext(value, I32.llvm), F32.llvm)


load = _load(F32, F32.llvm)
load_bf16 = _load(F32, ir.VectorType(i16, LANES), widen_bf16)
load_int8 = _load(F32, ir.VectorType(i8, LANES), widen_int8)
load_u16 = _load(I32, ir.VectorType(i16, LANES), lambda b, v: b.zext(v, I32.llvm))
load_i32 = _load(I32, I32.llvm)  # 64 bytes of anything
load_raw = _load(I32, I32.llvm, count=0)  # the same, into the slack behind the array if need be


def _store(vector: Vector) -> Any:
    @intrinsic
    def store(_typing: Any, array: Any, index: Any, value: Any) -> Any:
        def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            count = vector.llvm.count * 32 // array.dtype.bitwidth
            b.store(args[2], pointer(ctx, b, sig, args, count, vector.llvm), align=1)
            return ctx.get_dummy_value()

        return types.void(array, index, value), code

    return store


store, store_i32, store_quarter = _store(F32), _store(I32), _store(F32x4)


def first_lanes(b: Any, count: Any) -> Any:
    """A mask of the first ``count`` lanes."""
    lane = ir.Constant(I32.llvm, list(range(LANES)))
    return b.icmp_signed("<", lane, broadcast(b, b.trunc(count, i32), I32.llvm))


@intrinsic
def load_first(_typing: Any, array: Any, index: Any, count: Any) -> Any:
    """The first ``count`` lanes of float32 memory, zeros behind; touches nothing else."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        at = pointer(ctx, b, sig, args, 0, F32.llvm)
        mask = first_lanes(b, ctx.cast(b, args[2], sig.args[2], types.int64))
        given = [at, ir.Constant(i32, 1), mask, constant(F32.llvm, 0.0)]
        return call(b, "llvm.masked.load.v16f32.p0", F32.llvm, given)

    return F32(array, index, count), code


@intrinsic
def store_first(_typing: Any, array: Any, index: Any, value: Any, count: Any) -> Any:
    """Store the first ``count`` lanes; touches nothing else."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        at = pointer(ctx, b, sig, args, 0, F32.llvm)
        mask = first_lanes(b, ctx.cast(b, args[3], sig.args[3], types.int64))
        call(b, "llvm.masked.store.v16f32.p0", ir.VoidType(), [args[2], at, ir.Constant(i32, 1), mask])
        return ctx.get_dummy_value()

    return types.void(array, index, value, count), code


@intrinsic
def splat(_typing: Any, scalar: Any) -> Any:
    """A float32 in all lanes."""
    return F32(types.float32), lambda ctx, b, sig, args: broadcast(b, args[0], F32.llvm)


@intrinsic
def splat_i32(_typing: Any, scalar: Any) -> Any:
    """An int32 in all lanes."""
    return I32(types.int32), lambda ctx, b, sig, args: broadcast(b, args[0], I32.llvm)


def _spread(out: Vector, scalar: ir.Type) -> Any:
    @intrinsic
    def spread(_typing: Any, array: Any, index: Any) -> Any:
        def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            at = pointer(ctx, b, sig, args, 32 // array.dtype.bitwidth, scalar)
            return broadcast(b, b.load(at, align=1), out.llvm)

        return out(array, index), code

    return spread


spread, spread_bits = _spread(F32, f32), _spread(I32, i32)  # one float32, or four raw bytes, of memory in all lanes


@intrinsic
def fetch(_typing: Any, array: Any, index: Any) -> Any:
    """``array[index]`` for an index of at least 0: without the test for negative ones that a subscript makes."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        at = pointer(ctx, b, sig, args, 1, ctx.get_data_type(array.dtype))
        return b.load(at)

    return array.dtype(array, index), code


def _binary(name: str, vector: Vector = F32) -> Any:
    @intrinsic
    def operation(_typing: Any, x: Any, y: Any) -> Any:
        return vector(x, y), lambda ctx, b, sig, args: getattr(b, name)(args[0], args[1])

    return operation


add, sub, mul, div = _binary("fadd"), _binary("fsub"), _binary("fmul"), _binary("fdiv")
add_i32, sub_i32, or_i32, and_i32 = (_binary(n, I32) for n in ("add", "sub", "or_", "and_"))


def _unary(name: str, vector: Vector = F32) -> Any:
    @intrinsic
    def operation(_typing: Any, x: Any) -> Any:
        return vector(x), lambda ctx, b, sig, args: call(b, f"llvm.{name}.v16f32", vector.llvm, [args[0]])

    return operation


nearest, absolute, square_root = _unary("nearbyint"), _unary("fabs"), _unary("sqrt")


def _pairwise(name: str) -> Any:
    @intrinsic
    def operation(_typing: Any, x: Any, y: Any) -> Any:
        return F32(x, y), lambda ctx, b, sig, args: call(b, f"llvm.{name}.v16f32", F32.llvm, list(args))

    return operation


maximum, minimum = _pairwise("maximum"), _pairwise("minimum")  # NaN in, NaN out


@intrinsic
def fma(_typing: Any, x: Any, y: Any, z: Any) -> Any:
    """``x * y + z``, rounded once."""
    return F32(x, y, z), lambda ctx, b, sig, args: call(b, "llvm.fma.v16f32", F32.llvm, list(args))


@intrinsic
def to_f32(_typing: Any, x: Any) -> Any:
    """Int32 lanes as float32."""
    return F32(x), lambda ctx, b, sig, args: b.sitofp(args[0], F32.llvm)


@intrinsic
def to_i32(_typing: Any, x: Any) -> Any:
    """Float32 lanes, towards zero, as int32; NaN becomes 0."""
    return I32(x), lambda ctx, b, sig, args: call(b, "llvm.fptosi.sat.v16i32.v16f32", I32.llvm, list(args))


@intrinsic
def bits_as_f32(_typing: Any, x: Any) -> Any:
    """Raw bits read as float32."""
    return F32(x), lambda ctx, b, sig, args: b.bitcast(args[0], F32.llvm)


@intrinsic
def f32_as_bits(_typing: Any, x: Any) -> Any:
    """The raw bits of float32 lanes."""
    return I32(x), lambda ctx, b, sig, args: b.bitcast(args[0], I32.llvm)


def _shift(name: str) -> Any:
    @intrinsic
    def operation(_typing: Any, x: Any, count: Any) -> Any:
        def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            by = ctx.cast(b, args[1], sig.args[1], types.int32)
            return getattr(b, name)(args[0], broadcast(b, by, I32.llvm))

        return I32(x, count), code

    return operation


shift_left, shift_right, shift_right_logical = _shift("shl"), _shift("ashr"), _shift("lshr")


@intrinsic
def total(_typing: Any, x: Any) -> Any:
    """The sum of all lanes, added in halves, always in the same order."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        value, width = args[0], LANES
        while width > 1:
            width //= 2
            low = ir.Constant(ir.VectorType(i32, width), list(range(width)))
            high = ir.Constant(ir.VectorType(i32, width), list(range(width, 2 * width)))
            value = b.fadd(b.shuffle_vector(value, value, low), b.shuffle_vector(value, value, high))
        return b.extract_element(value, ir.Constant(i32, 0))

    return types.float32(x), code


@intrinsic
def total_i32(_typing: Any, x: Any) -> Any:
    """The sum of all int32 lanes."""
    return types.int32(x), lambda ctx, b, sig, args: call(b, "llvm.vector.reduce.add.v16i32", i32, [args[0]])


@intrinsic
def largest(_typing: Any, x: Any) -> Any:
    """The largest lane; NaN if there is one."""
    return types.float32(x), lambda ctx, b, sig, args: call(b, "llvm.vector.reduce.fmaximum.v16f32", f32, [args[0]])
