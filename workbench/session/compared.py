"""All variants of a session beside the dense model: quality, bytes, speed, and which of them nothing beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench import measure, render
from workbench._charts import scatter
from workbench.errors import unknown
from workbench.results import Provenance, Result
from workbench.session.variants import Execution, Variant


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One model; ratios are to the dense one, NaN where nothing was measured.

    Attributes
    ----------
    number
        Of the variant; 0 is the dense model.
    name
    perplexity, ratio, low, high
        Ratio of perplexities on the same windows, paired, with its 95 % interval.
    parameters, nonzero, weight_bytes
    prefill, decode
        Speed of dense, above 1 is faster.
    decode_ms
        Of one token; of the dense model the median over the variants that were timed in turns with it.
    alike
        Decoding speed against the dense model compiled with the same values: what the zeros bring by themselves. NaN
        if this one is not compiled, or the session has no such variant.
    sparsity
        Share of parameters zeroed or removed.
    compiled
    """

    number: int
    name: str
    perplexity: float
    ratio: float
    low: float
    high: float
    parameters: int
    nonzero: int
    weight_bytes: int
    prefill: float
    decode: float
    decode_ms: float
    alike: float
    sparsity: float
    compiled: bool


@dataclass(frozen=True, eq=False, repr=False)
class Compared(Result):
    """What every variant costs and gives.

    Attributes
    ----------
    rows : tuple of ComparedRow
        The dense model first.
    provenance : Provenance
    """

    rows: tuple[ComparedRow, ...]
    provenance: Provenance = field(repr=False)

    def pareto(self, against: str = "decode") -> tuple[int, ...]:
        """Numbers of the models that no other one beats in perplexity and in ``"decode"`` or ``"weight_bytes"``."""
        sign = 1 if against == "weight_bytes" else -1
        points = [(r.number, r.perplexity, sign * getattr(r, against)) for r in self.rows]
        points = [p for p in points if np.isfinite(p[1:]).all()]
        return tuple(n for n, a, b in points if not any(x <= a and y <= b and (x, y) != (a, b) for _, x, y in points))

    def figure(self, against: str = "decode") -> Any:
        """Quality against ``"decode"`` speed or ``"weight_bytes"`` as a plotly figure."""
        from workbench.figures import Chart

        labels = {"decode": "decode speed, x dense", "weight_bytes": "weights, MB"}
        if against not in labels:
            raise unknown("against", against, labels)
        unit, best = (1e-6 if against == "weight_bytes" else 1.0), self.pareto(against)
        label = labels[against]
        static = self._picture(against, label)
        title = "Quality and decode speed" if against == "decode" else "Quality and bytes of weights"
        chart = Chart(title, label, "perplexity, x dense", static, log_x=against == "decode", log_y=True)
        rows = [r for r in self.rows if np.isfinite((r.ratio, getattr(r, against))).all()]
        for name, wanted in (("not beaten", True), ("beaten by another", False)):
            found = [r for r in rows if (r.number in best) == wanted]
            if found:
                points = [(str(r.number), getattr(r, against) * unit, r.ratio, _said(r)) for r in found]
                chart.points(name, points, filled=wanted)
        return chart

    @property
    def note(self) -> str:
        """What must be known to read the speeds right; empty where nothing is compiled."""
        compiled = [r for r in self.rows if r.compiled]
        if not compiled:
            return ""
        said = "Dense is run by PyTorch: a compiled variant is faster by compiled code, fewer bytes and zeros"
        if all(np.isfinite(r.alike) for r in compiled):
            return f"{said}. The last column is against dense compiled alike: what the zeros bring by themselves."
        return f"{said} together. Compile dense with the same values too to see what the zeros bring by themselves."

    def _headline(self) -> str:
        best = [r.name for r in self.rows if r.number in self.pareto()]
        return f"Compared({len(self.rows) - 1} variants beside dense; not beaten in quality and decode: {best})"

    def _sections(self) -> tuple[render.Section, ...]:
        header: tuple[str, ...] = ("", "perplexity", "x dense", "95 %", "MB", "prefill, x", "decode, x", "ms/token")
        rows: list[tuple[Any, ...]] = [
            (r.name, r.perplexity, r.ratio, f"{r.low:.3g} to {r.high:.3g}", r.weight_bytes / 1e6,
             *map(_known, (r.prefill, r.decode, r.decode_ms)))
            for r in self.rows
        ]  # fmt: skip
        if any(np.isfinite(r.alike) for r in self.rows):
            header = (*header, "x compiled dense")
            rows = [(*cells, _known(r.alike)) for cells, r in zip(rows, self.rows, strict=True)]
        return (
            render.section("Variants", rows, header, picture=self._picture("decode", "decode speed, x dense")),
            *([render.prose("", self.note)] if self.note else []),
            render.section("", [], picture=self._picture("weight_bytes", "bytes of weights, x dense")),
            render.prose("Provenance", str(self.provenance)),
        )

    def _picture(self, against: str, label: str) -> str:
        first, best = float(getattr(self.rows[0], against)) or 1.0, self.pareto(against)
        points = [(r.name, getattr(r, against) / first, r.ratio, r.number in best) for r in self.rows]
        return scatter(points, title=f"Quality and {label}", x_label=label, y_label="perplexity, x dense")


