"""What happened while text was decoded: one columnar record that every view replays, without the model.

    Recorder --add(kind, ...)--> Trace --save--> one JSON file --load--> the same Trace

Every event is a row. Columns (little-endian; -1 or NaN where a column does not apply):

    kind             uint8    index into `KINDS`
    step             int32    which round of the method, from 0 (the prompt is round 0)
    parent           int32    row of the event that this one follows from: a drafted token's predecessor, the accepted
                              or sampled event behind an emitted token, the hypothesis behind an expansion
    token            int32    token id
    position         int32    place in the sequence, prompt included, from 0
    branch           int32    beam, particle or group
    layer            int32    layer after which something was decided
    log_p, log_q     float32  natural logarithm of target's and draft's probability of the token
    u                float32  the uniform number that decided
    entropy          float32  of the target's distribution, nats
    value            float32  what the kind says below
    top              int32    row in ``top_token`` and ``top_log_p`` ([rows, k]: the most likely tokens)
    target_forwards  int32    passes of the target so far
    draft_forwards   int32    passes of a draft model so far
    seconds          float64  since the start, without what recording took

and what ``value`` holds:

    prefill    tokens of the prompt            expand   score of the new hypothesis
    verify     tokens in the pass              score    what the scorer said
    rollback   cached rows given up            prune    score of what was dropped
    exit       confidence at the layer         unmask   confidence of the token
    constrain  1 allowed, 0 forbidden          decline  what drafting was expected to cost, relative to its gain
"""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from workbench import render
from workbench.decode._cost import Acceptance, Cost, acceptance_of, cost_of
from workbench.errors import ArgumentError, DataError, ResourceError, unknown
from workbench.results import Provenance, Result

VERSION = 1
TOP = 10
KINDS = (
    "prefill", "draft", "verify", "accept", "reject", "residual", "bonus", "rollback", "expand", "score", "prune",
    "exit", "unmask", "emit", "constrain", "decline", "resample", "remask",
)  # fmt: skip
COLUMNS: Mapping[str, str] = {
    "kind": "<u1", "step": "<i4", "parent": "<i4", "token": "<i4", "position": "<i4", "branch": "<i4", "layer": "<i4",
    "log_p": "<f4", "log_q": "<f4", "u": "<f4", "entropy": "<f4", "value": "<f4", "top": "<i4",
    "target_forwards": "<i4", "draft_forwards": "<i4", "seconds": "<f8",
}  # fmt: skip
_CODE = {name: n for n, name in enumerate(KINDS)}
_MISSING = {name: math.nan if "f" in kind else -1 for name, kind in COLUMNS.items()}


