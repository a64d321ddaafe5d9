"""Patterns of zeros: found in a matrix, made for one, drawn as a picture."""

from __future__ import annotations

import numpy as np

from workbench.errors import ArgumentError
from workbench.execute.forms import FORMS, WASTE, kept, tiled
from workbench.prune.masks import Pattern

PIXELS = 128
NAMED = {"unstructured": "1x1", "bsr16": "16x16", "bsr32": "32x32"}
FULL = 0.98  # share of the weights kept, from which on a matrix is dense: trained ones have zeros too
_COARSE = ("bsr32", "bsr16", "16x1", "4x1", "2:4")


def pattern_of(weight: np.ndarray) -> str:
    """The coarsest pattern that a matrix keeps to, to within a few padded weights.

    Returns
    -------
    str
        ``"dense"``, ``"bsr32"``, ``"bsr16"``, ``"16x1"``, ``"4x1"``, ``"2:4"``, ``"unstructured"`` or ``"empty"``.

    Examples
    --------
    >>> pattern_of(np.kron(np.eye(4), np.ones((16, 2))))
    '16x1'
    """
    mask = np.asarray(weight) != 0
    count = kept(mask)
    if count >= FULL * mask.size:
        return "dense"
    if not count:
        return "empty"
    for name in _COARSE:
        stored = FORMS[name].stores(mask)
        if stored is not None and stored <= (1 + (WASTE - 1) / 4) * count:
            return name
    return "unstructured"


def random_mask(shape: tuple[int, int], pattern: str, sparsity: float | None, seed: int) -> np.ndarray:
    """A random mask ``[N, K]``, True where a weight is kept.

    Parameters
    ----------
    pattern
        ``"unstructured"``, N:M such as ``"2:4"``, a block such as ``"16x1"``, ``"bsr16"`` or ``"bsr32"``.
    sparsity
        Share of blocks that go; None: what N:M fixes, else 0.8.

    Raises
    ------
    ArgumentError
        If the pattern cannot be read, or N:M is asked at another sparsity.
    """
    shape_of = Pattern.parse(NAMED.get(pattern, pattern))
    fixed = shape_of.sparsity
    if sparsity is None:
        sparsity = 0.8 if fixed is None else fixed
    if isinstance(sparsity, bool) or not isinstance(sparsity, int | float) or not 0 <= sparsity <= 1:
        raise ArgumentError(f"sparsity={sparsity!r}: a share of the weights in [0, 1]")
    if fixed is not None and abs(sparsity - fixed) > 1e-9:
        raise ArgumentError(f"sparsity={sparsity}: the pattern {pattern} fixes {fixed:g}; leave sparsity out")
    rng, (rows, columns) = np.random.default_rng(seed), shape
    if shape_of.is_nm:
        groups = rng.random((rows, -(-columns // shape_of.of), shape_of.of)).argsort(axis=2) < shape_of.keep
        return np.ascontiguousarray(groups.reshape(rows, -1)[:, :columns])
    grid = -(-rows // shape_of.rows), -(-columns // shape_of.columns)
    keep = np.zeros(grid[0] * grid[1], bool)
    keep[: round((1 - sparsity) * keep.size)] = True
    keep = rng.permutation(keep).reshape(grid)
    return keep.repeat(shape_of.rows, axis=0).repeat(shape_of.columns, axis=1)[:rows, :columns].copy()


def random_weight(shape: tuple[int, int], pattern: str, sparsity: float | None, seed: int) -> np.ndarray:
    """Float32 ``[N, K]``, normal where `random_mask` keeps, else zero."""
    mask = random_mask(shape, pattern, sparsity, seed)
    values = np.random.default_rng([seed, 1]).standard_normal(shape, np.float32)
    values[values == 0] = 1
    return np.where(mask, values, 0).astype(np.float32)


def picture(weight: np.ndarray) -> np.ndarray:
    """Share of weights kept in each tile of a matrix.

    Returns
    -------
    uint8 [height, width]
        At most 128 x 128; 255 where all are kept.
    """
    mask = np.asarray(weight) != 0
    steps = [max(1, -(-n // PIXELS)) for n in mask.shape]
    filled = tiled(mask, *steps).sum(axis=(1, 3), dtype=np.int64)
    whole = tiled(np.ones(mask.shape, bool), *steps).sum(axis=(1, 3), dtype=np.int64)
    return np.rint(255 * filled / whole).astype(np.uint8)
