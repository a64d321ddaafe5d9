"""Condensed weights of constant fan-in.

Mike Lasby, Anna Golubeva, Utku Evci, Mihai Nica, Yani Ioannou. Dynamic Sparse Training with Structured Sparsity.
ICLR 2024. arXiv:2305.02299.

    y[n] = sum over j < F:  value[n, j] x[index[n, j]]        every output has F weights

Departs from the paper: no network is trained, the F inputs of each output are random, and no output is ablated (the
paper's timing profits from that as well); sparse rows are torch's CSR and our own. Every call finds the weights in
memory and not in a cache, as in a model that is larger than it. Held means faster than every opponent in every layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from workbench import render
from workbench._citation import Citation
from workbench.claims import Claim, Measurement
from workbench.execute.claims._duel import Contest, KernelContext, faster
from workbench.execute.claims._opponents import DENSE, SPARSE, contest
from workbench.execute.claims._published import Published, published


@dataclass(frozen=True)
class FasterFanIn:
    """Held if constant fan-in beats dense weights and sparse rows at one token.

    Attributes
    ----------
    layers
        Outputs and inputs: by default of ViT-B/16 and SmolLM2-135M.
    sparsity
        Share of the weights of each output that go.
    """

    needs: ClassVar[type[KernelContext]] = KernelContext
    layers: tuple[tuple[int, int], ...] = ((768, 3072), (1536, 576))
    sparsity: float = 0.9

    def __call__(self, context: KernelContext, name: str) -> Measurement:
        """Time all contests of all seeds."""
        del name
        asked = (
            f"at {render.share(self.sparsity)}, one token, weights from memory: faster than torch's dense layers, than "
            "torch's CSR and than our own CSR"
        )
        return faster(context, self.contests, asked, cold=True)

    def contests(self, seed: int) -> Iterator[Contest]:
        """Each layer in float32."""
        for layer in self.layers:
            weight = constant_fan_in(layer, self.sparsity, seed)
            x = np.random.default_rng([seed, 2]).standard_normal((1, layer[1])).astype(np.float32)
            work = f"{layer[0]} x {layer[1]}"
            yield contest(work, ("condensed", "csr"), "fp32", weight, x, DENSE | SPARSE)


def constant_fan_in(layer: tuple[int, int], sparsity: float, seed: int) -> np.ndarray:
    """Random weights ``[N, K]``, float32, with the same number of inputs, at least one, in every row.

    Examples
    --------
    >>> np.count_nonzero(constant_fan_in((3, 20), 0.9, 0), axis=1)
    array([2, 2, 2])
    """
    rng = np.random.default_rng(seed)
    kept = max(1, round((1 - sparsity) * layer[1]))
    order = rng.random(layer).argsort(axis=1).argsort(axis=1)
    values = rng.standard_normal(layer).astype(np.float32)
    values[values == 0] = 1
    return np.where(order < kept, values, 0).astype(np.float32)


CONDENSED = published(
    Published(
        "condensed",
        "SRigL's condensed weights",
        ("condensed", "condensed-bf16", "condensed-int8"),
        "y[n] = sum over j < F: value[n, j] x[index[n, j]]",
        Citation(
            "Mike Lasby, Anna Golubeva, Utku Evci, Mihai Nica, Yani Ioannou",
            "Dynamic Sparse Training with Structured Sparsity",
            2024,
            "2305.02299",
            "ICLR",
        ),
        Claim(
            "At 90 % with constant fan-in, one input at a time runs faster than dense and than unstructured CSR.",
            "A linear layer at 90 % on a CPU, online inference: 3.4x over dense, 2.5x over CSR",
            FasterFanIn(),
        ),
    )
)
