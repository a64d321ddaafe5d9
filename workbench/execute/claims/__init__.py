"""Kernels that papers describe: citation, formula, where we depart, and the headline claim that can be replicated.

    block_spmm.py    blocks of 4 x 1 (Shen et al. 2023)
    condensed.py     constant fan-in (Lasby et al. 2023)
    mustafar.py      bitmap-compressed keys and values (Joo et al. 2025), as ``bitmap-attention``

The kernels themselves are in `workbench_kernels`, which knows neither torch nor claims. ``workbench.claims`` lists
what is registered here beside the pruning methods.
"""

from __future__ import annotations

from workbench.execute.claims import block_spmm, condensed, mustafar  # noqa: F401 - importing registers
from workbench.execute.claims._duel import Comparison, KernelContext
from workbench.execute.claims._published import Published, published, registry

__all__ = ["Comparison", "KernelContext", "Published", "published", "registry"]
