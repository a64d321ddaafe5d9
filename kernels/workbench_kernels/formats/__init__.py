"""Weight formats: how a matrix W [outputs, inputs] lies in memory. One file per family of layouts."""

from workbench_kernels.formats._base import VALUES, WeightFormat
from workbench_kernels.formats.blocks import BlockRows, ColumnBlocks
from workbench_kernels.formats.condensed import Condensed
from workbench_kernels.formats.csr import CSR
from workbench_kernels.formats.csr_panels import PanelCSR
from workbench_kernels.formats.row_blocks import RowBlocks
from workbench_kernels.formats.strips import NM, Bitmap, Dense

__all__ = [
    "CSR",
    "NM",
    "VALUES",
    "Bitmap",
    "BlockRows",
    "ColumnBlocks",
    "Condensed",
    "Dense",
    "PanelCSR",
    "RowBlocks",
    "WeightFormat",
]
