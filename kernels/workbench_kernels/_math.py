"""Elementary functions on registers."""

from __future__ import annotations

import numpy as np

from workbench_kernels._jit import inline
from workbench_kernels._vector import (
    add,
    bits_as_f32,
    div,
    f32_as_bits,
    fma,
    maximum,
    minimum,
    mul,
    shift_left,
    splat,
    splat_i32,
    sub,
)
from workbench_kernels._vector import add_i32 as _plus

_SHIFT = np.float32(1.5 * 2**23)


@inline
def exp(x):
    """``e^x`` to 2 units in the last place for x in [-87, 88]; below: 0 to within 1.7e-38, above: at least 1.6e38.

    Cody and Waite's reduction ``x = n ln 2 + r`` and the polynomial of Cephes' expf for ``e^r``. NaN stays NaN. Adding
    1.5 * 2^23 rounds to a whole number and leaves it in the low bits, without a conversion.
    """
    x = minimum(maximum(x, splat(np.float32(-87.0))), splat(np.float32(88.0)))
    shifted = fma(x, splat(np.float32(1.44269504)), splat(_SHIFT))
    n = sub(shifted, splat(_SHIFT))
    r = fma(n, splat(np.float32(-0.693359375)), x)
    r = fma(n, splat(np.float32(2.12194440e-4)), r)
    p = splat(np.float32(1.9875691500e-4))
    p = fma(p, r, splat(np.float32(1.3981999507e-3)))
    p = fma(p, r, splat(np.float32(8.3334519073e-3)))
    p = fma(p, r, splat(np.float32(4.1665795894e-2)))
    p = fma(p, r, splat(np.float32(1.6666665459e-1)))
    p = fma(p, r, splat(np.float32(5.0000001201e-1)))
    p = fma(mul(r, r), p, add(r, splat(np.float32(1.0))))
    power = _plus(shift_left(f32_as_bits(shifted), 23), splat_i32(np.int32(127 << 23)))
    return mul(p, bits_as_f32(power))


@inline
def silu(x):
    """``x / (1 + e^-x)``."""
    return div(x, add(splat(np.float32(1.0)), exp(sub(splat(np.float32(0.0)), x))))
