"""The steps for which x86 has an instruction of its own, each with a portable twin that computes the same.

    dot_bf16(acc, a, b)   acc[i] += a[2i] b[2i] + a[2i+1] b[2i+1]       bf16 pairs, float32 sums      vdpbf16ps
    dot_int8(acc, u, s)   acc[i] += sum_j u[4i+j] s[4i+j]               uint8 x int8, int32 sums      vpdpbusd
    expand(array, p, m)   lane i = array[p + ones of m below i] if bit i of m is set, else 0          vpexpand*
    pack_bf16(lo, hi)     two vectors to 32 bf16, nearest even, in memory order: lo first             vcvtne2ps2bf16

vdpbf16ps does not round between the two products and flushes denormal numbers; the twin rounds after each product.
Both lie within the error bound that the operations state.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from workbench_kernels._cpu import features
from workbench_kernels._vector import (
    F32,
    I32,
    LANES,
    broadcast,
    call,
    constant,
    i1,
    i8,
    i16,
    i32,
    i64,
    pointer,
    widen_bf16,
    widen_int8,
)

PAIRS, QUADS = ir.VectorType(i16, 32), ir.VectorType(i8, 64)


class _BFloat(ir.types.Type):
    """LLVM's bfloat, which llvmlite does not name."""

    null, intrinsic_name = "0.0", "bf16"

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


BF16 = ir.VectorType(_BFloat(), 32)


def _high(b: Any, value: Any) -> Any:
    return b.bitcast(b.and_(value, constant(I32.llvm, -65536)), F32.llvm)


def _low(b: Any, value: Any) -> Any:
    return b.bitcast(b.shl(value, constant(I32.llvm, 16)), F32.llvm)


def emit_dot_bf16(b: Any, acc: Any, x: Any, y: Any) -> Any:
    """The code of `dot_bf16` on LLVM values."""
    if features().dot_bf16:
        return call(b, "llvm.x86.avx512bf16.dpbf16ps.512", F32.llvm, [acc, b.bitcast(x, BF16), b.bitcast(y, BF16)])
    acc = call(b, "llvm.fma.v16f32", F32.llvm, [_low(b, x), _low(b, y), acc])
    return call(b, "llvm.fma.v16f32", F32.llvm, [_high(b, x), _high(b, y), acc])


def emit_dot_int8(b: Any, acc: Any, unsigned: Any, signed: Any) -> Any:
    """The code of `dot_int8` on LLVM values."""
    if features().dot_int8:
        args = [acc, b.bitcast(unsigned, QUADS), b.bitcast(signed, QUADS)]
        return call(b, "llvm.x86.avx512.vpdpbusd.512", I32.llvm, args)
    for j in range(4):
        u = b.and_(b.lshr(unsigned, constant(I32.llvm, 8 * j)), constant(I32.llvm, 255))
        s = b.ashr(b.shl(signed, constant(I32.llvm, 24 - 8 * j)), constant(I32.llvm, 24))
        acc = b.add(acc, b.mul(u, s))
    return acc


@intrinsic
def dot_bf16(_typing: Any, acc: Any, x: Any, y: Any) -> Any:
    """``acc[i] += x[2i] y[2i] + x[2i+1] y[2i+1]``; x and y hold 32 bf16 each."""
    return F32(acc, x, y), lambda ctx, b, sig, args: emit_dot_bf16(b, *args)


@intrinsic
def dot_int8(_typing: Any, acc: Any, unsigned: Any, signed: Any) -> Any:
    """``acc[i] += sum_j unsigned[4i+j] signed[4i+j]`` over 64 bytes each."""
    return I32(acc, unsigned, signed), lambda ctx, b, sig, args: emit_dot_int8(b, *args)


def emit_pack_bf16(b: Any, low: Any, high: Any) -> Any:
    """The code of `pack_bf16` on LLVM values."""
    if features().dot_bf16:
        return b.bitcast(call(b, "llvm.x86.avx512bf16.cvtne2ps2bf16.512", BF16, [high, low]), I32.llvm)
    half = [b.trunc(_round_bf16(b, v), ir.VectorType(i16, LANES)) for v in (low, high)]
    both = b.shuffle_vector(half[0], half[1], ir.Constant(ir.VectorType(i32, 32), list(range(32))))
    return b.bitcast(both, I32.llvm)


