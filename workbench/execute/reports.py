"""What timing kernels returns: rows, the roofline they stand under, the pattern, and where sparsity begins to pay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench import render
from workbench.errors import ArgumentError
from workbench.execute._pictures import roofline_chart, roofline_figure
from workbench.render import Section
from workbench.results import Provenance, Result


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One kernel at one number of tokens.

    Attributes
    ----------
    format : str
        Name of the format; ``"torch"`` is torch's dense layer, ``"torch-csr"`` its sparse one.
    values : str
        ``"fp32"``, ``"bf16"`` or ``"int8"``.
    tokens : int
    ms : float
        Median milliseconds of one multiplication.
    ratio, low, high : float
        Speed relative to torch's dense float32 layer, above 1 is faster, with its 95 % interval.
    own_ratio : float
        Speed relative to our own dense kernel with the same values; NaN if there is none.
    gflops, gbytes : float
        GFLOP/s of the weights stored, GB/s of all bytes moved.
    roofline : float
        Share of the bound that the machine sets, in [0, 1]; NaN if the machine was not measured.
    intensity : float
        FLOPs per byte moved.
    computes : str
        The type that is multiplied, which sets the peak.
    bytes_moved, weight_bytes : int
        Weights, activations and outputs; weights alone.
    stored : int
        Weights stored, padding included.
    error : float
        Largest error over the bound derived for it: at most 1 for our kernels; NaN where none is derived.
    """

    format: str
    values: str
    tokens: int
    ms: float
    ratio: float
    low: float
    high: float
    own_ratio: float
    gflops: float
    gbytes: float
    roofline: float
    intensity: float
    computes: str
    bytes_moved: int
    weight_bytes: int
    stored: int
    error: float

    @property
    def name(self) -> str:
        """Format and values, e.g. ``"16x1-bf16"``; fp32 goes without saying."""
        return self.format if self.values == "fp32" else f"{self.format}-{self.values}"


@dataclass(frozen=True, slots=True)
class BreakEvenRow:
    """Time against density of one kernel, relative to its dense peer.

    Attributes
    ----------
    format, values : str
    tokens : int
    sparsity : float
        From which on the kernel is faster than the peer, by the fitted line; 0: always, NaN: at none below 1.
    fixed, slope : float
        The line: time / peer's time = fixed + slope * density.
    densities, times : float64 [points]
        What was measured.
    residual : float
        Largest distance of a point from the line, relative to the point.
    """

    format: str
    values: str
    tokens: int
    sparsity: float
    fixed: float
    slope: float
    densities: np.ndarray
    times: np.ndarray
    residual: float

    @property
    def name(self) -> str:
        """Format and values."""
        return self.format if self.values == "fp32" else f"{self.format}-{self.values}"


@dataclass(frozen=True, repr=False, eq=False)
class BreakEven(Result):
    """From which sparsity on each kernel beats a dense one.

    Attributes
    ----------
    shape : (int, int)
    pattern : str
    peer : str
        ``"torch"`` (float32) or ``"dense"`` (our own with the same values).
    threads : int
    rows : tuple of BreakEvenRow
    seconds : float
        That measuring took.
    provenance : Provenance
    """

    shape: tuple[int, int]
    pattern: str
    peer: str
    threads: int
    rows: tuple[BreakEvenRow, ...]
    seconds: float
    provenance: Provenance = field(repr=False)

    def _headline(self) -> str:
        n, k = self.shape
        known = [r for r in self.rows if np.isfinite(r.sparsity)]
        best = min(known, key=lambda r: r.sparsity) if known else None
        said = f"{best.name} {_from(best.sparsity)} at {best.tokens} tokens" if best else "nowhere below 1"
        return f"BreakEven({n} x {k}, {self.pattern}, against {self.peer}: {said})"

    def _sections(self) -> tuple[Section, ...]:
        return (self.section(),)

    def section(self) -> Section:
        """As one part of a larger result."""
        header = ("kernel", "tokens", "faster", "time at density 0", "per density", "worst residual")
        rows = [(r.name, r.tokens, _from(r.sparsity), r.fixed, r.slope, f"{r.residual:.0%}") for r in self.rows]
        series = {
            f"{r.name}, {r.tokens} tok.": {"x": r.densities.tolist(), "y": r.times.tolist()} for r in self.rows[:8]
        }
        title = f"Time relative to {self.peer}, by density"
        chart = render.lines(series, title=title, x_label="density", y_label="time") if series else ""
        return render.section(f"Break-even with {self.peer}", rows, header, picture=chart)


def _from(sparsity: float) -> str:
    return "never" if np.isnan(sparsity) else "always" if sparsity <= 0 else f"from {render.share(round(sparsity, 3))}"


