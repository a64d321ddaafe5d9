"""Structured sparse GEMM on blocks of 4 outputs and 1 input.

Haihao Shen, Hengyu Meng, Bo Dong, Zhe Wang, Ofir Zafrir, Yi Ding, Yu Luo, Hanwen Chang, Qun Gao, Ziheng Wang, Guy
Boudoukh, Moshe Wasserblat. An Efficient Sparse Inference Software Accelerator for Transformer-based Language Models
on CPUs. 2023. arXiv:2306.16601.

    y[4s + i, t] = sum over k in C_s:  W[4s + i, k] x[k, t]        C_s: inputs that strip s of 4 rows keeps

Departs from the paper: int8 activations have one scale per token, and rounding them is part of the time; float32 is
asked as well, since no library here multiplies sparse int8. The libraries are torch's: its dense layers (MKL and
oneDNN, also with packed weights) and its CSR (MKL); zeros and weights are random. Held means faster than every one of
them in every layer; by how much is reported.
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
from workbench.execute.claims._opponents import DENSE, INT8, SPARSE, contest
from workbench.execute.claims._published import Published, published
from workbench.execute.patterns import random_weight


@dataclass(frozen=True)
class FasterBlocks:
    """Held if blocks of 4 x 1 beat dense int8 in int8, and dense and sparse float32 in float32.

    Attributes
    ----------
    layers
        Outputs and inputs: by default of BERT-base and SmolLM2-135M.
    sparsity
        Share of the blocks that go.
    tokens
        How many come together.
    """

    needs: ClassVar[type[KernelContext]] = KernelContext
    layers: tuple[tuple[int, int], ...] = ((3072, 768), (1536, 576))
    sparsity: float = 0.8
    tokens: int = 128

    def __call__(self, context: KernelContext, name: str) -> Measurement:
        """Time all contests of all seeds."""
        del name
        asked = (
            f"at {render.share(self.sparsity)}, {self.tokens} tokens: int8 blocks faster than torch's int8 layers, "
            "rounding included, and float32 blocks faster than torch's dense layers and its CSR"
        )
        return faster(context, self.contests, asked)

    def contests(self, seed: int) -> Iterator[Contest]:
        """Each layer in int8 and in float32."""
        for layer in self.layers:
            weight = random_weight(layer, "4x1", self.sparsity, seed)
            x = np.random.default_rng([seed, 2]).standard_normal((self.tokens, layer[1])).astype(np.float32)
            work = f"{layer[0]} x {layer[1]}"
            yield contest(work, ("4x1",), "int8", weight, x, INT8)
            yield contest(work, ("4x1",), "fp32", weight, x, DENSE | SPARSE)


BLOCK_SPMM = published(
    Published(
        "block-spmm",
        "Sparse GEMM on 4 x 1 blocks",
        ("4x1", "4x1-bf16", "4x1-int8"),
        "y[4s + i, t] = sum over k in C_s: W[4s + i, k] x[k, t]",
        Citation(
            "Haihao Shen, Hengyu Meng, Bo Dong, Zhe Wang, Ofir Zafrir, Yi Ding, Yu Luo, Hanwen Chang, Qun Gao, Ziheng "
            "Wang, Guy Boudoukh, Moshe Wasserblat",
            "An Efficient Sparse Inference Software Accelerator for Transformer-based Language Models on CPUs",
            2023,
            "2306.16601",
        ),
        Claim(
            "At 80 %, blocks of 4 x 1 multiply faster than dense libraries and than sparse ones on the same processor.",
            "Xeon, int8 VNNI, 70 to 90 %: up to 5x over oneDNN dense, about 10x over sparse libraries",
            FasterBlocks(),
        ),
    )
)
