"""Weight formats: how a matrix W [outputs, inputs] lies in memory. One file per family of layouts."""

from workbench_kernels.formats._base import VALUES, WeightFormat

__all__ = ["VALUES", "WeightFormat"]
