"""Numbers for heads, from what was captured, and kinds of heads; each metric is defined in one line of `METRICS`.

All are float32 ``[layers, heads]``; means run over the queries from ``settings.first`` on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench import render
from workbench.attention.capturing import Captured, Settings, capture
from workbench.attention.successor import successor
from workbench.errors import ArgumentError, ModelError, unknown
from workbench.jobs import Progress
from workbench.models import as_lm
from workbench.results import Provenance, Result

Metric = Callable[[Captured], np.ndarray]
KINDS = ("sink", "previous token", "induction", "local", "retrieval", "broad", "successor")
TOP = 0.02  # share of columns or slashes that count as the strongest


def _mean(name: str) -> Metric:
    return lambda c: getattr(c, name)[:, :, c.rows].mean(2)


def _strongest(name: str, skip: Callable[[Captured], int]) -> Metric:
    """Share of all mass that the strongest `TOP` of columns (slashes) hold, the first ``skip`` left out."""

    def metric(c: Captured) -> np.ndarray:
        counts = np.arange(c.length, 0, -1, dtype=np.float32)  # back from means to sums
        sums = getattr(c, name)[:, :, skip(c) :] * counts[skip(c) :]
        most = max(1, round(TOP * c.length))
        best = np.sort(sums, axis=2)[:, :, ::-1][:, :, :most].sum(2)
        return np.asarray(best / c.length, np.float32)

    return metric


METRICS: Mapping[str, tuple[str, Metric]] = {
    "entropy": ("mean entropy of a query's attention, nats", _mean("entropy")),
    "effective keys": ("mean of exp(entropy)", lambda c: np.exp(c.entropy[:, :, c.rows]).mean(2)),
    "sink": ("mean mass on the first keys", _mean("sink")),
    "local": ("mean mass on the newest keys", _mean("local")),
    "vertical": (f"share of all mass in the strongest {TOP:.0%} of columns, sinks left out",
                 _strongest("column", lambda c: c.settings.sinks)),
    "slash": (f"share of all mass at the strongest {TOP:.0%} of distances, the local ones left out",
              _strongest("slash", lambda c: c.settings.local)),
    "previous token": ("mean share of the key just before the query", lambda c: c.slash[:, :, min(1, c.length - 1)]),
    "keys for 90 %": ("least keys that hold 90 % of a query's mass, mean", lambda c: c.needed[:, :, 0]),
    "keys for 95 %": ("the same for 95 %", lambda c: c.needed[:, :, 1]),
    "keys for 99 %": ("the same for 99 %", lambda c: c.needed[:, :, 2]),
    "WAAD": ("mean windowed distance of attention, sum_j P min(i - j, local), tokens", _mean("waad")),
    "FAI": ("largest mean share that one key has of queries near to far behind it", lambda c: c.fai.max(2)),
}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class HeadTable(Result):
    """Metrics and kind of every head.

    Attributes
    ----------
    source : str
        The model.
    tokens : int
        Of the text.
    metrics : mapping of str to ndarray of float32 [layers, heads]
        Those of `METRICS`, ``"induction"``, and ``"successor"`` where the model's weights can be read and its tokenizer
        has ordinals.
    kinds : ndarray of str [layers, heads]
        One of `KINDS`.
    captured : Captured
    provenance : Provenance
    """

    source: str
    tokens: int
    metrics: Mapping[str, np.ndarray]
    kinds: np.ndarray
    captured: Captured = field(repr=False, metadata={"json": False})
    provenance: Provenance = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Every figure, ready for JSON; not the pictures."""
        return {
            "source": self.source,
            "tokens": self.tokens,
            "metrics": {k: v.tolist() for k, v in self.metrics.items()},
            "kinds": self.kinds.tolist(),
            "provenance": self.provenance.to_dict(),
        }

    def sorted_by(self, metric: str, *, ascending: bool = False) -> list[tuple[int, int]]:
        """Heads (layer, head), the largest first.

        Raises
        ------
        ArgumentError
            If the metric is unknown.
        """
        if metric not in self.metrics:
            raise unknown("metric", metric, self.metrics)
        values = self.metrics[metric]
        order = np.argsort(values if ascending else -values, axis=None, kind="stable")
        places = (np.unravel_index(int(n), values.shape) for n in order)
        return [(int(layer), int(head)) for layer, head in places]

    def _headline(self) -> str:
        layers, heads = self.kinds.shape
        return f"HeadTable({self.source}: {layers} x {heads} heads over {self.tokens} tokens)"

    def _sections(self) -> tuple[render.Section, ...]:
        counts = [(k, int((self.kinds == k).sum())) for k in KINDS]
        rows = [(n, float(v.mean()), float(v.min()), float(v.max())) for n, v in self.metrics.items()]
        return (
            render.section("Kinds of heads", counts, ("kind", "heads")),
            render.section("Metrics", rows, ("metric", "mean", "least", "most")),
            render.prose("Provenance", str(self.provenance)),
        )


