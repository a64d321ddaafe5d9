"""The optimal-brain-surgeon sweep over the columns of a weight: SparseGPT's core, and a repair for any mask.

For fixed masks the rows are independent, so the sweep inside a block runs row by row in compiled code; what a
block leaves for the columns right of it is one matrix product.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit

from workbench.errors import ArgumentError, ModelError
from workbench.prune.masks import Pattern, select
from workbench.prune.statistics import SiteStatistics


def factor(inputs: SiteStatistics | None, damp: float) -> torch.Tensor:
    """Upper Cholesky factor U ``[in, in]`` of the inverse of the damped Gram matrix: ``H^-1 = U^T U``.

    Inputs that were never active get next to nothing on the diagonal: independent of all others, and the first to go.
    """
    if inputs is None:
        raise ArgumentError("this update needs the Gram matrix of the inputs: pass calibration text")
    gram = inputs.get("gram").clone()
    diagonal = gram.diagonal()
    dead, mean = diagonal == 0, float(diagonal.mean())
    diagonal += damp * mean
    diagonal[dead] = 1e-10 * (mean or 1.0)
    lower, info = torch.linalg.cholesky_ex(gram)
    if int(info):
        raise ModelError("the Gram matrix of the inputs is not positive definite: use more text or a larger damp")
    return torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)


def sweep(
    weight: torch.Tensor,
    upper: torch.Tensor,
    *,
    count: int = 0,
    pattern: Pattern | None = None,
    mask: torch.Tensor | None = None,
    block: int = 128,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Prune a weight column by column and let the columns to the right make up for it.

    Parameters
    ----------
    weight : Tensor [out, in]
    upper : Tensor [in, in]
        As `factor` gives it.
    count, pattern
        How many to prune, and the pattern; not read if ``mask`` is given.
    mask : Tensor [out, in], bool, or None
        What to prune; None: chosen as the sweep goes, by ``w^2 / U_jj^2``.
    block
        Columns per block; with N:M a multiple of M.

    Returns
    -------
    weight, mask : Tensor [out, in]
        New weight, exactly zero where the mask is True.
    """
    pattern = pattern or Pattern()
    if pattern.is_nm and block % pattern.of:
        raise ArgumentError(f"block={block} must be a multiple of {pattern.of} for the pattern {pattern}")
    if block % pattern.columns:
        raise ArgumentError(f"block={block} must be a multiple of the {pattern.columns} columns of {pattern}")
    given, device = mask is not None, weight.device
    rows, columns = weight.shape
    new = weight.detach().float().cpu().clone().contiguous()
    pruned = torch.zeros(rows, columns, dtype=torch.bool)
    if mask is not None:
        pruned.copy_(mask)
    upper = upper.float().cpu().contiguous()
    group = pattern.of if pattern.is_nm and not given else 0
    for start in range(0, columns, block):
        stop = min(start + block, columns)
        part, u = new[:, start:stop].contiguous(), upper[start:stop, start:stop].contiguous()
        chosen = pruned[:, start:stop].contiguous()
        if not given and not group:
            size = pattern.rows * pattern.columns
            tiles = count // size
            share = (tiles * stop // columns - tiles * start // columns) * size
            chosen = select(part.square() / u.diagonal().square(), share, pattern)
        error = torch.zeros_like(part)
        _rows(part.numpy(), u.numpy(), chosen.numpy(), error.numpy(), group, group - pattern.keep)
        new[:, start:stop], pruned[:, start:stop] = part, chosen
        if stop < columns:
            new[:, stop:] -= error @ upper[start:stop, stop:]
    return new.masked_fill_(pruned, 0.0).to(device), pruned.to(device)


@njit(cache=True, nogil=True)
def _rows(part, u, mask, error, group, drop):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Sweep every row of one block in place: part, mask, error [rows, width]; u [width, width]."""
    rows, width = part.shape
    for r in range(rows):
        w = part[r]
        for j in range(width):
            if group and j % group == 0:  # mark the lowest of this group, on the updated weights
                for _ in range(drop):
                    best, at = np.inf, -1
                    for k in range(j, min(j + group, width)):
                        score = w[k] * w[k] / (u[k, k] * u[k, k])
                        if not mask[r, k] and score < best:
                            best, at = score, k
                    if at >= 0:
                        mask[r, at] = True
            if mask[r, j]:
                e = w[j] / u[j, j]
                error[r, j] = e
                for k in range(j, width):
                    w[k] -= e * u[j, k]
