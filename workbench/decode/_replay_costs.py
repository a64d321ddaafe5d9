"""What a pass of n tokens costs, as far as a trace tells. Part of `workbench.decode.replay`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from workbench.decode.trace import Trace

_ENOUGH = 3  # passes of a size, for a median of their times to mean something


def noted(costs: Any) -> list[tuple[int, float]]:
    """Costs as a method noted them: {"sizes": ..., "ratios": ...}, {n: ratio} or pairs; relative to one token."""
    if isinstance(costs, Mapping):
        sizes, ratios = costs.get("sizes", ()), costs.get("ratios", ())
        pairs = list(zip(sizes, ratios, strict=False)) or list(costs.items())
    else:
        pairs = list(costs) if isinstance(costs, list | tuple) else []
    try:
        found = sorted((int(n), float(v)) for n, v in pairs)
    except (TypeError, ValueError):
        return []
    one = next((v for n, v in found if n == 1), 0.0)
    return [(n, v / one) for n, v in found] if one > 0 else found


def own_costs(trace: Trace) -> list[tuple[int, float]]:
    """Medians of the trace's own passes of each size, relative to those of one token; empty where there are too few."""
    rows = trace.rows("verify")
    rows = rows[rows > 0]
    took = trace.columns["seconds"][rows] - trace.columns["seconds"][rows - 1]
    sizes = np.nan_to_num(trace.columns["value"][rows]).astype(int)
    medians = {int(n): float(np.median(took[sizes == n])) for n in np.unique(sizes) if (sizes == n).sum() >= _ENOUGH}
    if len(medians) < 2 or medians.get(1, 0.0) <= 0:
        return []
    return [(n, m / medians[1]) for n, m in medians.items()]