def heads(
    model: Any,
    ids: Any,
    settings: Settings | None = None,
    *,
    seed: int = 0,
    states: bool = False,
    progress: Progress | None = None,
) -> HeadTable:
    """Read a text, and a random one twice over, and say what every head does.

    Parameters
    ----------
    model
        A model handle, pruned result or transformers causal LM.
    ids
        Token ids of the text.
    settings
    seed
        Of the random text.
    states
        As for `capture`; `HeadTable.captured` has the maps.
    progress

    Raises
    ------
    ArgumentError
        If the text is too short or too long.
    """
    lm = as_lm(model)
    apart = {"induction": induction(lm, seed=seed, progress=progress)}
    with suppress(ModelError):
        apart["successor"] = successor(lm)
    seen = capture(lm, ids, settings, states=states, progress=progress)
    metrics = {name: np.asarray(f(seen), np.float32) for name, (_, f) in METRICS.items()} | apart
    kinds = classify(metrics, seen.length)
    return HeadTable(lm.source, seen.length, metrics, kinds, seen, Provenance.here(seed=seed))


def induction(
    model: Any, *, length: int = 64, texts: int = 2, seed: int = 0, progress: Progress | None = None
) -> np.ndarray:
    """How much a head looks at what followed the same token earlier: float32 ``[layers, heads]``, a share.

    Random tokens, repeated once; the mean attention of the queries that have a key at distance ``length - 1``, which in
    the second half is the token behind the earlier occurrence of their own, to that key (Olsson et al. 2022,
    arXiv:2209.11895).

    Raises
    ------
    ArgumentError
        If the text does not fit.
    """
    lm = as_lm(model)
    if length < 2 or texts < 1:
        raise ArgumentError(f"length={length}, texts={texts}: at least 2 tokens and 1 text")
    random, found = np.random.default_rng(seed), []
    for _ in range(texts):
        half = random.choice(lm.module.config.vocab_size, length, replace=lm.module.config.vocab_size < length)
        seen = capture(lm, np.concatenate([half, half]), Settings(first=length), progress=progress)
        found.append(
            seen.slash[:, :, length - 1] * (length + 1) / length
        )  # rows length - 1 on; the first sees none yet
    return np.asarray(np.mean(found, axis=0), np.float32)


def classify(metrics: Mapping[str, np.ndarray], tokens: int) -> np.ndarray:
    """A kind of `KINDS` for every head: the first of these that holds.

    previous token  half of its mass or more lies on the key before the query
    induction       0.3 or more on the token behind an earlier occurrence
    successor       turns 40 % of ordinals or more into what comes next
    sink            half or more on the first keys
    local           half or more on the newest keys
    retrieval       5 % of the text's tokens or fewer hold 90 % of a query's mass
    broad           anything else
    """
    rules = {
        "previous token": metrics["previous token"] >= 0.5,
        "induction": metrics["induction"] >= 0.3,
        "successor": metrics.get("successor", np.zeros_like(metrics["induction"])) >= 0.4,
        "sink": metrics["sink"] >= 0.5,
        "local": metrics["local"] >= 0.5,
        "retrieval": metrics["keys for 90 %"] <= 0.05 * tokens,
    }
    return np.select(list(rules.values()), list(rules), "broad")
