"""Collecting events while text is decoded; see the table in `workbench.decode.trace`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from workbench.decode.trace import CODES, COLUMNS, TOP, Trace
from workbench.results import Provenance

_MISSING = {name: math.nan if "f" in kind else -1 for name, kind in COLUMNS.items()}


class Recorder:
    """Collects the events of a decode.

    Parameters
    ----------
    detail
        Whether distributions are described too (entropy, most likely tokens, log-probabilities), which takes longer
        than a pass of a small model.
    """

    def __init__(self, detail: bool = True) -> None:
        self.detail = detail
        self.step = self.target_forwards = self.draft_forwards = 0
        self.notes: dict[str, Any] = {}
        self._rows: list[dict[str, Any]] = []
        self._top: list[tuple[np.ndarray, np.ndarray]] = []
        self._start, self._aside = time.perf_counter(), 0.0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def seconds(self) -> float:
        """Since the start, without what recording took."""
        return time.perf_counter() - self._start - self._aside

    def kind(self, row: int) -> str:
        """Of what kind an event is."""
        return str(self._rows[row]["kind"])

    def add(self, kind: str, *, logits: np.ndarray | None = None, **columns: Any) -> int:
        """Record an event and return its row.

        Parameters
        ----------
        logits
            The target's ``[V]``, of which entropy, most likely tokens and the token's ``log_p`` are taken, with
            `detail` only. The clock stands still meanwhile.
        columns
            Of the table; ``step``, ``seconds`` and the passes are filled in.
        """
        if logits is not None and self.detail:
            with self.aside():
                columns = self._describe(logits, columns) | columns
        now = self.target_forwards, self.draft_forwards, self.seconds
        row = {"kind": kind, "step": self.step, "target_forwards": now[0], "draft_forwards": now[1], "seconds": now[2]}
        self._rows.append(row | columns)
        return len(self._rows) - 1

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Work that is done for the record only: its time is not counted."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._aside += time.perf_counter() - start

    def _describe(self, logits: np.ndarray, columns: Mapping[str, Any]) -> dict[str, Any]:
        log_p = logits.astype(np.float64) - logits.max()
        log_p -= np.log(np.exp(log_p).sum())
        best = np.argpartition(-log_p, min(TOP, log_p.size - 1))[:TOP]
        best = best[np.argsort(-log_p[best], kind="stable")]
        filled = np.full(TOP, -1, np.int32), np.full(TOP, math.nan, np.float32)
        filled[0][: best.size], filled[1][: best.size] = best, log_p[best]
        self._top.append(filled)
        finite = log_p[np.isfinite(log_p)]
        found: dict[str, Any] = {"entropy": float(-(np.exp(finite) * finite).sum()), "top": len(self._top) - 1}
        token = columns.get("token", -1)
        return found | ({"log_p": float(log_p[token])} if token >= 0 else {})

    def finish(
        self,
        method: str,
        parameters: Mapping[str, Any],
        prompt: Sequence[int],
        piece: Callable[[int], str],
        provenance: Provenance,
    ) -> Trace:
        """The trace of everything recorded; ``piece`` maps a token id to its text."""
        columns = {
            name: np.array([row.get(name, _MISSING[name]) for row in self._rows], np.dtype(kind))
            for name, kind in COLUMNS.items()
            if name != "kind"
        }
        columns = {"kind": np.array([CODES[row["kind"]] for row in self._rows], np.uint8), **columns}
        tops = [np.stack([t[n] for t in self._top]) for n in (0, 1)] if self._top else None
        tokens = tops[0] if tops else np.empty((0, TOP), np.int32)
        chances = tops[1] if tops else np.empty((0, TOP), np.float32)
        given = np.asarray(prompt, np.int32)
        seen = sorted({*given.tolist(), *columns["token"].tolist(), *tokens.ravel().tolist()} - {-1})
        pieces = {t: piece(t) for t in seen}
        return Trace(method, parameters, given, columns, tokens, chances, pieces, self.notes, provenance)
