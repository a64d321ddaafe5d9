"""Views of the workbench: results in, traits out. All that a view does can be done in Python without it."""

from workbench_widgets.attend_panel import AttendPanel
from workbench_widgets.compare_panel import ComparePanel
from workbench_widgets.decode_panel import DecodePanel
from workbench_widgets.execute_panel import ExecutePanel
from workbench_widgets.kernel_lab import KernelLab, kernel_lab
from workbench_widgets.lens import Lens, lens
from workbench_widgets.predict import Predict, predict
from workbench_widgets.prune_panel import PrunePanel, prune_panel
from workbench_widgets.studio import Studio, studio
from workbench_widgets.theatre import Theatre, theatre
from workbench_widgets.view import view

__all__ = [
    "AttendPanel",
    "ComparePanel",
    "DecodePanel",
    "ExecutePanel",
    "KernelLab",
    "Lens",
    "Predict",
    "PrunePanel",
    "Studio",
    "Theatre",
    "kernel_lab",
    "lens",
    "predict",
    "prune_panel",
    "studio",
    "theatre",
    "view",
]
