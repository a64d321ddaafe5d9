"""How a result is shown: `view` dispatches on its type; every result has a static form too."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from workbench.attention import AttentionStudy
from workbench.decode import Generation, Trace
from workbench.errors import ArgumentError
from workbench.execute import KernelTimings
from workbench_widgets.kernel_lab import KernelLab
from workbench_widgets.lens import Lens
from workbench_widgets.theatre import Theatre


@singledispatch
def view(result: Any) -> Any:
    """What to display for a result: an interactive view where there is one, else its static rendering.

    Parameters
    ----------
    result
        A result of the workbench, e.g. what ``prune`` or ``perplexity`` returned.

    Raises
    ------
    ArgumentError
        If it cannot show itself.
    """
    if not hasattr(result, "_repr_mimebundle_"):
        raise ArgumentError(f"view() got {type(result).__name__}: pass a result, e.g. of workbench.prune(...)")
    return result


@view.register(KernelTimings)
def _kernels(result: KernelTimings) -> KernelLab:
    return KernelLab(timings=result)


@view.register(Trace)
@view.register(Generation)
def _decode(result: Trace | Generation) -> Theatre:
    return Theatre(result)


@view.register(AttentionStudy)
def _study(result: AttentionStudy) -> Lens:
    return Lens(result)
