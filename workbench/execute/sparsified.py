"""What `sparsify` returns: the model with its new layers, and the record of every choice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from workbench import render
from workbench.execute._choose import KEPT, LayerChoice
from workbench.models import LM
from workbench.render import Section
from workbench.results import Provenance, Result, json_ready


@dataclass(frozen=True, repr=False, eq=False)
class Sparsified(Result):
    """A model on sparse kernels; it takes a model's place in `workbench.speed`, `workbench.perplexity` and others.

    Attributes
    ----------
    lm : LM
        Handle of the model.
    layers : tuple of LayerChoice
        What became of every layer, in order.
    format, values : str
        As asked for.
    tokens : tuple of int
        Token counts that choices were measured at.
    threads : int
        That choices were measured with.
    clock : str
        ``"thread"`` (processor time) or ``"wall"``; empty if nothing was measured.
    seconds : float
        That all of it took.
    recipe : Recipe or None
        Of the pruned result that was given.
    provenance : Provenance
    """

    lm: LM
    layers: tuple[LayerChoice, ...]
    format: str
    values: str
    tokens: tuple[int, ...]
    threads: int
    clock: str
    seconds: float
    recipe: Any = field(repr=False)
    provenance: Provenance = field(repr=False)

    @property
    def module(self) -> PreTrainedModel:
        """The transformers model."""
        return self.lm.module

    @property
    def bytes_before(self) -> int:
        """Bytes of the layers' weights as they were."""
        return sum(x.bytes_before for x in self.layers)

    @property
    def bytes_after(self) -> int:
        """Bytes of the layers' weights now."""
        return sum(x.bytes_after for x in self.layers)

    @property
    def choices(self) -> dict[str, int]:
        """How many layers got each format, the most frequent first; ``"torch"`` are those left as they were."""
        return dict(Counter(x.choice for x in self.layers).most_common())

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model, ready for JSON."""
        names = ("layers", "format", "values", "tokens", "threads", "clock", "seconds", "provenance", "choices")
        plain = {name: json_ready(getattr(self, name)) for name in (*names, "bytes_before", "bytes_after")}
        return {"model": self.lm.source, **plain}

    def _headline(self) -> str:
        changed = sum(x.choice != KEPT for x in self.layers)
        said = ", ".join(f"{name} {count}" for name, count in self.choices.items())
        size = f"{render.amount(self.bytes_before)} -> {render.amount(self.bytes_after)}"
        return f"Sparsified({changed} of {len(self.layers)} layers sparse: {said}; {size})"

    def _sections(self) -> tuple[Section, ...]:
        rows = [
            ("model", self.lm.source),
            ("asked", f"format {self.format}, values {self.values}"),
            ("weights of these layers", f"{render.amount(self.bytes_before)} -> {render.amount(self.bytes_after)}"),
            ("protocol", self._protocol()),
            ("made by", str(self.provenance)),
        ]
        return (render.section("Sparse layers", rows), self._by_name(), *self._why())

    def _protocol(self) -> str:
        if not self.clock:
            return "the format was given, nothing was measured"
        counts = ", ".join(map(str, self.tokens))
        return f"interleaved with torch's layers at {counts} tokens, {self.threads} thread(s), {self.clock} time"

    def _by_name(self) -> Section:
        """One row per kind of layer: which formats, how fast."""
        rows = []
        for name in dict.fromkeys(_kind(x) for x in self.layers):
            of = [x for x in self.layers if _kind(x) == name]
            said = ", ".join(f"{k} {n}" for k, n in Counter(x.choice for x in of).most_common())
            measured = [x.ratio for x in of if np.isfinite(x.ratio)]
            ratio = f"{render.number(float(np.median(measured)), 3)}x" if measured else "-"
            zero = render.share(round(float(np.mean([x.sparsity for x in of])), 4))
            size = render.amount(sum(x.bytes_before for x in of)), render.amount(sum(x.bytes_after for x in of))
            rows.append((name, " x ".join(map(str, of[0].shape)), of[0].pattern, zero, said, ratio, " -> ".join(size)))
        header = ("layer", "first shape", "pattern", "zero", "formats", "median speed-up", "bytes")
        return render.section("By layer", rows, header, picture=self._picture())

    def _picture(self) -> str:
        """Measured speed-ups, layers by names."""
        names = list(dict.fromkeys(_kind(x) for x in self.layers if x.name.startswith("layers.")))
        count = 1 + max(int(x.name.split(".")[1]) for x in self.layers if x.name.startswith("layers."))
        values = np.full((count, len(names)), np.nan)
        for x in self.layers:
            if x.name.startswith("layers."):
                values[int(x.name.split(".")[1]), names.index(_kind(x))] = x.ratio
        if not np.isfinite(values).any():
            return ""
        top = max(2.0, float(np.nanmax(values)))
        title = "Speed relative to torch's layer"
        shown = [n.rsplit(".", 1)[-1] for n in names]
        return render.heatmap_svg(values, [str(i) for i in range(count)], shown, title=title, low=0, high=top)

    def _why(self) -> tuple[Section, ...]:
        stayed: dict[str, list[LayerChoice]] = {}
        for x in self.layers:
            if x.choice == KEPT:
                stayed.setdefault(_kind(x), []).append(x)
        if not stayed:
            return ()
        rows = [(name, len(of), of[0].name, of[0].reason) for name, of in stayed.items()]
        header = ("layer", "how many", "for example", "reason")
        return (render.section("Left to torch, and why", rows, header),)


def _kind(choice: LayerChoice) -> str:
    """A layer's name without its number."""
    return choice.name.split(".", 2)[2] if choice.name.startswith("layers.") else choice.name