@intrinsic
def pack_bf16(_typing: Any, low: Any, high: Any) -> Any:
    """32 bf16, rounded to nearest even, NaN kept: lanes of ``low``, then lanes of ``high``."""
    return I32(low, high), lambda ctx, b, sig, args: emit_pack_bf16(b, *args)


def _round_bf16(b: Any, value: Any) -> Any:
    bits = b.bitcast(value, I32.llvm)
    odd = b.and_(b.lshr(bits, constant(I32.llvm, 16)), constant(I32.llvm, 1))
    rounded = b.add(bits, b.add(odd, constant(I32.llvm, 0x7FFF)))
    nan = b.fcmp_unordered("uno", value, value)
    return b.lshr(b.select(nan, b.or_(bits, constant(I32.llvm, 1 << 22)), rounded), constant(I32.llvm, 16))


def in_register(b: Any, value: Any) -> Any:
    """Keep a load apart from what uses it: expanding from memory is microcode on AMD, from a register it is quick."""
    kind = value.type
    return b.asm(ir.FunctionType(kind, [kind]), "", "=v,0", [value], False)


def _expand(raw: ir.VectorType, kind: str, out: Any, widen: Any = None, absent: int = 0) -> Any:
    @intrinsic
    def expand(_typing: Any, array: Any, index: Any, mask: Any) -> Any:
        def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            bits = args[2] if args[2].type.width == raw.count else b.trunc(args[2], ir.IntType(raw.count))
            lanes = b.bitcast(bits, ir.VectorType(i1, raw.count))
            nothing = constant(raw, 0.0 if kind == "f32" else absent)
            if features().expand:
                value = in_register(b, b.load(pointer(ctx, b, sig, args, 0, raw), align=1))
                name = f"llvm.x86.avx512.mask.expand.v{raw.count}{kind}"
                value = call(b, name, raw, [value, nothing, lanes])
            else:
                at = pointer(ctx, b, sig, args, 0, raw.element)
                value = call(b, f"llvm.masked.expandload.v{raw.count}{kind}", raw, [at, lanes, nothing])
            return widen(b, value) if widen else b.bitcast(value, out.llvm)

        return out(array, index, mask), code

    return expand


_HALF = ir.VectorType(i16, LANES)
expand = _expand(F32.llvm, "f32", F32)  # 16 float32, mask of 16 bits
expand_bf16 = _expand(_HALF, "i16", F32, widen_bf16)  # 16 bf16, widened
expand_int8 = _expand(ir.VectorType(i8, LANES), "i8", F32, widen_int8)  # 16 int8, widened
expand_pairs = _expand(PAIRS, "i16", I32)  # 32 bf16, mask of 32 bits, raw
expand_quads = _expand(QUADS, "i8", I32)  # 64 int8, mask of 64 bits, raw
expand_offsets = _expand(QUADS, "i8", I32, absent=128)  # 64 uint8 with zero point 128: absent ones stand for zero


@intrinsic
def ones(_typing: Any, mask: Any) -> Any:
    """How many bits are set, as int64."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        width = args[0].type.width
        count = call(b, f"llvm.ctpop.i{width}", args[0].type, [args[0]])
        return count if width == 64 else b.zext(count, i64)

    return types.int64(mask), code


@intrinsic
def gather(_typing: Any, array: Any, indices: Any) -> Any:
    """``array[indices[i]]`` of a float32 array; indices are not checked."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        made = ctx.make_array(sig.args[0])(ctx, b, args[0])
        wide = ir.VectorType(i64, LANES)
        offset = b.shl(b.sext(args[1], wide), constant(wide, 2))
        base = broadcast(b, b.ptrtoint(made.data, i64), wide)
        at = b.inttoptr(b.add(base, offset), ir.VectorType(ir.PointerType(ir.FloatType()), LANES))
        mask = constant(ir.VectorType(i1, LANES), 1)
        given = [at, ir.Constant(i32, 4), mask, constant(F32.llvm, 0.0)]
        return call(b, "llvm.masked.gather.v16f32.v16p0", F32.llvm, given)

    return F32(array, indices), code


@intrinsic
def prefetch(_typing: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of an element; outside of the array it does nothing."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        at = pointer(ctx, b, sig, args, 0, i8)
        how = [ir.Constant(i32, n) for n in (0, 3, 1)]
        call(b, "llvm.prefetch.p0", ir.VoidType(), [at, *how])
        return ctx.get_dummy_value()

    return types.void(array, index), code