@dataclass(frozen=True, eq=False, repr=False)
class Trace(Result):
    """Every event of one decode; see the table in this module.

    Attributes
    ----------
    method : str
        Its registered name.
    parameters : mapping
        Hyper-parameters and sampling settings, ready for JSON.
    prompt : ndarray of int32
        The prompt's tokens.
    columns : mapping of str to ndarray
        One array per column, all of one length.
    top_token : ndarray of int32 [rows, k]
    top_log_p : ndarray of float32 [rows, k]
    pieces : mapping of int to str
        The text of every token that occurs.
    notes : mapping
        What a method adds, ready for JSON, such as measured costs.
    provenance : Provenance
    """

    method: str
    parameters: Mapping[str, Any]
    prompt: np.ndarray
    columns: Mapping[str, np.ndarray]
    top_token: np.ndarray
    top_log_p: np.ndarray
    pieces: Mapping[int, str]
    notes: Mapping[str, Any]
    provenance: Provenance | Mapping[str, Any] = field(repr=False)

    def __len__(self) -> int:
        return len(self.columns["kind"])

    def __getattr__(self, name: str) -> np.ndarray:
        columns = self.__dict__.get("columns", {})
        if name in columns:
            return columns[name]
        raise AttributeError(f"a Trace has no {name!r}; columns: {', '.join(COLUMNS)}")

    def rows(self, *kinds: str) -> np.ndarray:
        """Indices of the events of these kinds, in order.

        Raises
        ------
        ArgumentError
            If a kind is unknown.
        """
        for kind in kinds:
            if kind not in _CODE:
                raise unknown("kind of event", kind, KINDS)
        return np.flatnonzero(np.isin(self.columns["kind"], [_CODE[k] for k in kinds]))

    @property
    def tokens(self) -> np.ndarray:
        """The emitted tokens, int32, in order of position (what was emitted again replaces what stood there)."""
        rows = self.rows("emit")
        found = dict(zip(self.columns["position"][rows].tolist(), self.columns["token"][rows].tolist(), strict=True))
        return np.array([found[p] for p in sorted(found)], np.int32)

    @property
    def origins(self) -> list[str]:
        """For every emitted token the kind of event it came from (``"accept"``, ``"bonus"``...), or ``"emit"``."""
        parents = self.columns["parent"][self.rows("emit")]
        return [KINDS[self.columns["kind"][p]] if p >= 0 else "emit" for p in parents]

    @property
    def steps(self) -> int:
        """Rounds of the method, the prompt's included."""
        return int(self.columns["step"].max(initial=-1)) + 1

    @cached_property
    def cost(self) -> Cost:
        """Passes, tokens per pass and seconds."""
        return cost_of(self)

    @cached_property
    def acceptance(self) -> Acceptance:
        """How many drafted tokens were accepted, by position in the draft."""
        return acceptance_of(self)

    def piece(self, token: int) -> str:
        """The text of a token; its number if it is not known."""
        return self.pieces.get(int(token), f"<{int(token)}>")

    def save(self, path: str | Path) -> Path:
        """Write one JSON file, whole or not at all; columns are base64 of the bytes that the table above names.

        Raises
        ------
        ResourceError
            If it cannot be written.
        """
        path = Path(path)
        part = path.with_name(f".{path.name}.part")
        try:
            part.write_text(json.dumps(self.to_dict(), allow_nan=False), encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise ResourceError(f"cannot write {path} ({error}): name a file that can be written") from error
        return path

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: the content of the file."""
        where = self.provenance
        return {
            "format": "sparse-workbench trace",
            "version": VERSION,
            "method": self.method,
            "parameters": dict(self.parameters),
            "kinds": list(KINDS),
            "prompt": _pack(self.prompt, "<i4"),
            "columns": {name: _pack(self.columns[name], kind) for name, kind in COLUMNS.items()},
            "top_token": _pack(self.top_token, "<i4"),
            "top_log_p": _pack(self.top_log_p, "<f4"),
            "pieces": {str(k): v for k, v in self.pieces.items()},
            "notes": dict(self.notes),
            "provenance": where.to_dict() if isinstance(where, Provenance) else dict(where),
        }

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read a file that `save` wrote.

        Raises
        ------
        DataError
            If it is no trace, damaged, or of a newer version.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is no trace that can be read ({error}): save it again with Trace.save") from error

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Trace:
        """The trace of what `to_dict` returned."""
        if content.get("format") != "sparse-workbench trace" or content.get("version") != VERSION:
            raise DataError(f"format {content.get('format')!r}, version {content.get('version')!r}: wanted {VERSION}")
        columns = {name: _unpack(content["columns"][name], kind) for name, kind in COLUMNS.items()}
        if len({len(c) for c in columns.values()}) != 1:
            raise DataError("columns differ in length")
        if list(content["kinds"]) != list(KINDS):
            index = np.array([_CODE[k] for k in content["kinds"]], np.uint8)
            columns["kind"] = index[columns["kind"]]
        return cls(
            content["method"],
            content["parameters"],
            _unpack(content["prompt"], "<i4"),
            columns,
            _unpack(content["top_token"], "<i4").reshape(-1, TOP),
            _unpack(content["top_log_p"], "<f4").reshape(-1, TOP),
            {int(k): v for k, v in content["pieces"].items()},
            content["notes"],
            content["provenance"],
        )

    def _headline(self) -> str:
        c = self.cost
        return (
            f"Trace({self.method}: {c.tokens} tokens in {c.target_forwards} passes, "
            f"{c.tokens_per_forward:.2f} a pass, {len(self)} events)"
        )

    def _sections(self) -> tuple[render.Section, ...]:
        names, counts = np.unique(self.columns["kind"], return_counts=True)
        events = [(KINDS[k], int(n)) for k, n in zip(names, counts, strict=True)]
        origins, many = np.unique(self.origins or ["-"], return_counts=True)
        return (
            render.section("Cost", self.cost.table()),
            *self.acceptance.sections(),
            render.section("Where tokens came from", list(zip(origins.tolist(), many.tolist(), strict=True))),
            render.section("Events", events),
        )


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
        piece: Any,
        provenance: Provenance,
    ) -> Trace:
        """The trace of everything recorded; ``piece`` maps a token id to its text."""
        columns = {
            name: np.array([row.get(name, _MISSING[name]) for row in self._rows], np.dtype(kind))
            for name, kind in COLUMNS.items()
            if name != "kind"
        }
        columns = {"kind": np.array([_CODE[row["kind"]] for row in self._rows], np.uint8), **columns}
        tops = [np.stack([t[n] for t in self._top]) for n in (0, 1)] if self._top else None
        tokens = tops[0] if tops else np.empty((0, TOP), np.int32)
        chances = tops[1] if tops else np.empty((0, TOP), np.float32)
        given = np.asarray(prompt, np.int32)
        seen = sorted({*given.tolist(), *columns["token"].tolist(), *tokens.ravel().tolist()} - {-1})
        pieces = {t: piece(t) for t in seen}
        return Trace(method, parameters, given, columns, tokens, chances, pieces, self.notes, provenance)


def _pack(array: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, np.dtype(kind)).tobytes()).decode("ascii")


def _unpack(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), np.dtype(kind)).copy()


def as_trace(value: Any) -> Trace:
    """A trace from a trace, a generation or a file.

    Raises
    ------
    ArgumentError
        If it is none of them.
    """
    if isinstance(value, str | Path):
        return Trace.load(value)
    found = getattr(value, "trace", value)
    if not isinstance(found, Trace):
        raise ArgumentError(f"trace={value!r}: pass a Trace, what workbench.generate returned, or a saved trace's file")
    return found
