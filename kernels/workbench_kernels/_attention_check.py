"""What attention should give, in float64, and how far float32 kernels may be from it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def attend_reference(q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray, scale: float) -> np.ndarray:
    """``softmax(scale q k^T over seen) v`` in float64; a row that sees no key gives zeros.

    Parameters
    ----------
    q, k, v
        ``[R, D]``, ``[n, D]`` and ``[n, D]``.
    seen
        Bool ``[R, n]``. A key that a row does not see never meets it: NaN there does not spread.
    scale
        Of the scores.
    """
    weight, wrong = _softmax(q, k, seen, scale), ~np.isfinite(v)
    out = weight @ np.where(wrong, 0, v).astype(np.float64)
    out[seen.astype(np.float64) @ wrong > 0] = np.nan
    return out


def attend_bound(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray, scale: float, rounding: float = 0.0
) -> np.ndarray:
    """How far a kernel may be from `attend_reference`, elementwise. Parameters as there.

    ``rounding`` says how far a kernel rounds q, relatively, before it multiplies; scores err by that times M more.

    With u = 2^-24 and ``M = max_j scale sum_d |q_d k_jd|`` over the seen keys of a row: a score is a sum of D products
    and errs by at most ``(D + 2) u M``; taking the maximum off, and bringing partial sums to a new maximum in steps
    that together go no further than the spread of the scores (at most 2 M), rounds exponents by at most ``8 u M``
    more; the exponential itself errs by 3 u relatively. So a weight errs relatively by ``t = e^((D + 16) u M) - 1 +
    8 u``, numerator and mass alike, and both are sums of n terms in any order, with one more rounding for every part
    that is merged (``(n + 64) u`` each): ``|error| <= 2 (t + (n + 64) u) sum_j p_j |v_j|`` to first order. Twice that
    covers the second; weights below e^-87 stay at 2^-125 of the mass.
    """
    unit, keys = 2.0**-24, seen.sum(axis=1)
    size = np.where(seen, scale * np.abs(q).astype(np.float64) @ np.abs(k).astype(np.float64).T, 0)
    each = (q.shape[1] + 16) * unit + 2 * rounding
    term = np.expm1(each * size.max(axis=1, initial=0)) + 8 * unit
    share = _softmax(q, k, seen, scale) @ np.abs(v).astype(np.float64)
    least = keys * 2.0**-125 * np.abs(v).max(initial=0)
    return 4 * (term + (keys + 64) * unit)[:, None] * share + least[:, None]


def each_head(
    function: Callable[..., np.ndarray],
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    scale: float | None,
    seen: np.ndarray | None = None,
) -> np.ndarray:
    """`attend_reference` or `attend_bound` for one token: q ``[Hq, D]``, k and v ``[Hkv, n, D]``, seen ``[Hkv, n]``."""
    group, out = len(q) // len(k), np.zeros(q.shape)
    factor = q.shape[1] ** -0.5 if scale is None else scale
    for h in range(len(k)):
        every = np.ones(k.shape[1], bool) if seen is None else seen[h]
        rows = slice(h * group, h * group + group)
        out[rows] = function(q[rows], k[h], v[h], np.broadcast_to(every, (group, k.shape[1])), factor)
    return out


def _softmax(q: np.ndarray, k: np.ndarray, seen: np.ndarray, scale: float) -> np.ndarray:
    scores = np.where(seen, scale * (q.astype(np.float64) @ k.astype(np.float64).T), -np.inf)
    some = seen.any(axis=1, keepdims=True)
    top = np.where(some, scores.max(axis=1, initial=-np.inf, keepdims=True), 0)
    weight = np.where(seen, np.exp(scores - top), 0)
    return weight / np.where(some, weight.sum(axis=1, keepdims=True), 1)
