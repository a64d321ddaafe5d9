"""Not every token needs every layer: early exits, and paths through the layers."""

from __future__ import annotations

from workbench.decode.depth import cola, dynamic_exit, free  # noqa: F401 - importing registers
from workbench.decode.depth.layer_paths import LayerPath, LayerPaths, layer_paths
from workbench.decode.depth.lens import TunedLens
from workbench.decode.depth.training import train_lens

__all__ = ["LayerPath", "LayerPaths", "TunedLens", "layer_paths", "train_lens"]