@dataclass(frozen=True, repr=False, eq=False)
class KernelTimings(Result):
    """Kernels of all fitting formats side by side, on one matrix.

    Attributes
    ----------
    title : str
        The layer, or the shape and pattern.
    shape : (int, int)
        Outputs and inputs.
    pattern : str
        Found in the matrix.
    sparsity : float
        Share of weights that are zero.
    tokens : tuple of int
    threads, repeats : int
        Repeats of each kernel so far.
    cold : bool
        Whether caches were emptied before every call.
    clock : str
        ``"thread"`` (processor time) or ``"wall"``.
    rows : tuple of KernelRow
    skipped : mapping of str to str
        What was not timed, and why.
    roofline : object or None
        Peaks and bandwidths of this machine (``workbench_kernels.roofline.Roofline``).
    picture : uint8 [height, width]
        Density of the pattern in at most 128 x 128 tiles, 255 where all weights are kept.
    break_even : BreakEven or None
    seconds : float
        That all of it took.
    provenance : Provenance
    """

    title: str
    shape: tuple[int, int]
    pattern: str
    sparsity: float
    tokens: tuple[int, ...]
    threads: int
    repeats: int
    cold: bool
    clock: str
    rows: tuple[KernelRow, ...]
    skipped: Mapping[str, str]
    roofline: Any
    picture: np.ndarray = field(repr=False)
    break_even: BreakEven | None
    seconds: float
    provenance: Provenance = field(repr=False)

    def at(self, tokens: int) -> tuple[KernelRow, ...]:
        """The rows at one number of tokens, the fastest first."""
        found = sorted((r for r in self.rows if r.tokens == tokens), key=lambda r: r.ms)
        if not found:
            raise ArgumentError(f"tokens={tokens!r}: measured are {', '.join(map(str, self.tokens))}")
        return tuple(found)

    def row(self, name: str, tokens: int) -> KernelRow:
        """The row of a kernel, e.g. ``row("16x1-bf16", 1)``."""
        for found in self.at(tokens):
            if found.name == name:
                return found
        raise ArgumentError(f"no kernel {name!r} was timed: {', '.join(sorted({r.name for r in self.rows}))}")

    def figure(self) -> Any:
        """The roofline as a plotly figure: GFLOP/s over FLOPs per byte moved.

        Raises
        ------
        ArgumentError
            If the machine's peaks were not measured with it.
        """
        if self.roofline is None:
            raise ArgumentError("these timings have no roofline: time kernels with roofline=True")
        return roofline_figure(self.title, self.rows, self.roofline)

    def _headline(self) -> str:
        best = [self.at(t)[0] for t in self.tokens if any(r.tokens == t for r in self.rows)]
        said = ", ".join(f"{r.tokens} tokens: {r.name} {render.number(r.ratio, 3)}x" for r in best)
        return f"KernelTimings({self.title}; fastest at {said or 'nothing yet'})"

    def _sections(self) -> tuple[Section, ...]:
        parts = [self._what()]
        for tokens in self.tokens:
            rows = [r for r in self.rows if r.tokens == tokens]
            if rows:
                parts.append(_table(rows, tokens))
        if self.roofline is not None and self.rows:
            parts.append(self._roof())
        if self.break_even is not None:
            parts.append(self.break_even.section())
        if self.skipped:
            parts.append(render.section("Not timed", list(self.skipped.items())))
        return tuple(parts)

    def _what(self) -> Section:
        n, k = self.shape
        rows = [
            ("matrix", f"{self.title}, {n} outputs x {k} inputs"),
            ("pattern", f"{self.pattern}, {render.share(round(self.sparsity, 4))} of the weights are zero"),
            ("protocol", f"{self.repeats} interleaved repeats, medians, {self.threads} thread(s), {self.clock} time"),
            ("caches", "emptied before every call" if self.cold else "as the call before left them"),
            ("made by", str(self.provenance)),
        ]
        zoom = max(1, 256 // max(self.picture.shape))
        drawn = render.heatmap_png(self.picture / 255, title="Density of the pattern", zoom=zoom)
        return render.section("What was timed", rows, picture=drawn)

    def _roof(self) -> Section:
        r = self.roofline
        rows = [
            ("peak fp32, bf16, int8 (GFLOP/s)", ", ".join(render.number(x, 3) for x in (r.fp32, r.bf16, r.int8))),
            ("second cache, last cache, memory (GB/s)",
             ", ".join(render.number(x, 3) for x in (r.cache_l2, r.cache_l3, r.dram))),
        ]  # fmt: skip
        return render.section("Roofline of this machine", rows, picture=roofline_chart(self.rows, r))


def _table(rows: list[KernelRow], tokens: int) -> Section:
    header = ("kernel", "ms", "speed-up", "interval", "to own dense", "GFLOP/s", "GB/s", "of the bound", "error/bound")
    cells = [
        (r.name, r.ms, r.ratio, f"{r.low:.2f} to {r.high:.2f}", _known(r.own_ratio, f"{r.own_ratio:.2f}"),
         render.number(r.gflops, 3), render.number(r.gbytes, 3), _known(r.roofline, f"{r.roofline:.0%}"),
         _known(r.error, f"{r.error:.2g}"))
        for r in rows
    ]  # fmt: skip
    names, ratios = [r.name for r in rows], [r.ratio for r in rows]
    title = f"Speed relative to torch's dense float32, {tokens} token(s)"
    ends = {"low": [r.low for r in rows], "high": [r.high for r in rows]}
    return render.section(title, cells, header, picture=render.bars(names, ratios, title=title, unit="x", **ends))


def _known(value: float, text: str) -> str:
    return "-" if np.isnan(value) else text
