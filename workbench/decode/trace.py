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
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from workbench import render
from workbench._files import write_text
from workbench.decode._cost import Acceptance, Cost, acceptance_of, cost_of
from workbench.errors import ArgumentError, DataError, unknown
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
CODES: Mapping[str, int] = {name: n for n, name in enumerate(KINDS)}


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
            if kind not in CODES:
                raise unknown("kind of event", kind, KINDS)
        return np.flatnonzero(np.isin(self.columns["kind"], [CODES[k] for k in kinds]))

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
        write_text(path, json.dumps(self.to_dict(), allow_nan=False))
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
        except (OSError, ValueError, LookupError, TypeError, AttributeError, DataError) as error:
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
            index = np.array([CODES[k] for k in content["kinds"]], np.uint8)
            columns["kind"] = index[columns["kind"]]
        tokens = _unpack(content["top_token"], "<i4").reshape(-1, TOP)
        chances = _unpack(content["top_log_p"], "<f4").reshape(-1, TOP)
        _check(columns, len(tokens), len(chances))
        return cls(
            content["method"],
            content["parameters"],
            _unpack(content["prompt"], "<i4"),
            columns,
            tokens,
            chances,
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


def _pack(array: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, np.dtype(kind)).tobytes()).decode("ascii")


def _unpack(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), np.dtype(kind)).copy()


def _check(columns: Mapping[str, np.ndarray], tokens: int, chances: int) -> None:
    """Raise if a view would stumble over these columns."""
    rows = np.arange(len(columns["kind"]))
    sound = {
        "kind": columns["kind"] < len(KINDS),
        "parent": (columns["parent"] >= -1) & (columns["parent"] < rows),
        "top": (columns["top"] >= -1) & (columns["top"] < min(tokens, chances)),
        "step": columns["step"] >= 0,
    }
    for name, held in sound.items():
        if not held.all():
            row = int(np.argmin(held))
            raise DataError(f"row {row} has {name} {columns[name][row]}, which cannot be")


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
