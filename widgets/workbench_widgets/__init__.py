"""Views of the workbench: results in, traits out. All that a view does can be done in Python without it."""

from workbench_widgets.kernel_lab import KernelLab, kernel_lab
from workbench_widgets.lens import Lens, lens
from workbench_widgets.studio import Studio, studio
from workbench_widgets.theatre import Theatre, theatre
from workbench_widgets.view import view

__all__ = ["KernelLab", "Lens", "Studio", "Theatre", "kernel_lab", "lens", "studio", "theatre", "view"]
