"""The lowest layer: sparse kernels that know numpy and numba only.

    from workbench_kernels.formats import Bitmap
    from workbench_kernels.matmul import matmul
    y = matmul(Bitmap.from_dense(array, "bf16"), x)

Nothing here imports torch, transformers or `workbench`; the library's ``execute`` layer brings tensors in and
takes arrays out. Names are loaded when they are first used; importing this costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_FAMILIES = (
    "strips",
    "blocks",
    "row_blocks",
    "attention_prefill",
    "attention",
    "attention_blocks",
    "kv_bitmap",
    "csr",
    "csr_panels",
    "condensed",
)  # modules that register kernels
_HOME = {
    "KERNELS": "workbench_kernels._kernel",
    "Kernel": "workbench_kernels._kernel",
    "KernelError": "workbench_kernels._errors",
    "check_kernel": "workbench_kernels.testing",
    "features": "workbench_kernels._cpu",
}
__all__ = ["KERNELS", "Kernel", "KernelError", "check_kernel", "features"]

if TYPE_CHECKING:
    from workbench_kernels._cpu import features
    from workbench_kernels._errors import KernelError
    from workbench_kernels._kernel import KERNELS, Kernel
    from workbench_kernels.testing import check_kernel


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'workbench_kernels' has no attribute {name!r}")
    for family in _FAMILIES:
        importlib.import_module(f"workbench_kernels.{family}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
