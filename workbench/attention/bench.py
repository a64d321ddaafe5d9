"""What looking at attention costs: reading with statistics beside reading without, tiles, memory, and a packed cache.

of each length, in every round:  plain, capture            (the order is turned round in every other one)
plain     one pass of the model with its own attention, without cache, logits of the last token only
ratio     median over rounds of seconds of capture / seconds of plain
tiles     median over some heads, at the diagonal and as far from it as there is one
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from workbench import render
from workbench._format import amount
from workbench.attention.capturing import capture
from workbench.attention.kv.target import CompressedTarget
from workbench.attention.maps import Maps
from workbench.attention.metrics import heads
from workbench.errors import ArgumentError
from workbench.execute._clock import Clock, clock, speedup
from workbench.jobs import Progress
from workbench.measure.memory import peak_memory
from workbench.models import LM, as_lm
from workbench.results import Provenance, Result

HEADS = 4  # that tiles are timed of, spread over the model
PACKED, SHARE = "mustafar", 0.5


@dataclass(frozen=True, slots=True)
class ReadingCost:
    """Reading so many tokens, medians in seconds; ``ratio`` with its 95 % interval over rounds."""

    tokens: int
    plain: float
    capture: float
    ratio: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Analysis:
    """One long text: all metrics of all heads, and states for its maps.

    Attributes
    ----------
    tokens : int
    seconds : float
    peak_bytes, added_bytes : int
        Resident memory at its most, and what of that was added to what the process had before.
    file_bytes : int
        Of the states on disk.
    """

    tokens: int
    seconds: float
    peak_bytes: int
    added_bytes: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class TileCost:
    """A tile of cells of ``size`` tokens: median and most, in seconds, and how many were timed."""

    size: int
    seconds: float
    most: float
    count: int


@dataclass(frozen=True, eq=False, repr=False)
class AttentionBench(Result):
    """What `bench_attention` returns.

    Attributes
    ----------
    source : str
    reading : tuple of ReadingCost
    analysis : Analysis
        Of the longest text.
    tiles : tuple of TileCost
        Of the same text, the coarsest first.
    packed_share : float
        Bytes of a cache that keeps half of every key's and value's elements, relative to the whole one.
    protocol : mapping of str to str
    provenance : Provenance
    """

    source: str
    reading: tuple[ReadingCost, ...]
    analysis: Analysis
    tiles: tuple[TileCost, ...]
    packed_share: float
    protocol: dict[str, str]
    provenance: Provenance = field(repr=False)

    def reading_table(self) -> list[tuple[str, ...]]:
        """Header and rows, as text."""
        head: tuple[str, ...] = ("tokens", "plain s", "statistics s", "ratio", "95 %")
        return [head] + [
            (
                str(r.tokens),
                f"{r.plain:.3g}",
                f"{r.capture:.3g}",
                f"{r.ratio:.2f}",
                "{:.2f} to {:.2f}".format(*r.interval),
            )
            for r in self.reading
        ]

    def tile_table(self) -> list[tuple[str, ...]]:
        """Header and rows, as text."""
        head: tuple[str, ...] = ("tokens a cell", "ms a tile", "most", "tiles")
        return [head] + [
            (str(t.size), f"{1e3 * t.seconds:.2f}", f"{1e3 * t.most:.2f}", str(t.count)) for t in self.tiles
        ]

    def facts(self) -> list[tuple[str, str]]:
        """The other figures, by name."""
        a = self.analysis
        return [
            (f"all metrics of {a.tokens} tokens", f"{a.seconds:.3g} s"),
            ("its peak memory", f"{amount(a.peak_bytes)}, {amount(a.added_bytes)} more than before"),
            ("its queries and keys on disk", amount(a.file_bytes)),
            (f"bytes of a cache with {SHARE:.0%} of its elements", f"{self.packed_share:.1%} of the whole one"),
        ]

    def _headline(self) -> str:
        ratios = ", ".join(f"{r.ratio:.2f} x plain at {r.tokens}" for r in self.reading)
        return f"AttentionBench({self.source}: statistics {ratios} tokens)"

    def _sections(self) -> tuple[render.Section, ...]:
        return (
            render.section("Reading", self.reading_table()[1:], self.reading_table()[0]),
            render.section("Tiles of a map", self.tile_table()[1:], self.tile_table()[0]),
            render.section("One long text", self.facts()),
            render.section("Protocol", list(self.protocol.items())),
            render.prose("Provenance", str(self.provenance)),
        )


def bench_attention(
    model: Any,
    ids: Sequence[int] | np.ndarray,
    *,
    lengths: Sequence[int] = (1024, 4096),
    rounds: int = 3,
    progress: Progress | None = None,
) -> AttentionBench:
    """Time reading with statistics, maps and a packed cache.

    Parameters
    ----------
    model
        A model handle, pruned result or transformers causal LM.
    ids
        Token ids of one text; all of it is analysed, and its beginnings are read.
    lengths
        Of the beginnings, ascending.
    rounds
        Times that each is read both ways.
    progress

    Raises
    ------
    ArgumentError
        If there is nothing to time, or the text is shorter than a length.
    """
    lm, progress = as_lm(model), progress or Progress()
    tokens = np.asarray(ids, np.int64).reshape(-1)
    if not lengths or rounds < 1 or not 2 <= min(lengths) <= max(lengths) <= tokens.size:
        raise ArgumentError(
            f"lengths={tuple(lengths)}, rounds={rounds}: one of each or more, up to the text's {tokens.size}"
        )
    time_of = clock(torch.get_num_threads())
    reading = tuple(_reading(lm, tokens[:n], rounds, time_of, progress) for n in lengths)
    analysis, tiles = _analysis(lm, tokens, time_of, progress)
    packed = CompressedTarget(lm, PACKED, SHARE)
    packed.forward(tokens[: min(lengths)], last=True)
    packed.compress()
    protocol = {
        "threads": str(torch.get_num_threads()),
        "clock": time_of.name,
        "rounds": str(rounds),
        "tokens of the packed cache": str(min(lengths)),
    }
    share = packed.nbytes / packed.dense_nbytes
    return AttentionBench(lm.source, reading, analysis, tiles, share, protocol, Provenance.here(seed=0))


def _reading(lm: LM, tokens: np.ndarray, rounds: int, time_of: Clock, progress: Progress) -> ReadingCost:
    def plain() -> None:
        with torch.no_grad():
            lm.module(torch.from_numpy(tokens)[None].to(lm.device), use_cache=False, logits_to_keep=1)

    works: dict[str, Callable[[], Any]] = {"plain": plain, "capture": lambda: capture(lm, tokens)}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    capture(lm, tokens[: min(64, len(tokens))])  # kernels are compiled when they are first used
    for r in range(rounds):
        for name in works if r % 2 == 0 else reversed(works):
            progress.check()
            seconds[name].append(_seconds(works[name], time_of))
        progress.step(f"reading {len(tokens)} tokens", r + 1, rounds)
    ratio, low, high = speedup(seconds["capture"], seconds["plain"])
    bare, counted = (float(np.median(seconds[name])) for name in works)
    return ReadingCost(len(tokens), bare, counted, ratio, (low, high))


def _analysis(lm: LM, tokens: np.ndarray, time_of: Clock, progress: Progress) -> tuple[Analysis, tuple[TileCost, ...]]:
    with peak_memory() as memory:
        start = time_of.read()
        table = heads(lm, tokens, states=True, progress=progress)
        took = 1e-9 * (time_of.read() - start)
    maps = table.captured.maps
    if maps is None:
        raise ArgumentError("no states were kept")
    with maps:
        tiles = tuple(_tile(maps, size, time_of) for size in maps.sizes)
        found = Analysis(len(tokens), took, memory.peak_bytes, memory.over_start_bytes, maps.nbytes)
    return found, tiles


def _tile(maps: Maps, size: int, time_of: Clock) -> TileCost:
    last = -(-maps.length // (maps.cells * size)) - 1
    chosen = np.linspace(0, maps.layers * maps.heads - 1, HEADS).astype(int)
    places = [(*divmod(int(n), maps.heads), size, last, column) for n in chosen for column in sorted({0, last})]
    seconds = [_seconds(lambda at=at: maps.tile(*at), time_of) for at in places]  # type: ignore[misc]
    return TileCost(size, float(np.median(seconds)), max(seconds), len(seconds))


def _seconds(work: Callable[[], Any], time_of: Clock) -> float:
    start = time_of.read()
    work()
    return 1e-9 * (time_of.read() - start)
