"""Attention summed over blocks: what recall is counted from, without a whole map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from workbench_kernels.attention_prefill import BLOCK
from workbench_kernels.attention_sums import RowSums

from workbench.attention.watching import Passing

ROWS = 256


def block_mass(passing: Passing, head: int) -> np.ndarray:
    """Attention of a head, summed over blocks of 64 x 64: float32 ``[B, B]``, rows of queries that are not there 0."""
    tokens = passing.key.shape[1]
    sums = RowSums(tokens, sinks=1, local=1, near=1, far=1, block=BLOCK)
    keys = torch.nn.functional.pad(passing.key[head // passing.group].float(), (0, 0, 0, -tokens % 16))
    for start in range(0, passing.query.shape[1], ROWS):
        part = replace(passing, query=passing.query[:, start : start + ROWS])
        offset = passing.offset + start
        end = -(-(offset + part.query.shape[1]) // 16) * 16
        sums.add(np.ascontiguousarray(part.products(head, keys[:end]).numpy()), offset, passing.window)
    found: np.ndarray = sums.cells
    return found


def mass(passing: Passing) -> np.ndarray:
    """`block_mass` of all heads: float32 ``[H, B, B]``."""
    return np.stack([block_mass(passing, head) for head in range(len(passing.query))])
