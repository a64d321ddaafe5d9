"""Elementary functions on registers."""

from __future__ import annotations

import numpy as np

from workbench_kernels._jit import inline
from workbench_kernels._vector import (
    add,
    bits_as_f32,
    div,
    fma,
    maximum,
    minimum,
    mul,
    nearest,
    shift_left,
    splat,
    splat_i32,
    sub,
    to_i32,
)
from workbench_kernels._vector import add_i32 as _plus


@inline
def exp(x):
    """``e^x`` to 2 units in the last place for x in [-87, 88]; below: 0 to within 1.7e-38, above: at least 1.6e38.

    Cody and Waite's reduction ``x = n ln 2 + r`` and the polynomial of Cephes' expf for ``e^r``. NaN stays NaN.
    """
    x = minimum(maximum(x, splat(np.float32(-87.0))), splat(np.float32(88.0)))
    n = nearest(mul(x, splat(np.float32(1.44269504))))
    r = fma(n, splat(np.float32(-0.693359375)), x)
    r = fma(n, splat(np.float32(2.12194440e-4)), r)
    p = splat(np.float32(1.9875691500e-4))
    p = fma(p, r, splat(np.float32(1.3981999507e-3)))
    p = fma(p, r, splat(np.float32(8.3334519073e-3)))
    p = fma(p, r, splat(np.float32(4.1665795894e-2)))
    p = fma(p, r, splat(np.float32(1.6666665459e-1)))
    p = fma(p, r, splat(np.float32(5.0000001201e-1)))
    p = fma(mul(r, r), p, add(r, splat(np.float32(1.0))))
    power = shift_left(_plus(to_i32(n), splat_i32(np.int32(127))), 23)
    return mul(p, bits_as_f32(power))


@inline
def silu(x):
    """``x / (1 + e^-x)``."""
    return div(x, add(splat(np.float32(1.0)), exp(sub(splat(np.float32(0.0)), x))))
