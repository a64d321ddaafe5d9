"""The battery on matrices in strips and in blocks of rows; other families run it beside tests of their own."""

from __future__ import annotations

import pytest
from workbench_kernels import KERNELS, check_kernel

OWN = ("dense", "bitmap", "2:4", "16x1", "bsr16", "bsr32")


@pytest.mark.parametrize("name", [n for n in KERNELS if n.rpartition("-")[0] in OWN or n in OWN])
def test_kernel_keeps_the_rules(name: str) -> None:
    check_kernel(name)
