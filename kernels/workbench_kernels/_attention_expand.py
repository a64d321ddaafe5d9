"""Steps of attention over bitmap-compressed rows: expansion, products with query rows, sums over lanes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from workbench_kernels._jit import inline
from workbench_kernels._tile import _index
from workbench_kernels._vector import F32, I32, address, call, f32, i32, i64
from workbench_kernels._wide import emit_dot_bf16, expand, expand_bf16, ones


@intrinsic
def fma_each(_typing: Any, acc: Any, x: Any, tile: Any) -> Any:
    """``acc[r] += x * tile[r]``."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        pairs = zip(cgutils.unpack_tuple(b, args[0]), cgutils.unpack_tuple(b, args[2]), strict=True)
        return ctx.make_tuple(b, acc, [call(b, "llvm.fma.v16f32", F32.llvm, [args[1], y, a]) for a, y in pairs])

    return acc(acc, x, tile), code


@intrinsic
def dot_each(_typing: Any, acc: Any, x: Any, q: Any, start: Any, step: Any) -> Any:
    """``acc[r] += x . q[start + r step ...]``, both 32 bf16."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin, apart_by, out = _index(ctx, b, sig, args, 3), _index(ctx, b, sig, args, 4), []
        for r, a in enumerate(cgutils.unpack_tuple(b, args[0])):
            place = b.add(begin, b.mul(apart_by, ir.Constant(i64, r)))
            value = b.load(address(ctx, b, sig.args[2], args[2], place, 32, I32.llvm), align=2)
            out.append(emit_dot_bf16(b, a, args[1], value))
        return ctx.make_tuple(b, acc, out)

    return acc(acc, x, q, start, step), code


@intrinsic
def put_totals(_typing: Any, array: Any, start: Any, step: Any, acc: Any) -> Any:
    """``array[start + r step] =`` the sum of the lanes of ``acc[r]``, in halves."""

    def code(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
        begin, apart_by = _index(ctx, b, sig, args, 1), _index(ctx, b, sig, args, 2)
        for r, value in enumerate(cgutils.unpack_tuple(b, args[3])):
            width, total = 16, value
            while width > 1:
                width //= 2
                halves = (ir.Constant(ir.VectorType(i32, width), list(range(o, o + width))) for o in (0, width))
                low, high = (b.shuffle_vector(total, total, half) for half in halves)
                total = b.fadd(low, high)
            place = b.add(begin, b.mul(apart_by, ir.Constant(i64, r)))
            at = address(ctx, b, sig.args[0], args[0], place, 1, f32)
            b.store(b.extract_element(total, ir.Constant(i32, 0)), at, align=4)
        return ctx.get_dummy_value()

    return types.void(array, start, step, acc), code


@intrinsic
def expanded(typing: Any, array: Any, index: Any, mask: Any) -> Any:
    """16 numbers from float32 or raw bf16 memory."""
    return (expand_bf16 if array.dtype == types.uint16 else expand)._defn(typing, array, index, mask)


@inline
def expand_four(packed, p, masks, m):
    """The 64 numbers whose masks begin at word ``m``."""
    a, b, c, d = masks[m], masks[m + 1], masks[m + 2], masks[m + 3]
    second = p + ones(a)
    third = second + ones(b)
    fourth = third + ones(c)
    return expanded(packed, p, a), expanded(packed, second, b), expanded(packed, third, c), expanded(packed, fourth, d)