def compared(variants: Sequence[Variant], quality: Any, size: Any) -> Compared:
    """The table of a session's variants; nothing is measured anew.

    Parameters
    ----------
    quality
        Of the dense model; None if it was not measured yet.
    size
        Of the dense model.
    """
    nan = float("nan")
    timed = [v.speed.decode.dense_ms for v in variants if v.speed is not None]  # in turns with each variant
    perplexity = quality.perplexity if quality is not None else nan
    ms = float(np.median(timed)) if timed else nan
    counts = size.parameters, size.nonzero_parameters, size.weight_bytes
    rows = [ComparedRow(0, "dense", perplexity, 1.0, 1.0, 1.0, *counts, 1.0, 1.0, ms, nan, 0.0, False)]
    alone: dict[str, float] = {}  # decoding speed of the dense model that is only compiled, by its values
    for v in variants:
        values = _values(v)
        if values and len(v.lineage) == 1 and v.speed is not None:
            alone[values] = max(alone.get(values, 0.0), v.speed.decode.ratio)
    return Compared((*rows, *(_row(v, alone.get(_values(v), nan)) for v in variants)), Provenance.here())


def _known(value: float) -> Any:
    return value if np.isfinite(value) else "-"


def _said(r: ComparedRow) -> str:
    return (
        f"<b>{r.name}</b><br>perplexity {r.perplexity:.4g}, {r.ratio:.3g} x dense [{r.low:.3g}, {r.high:.3g}]<br>"
        f"{r.weight_bytes / 1e6:.0f} MB, prefill {r.prefill:.2f} x, decode {r.decode:.2f} x"
    )


def _values(v: Variant) -> str:
    """How a compiled variant stores its values; empty if it is not compiled."""
    last = v.lineage[-1]
    return last.values if isinstance(last, Execution) else ""


def _row(v: Variant, alone: float) -> ComparedRow:
    paired, nan = measure.compare(v.after, v.before), float("nan")
    speeds: tuple[float, float, float] = (nan, nan, nan)
    if v.speed is not None:
        speeds = v.speed.prefill.ratio, v.speed.decode.ratio, v.speed.decode.ms
    counts = v.size.parameters, v.size.nonzero_parameters, v.size.weight_bytes
    interval = paired.ratio, paired.low, paired.high
    return ComparedRow(
        v.number, v.name, v.after.perplexity, *interval, *counts, *speeds, speeds[1] / alone, v.sparsity, v.compiled
    )
