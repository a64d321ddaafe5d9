"""A trace as pictures need it: what stood in the text, which draft hung on it and what it had cost, after every step.

    Trace --replay--> Replay: frames, text, drafts, search, acceptance, costs --> a view, or static HTML

A *frame* is a step of the method that left events; frame 0 is the prompt's. Everything is an array over frames, over
changes of the text, over drafted tokens or over hypotheses, and refers to events by their row in the trace:

    frames   first [F+1] events of a frame; label [F] its step; tokens, target, draft, seconds [F] so far;
             verified, gained [F] in the frame itself
    text     one row per change: frame, place, row, behind (the event it came from, -1), token (-1 = taken back),
             origin, number (layer or step, -1), detail (row of the trace's most likely tokens, -1)
    drafts   one row per drafted token: frame, row, parent, tried (row of accept or reject, -1), depth
             last, last_parent [F]: the residual or bonus event and the node it hangs on
    search   one row per hypothesis: row, parent, frame, gone (frame in which it was dropped, F if never), score,
             chosen; leader [F]: the best that is alive
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from workbench import render
from workbench.decode._replay_costs import noted, own_costs
from workbench.decode._replay_trees import Drafts, Search, drafts_of, search_of
from workbench.decode.trace import KINDS, Trace, as_trace
from workbench.errors import ArgumentError
from workbench.results import Result

ORIGINS = ("plain", "accepted", "corrected", "bonus", "constrained", "exited", "unmasked", "searched")
_FROM = {
    "accept": "accepted", "draft": "accepted", "residual": "corrected", "bonus": "bonus", "constrain": "constrained",
    "exit": "exited", "unmask": "unmasked", "remask": "unmasked", "expand": "searched", "score": "searched",
    "prune": "searched", "resample": "searched",
}  # fmt: skip
SPENT = ("prompt", "target", "draft model", "drafting", "scoring", "constraint", "the rest")
_SPENT_ON = {"prefill": 0, "draft": 3, "decline": 3, "score": 4, "constrain": 5}
PANELS = ("text", "drafts", "acceptance", "cost", "exits", "search", "unmask", "constraints")


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """The steps; see the table in this module."""

    first: np.ndarray
    label: np.ndarray
    tokens: np.ndarray
    target: np.ndarray
    draft: np.ndarray
    seconds: np.ndarray
    verified: np.ndarray
    gained: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What happened to the text; see the table in this module."""

    frame: np.ndarray
    place: np.ndarray
    row: np.ndarray
    behind: np.ndarray
    token: np.ndarray
    origin: np.ndarray
    number: np.ndarray
    detail: np.ndarray

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True, slots=True)
class Placed:
    """A token that stands in the text: where, since which event, how it came to be (of `ORIGINS`), its number."""

    place: int
    token: int
    row: int
    origin: str
    number: int


@dataclass(frozen=True, eq=False, repr=False)
class Replay(Result):
    """What `replay` returns.

    Attributes
    ----------
    trace : Trace
    frames : Frames
    changes : Changes
    drafts : Drafts
    search : Search
    spent : ndarray of float64 [F, len(SPENT)]
        Seconds until the end of a frame, by what they went into.
    """

    trace: Trace
    frames: Frames
    changes: Changes
    drafts: Drafts
    search: Search
    spent: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def text(self, frame: int) -> list[Placed]:
        """The tokens that stand after a frame, by place; where a token was taken back there is none."""
        c, found = self.changes, {}
        for n in range(int(np.searchsorted(c.frame, self._checked(frame), side="right"))):
            found[int(c.place[n])] = n
        standing = [n for _, n in sorted(found.items()) if c.token[n] >= 0]
        return [
            Placed(int(c.place[n]), int(c.token[n]), int(c.row[n]), ORIGINS[c.origin[n]], int(c.number[n]))
            for n in standing
        ]

    def hypothesis(self, frame: int) -> list[int]:
        """Tokens of the best hypothesis that is alive after a frame; empty without a search."""
        return self.search.tokens(int(self.search.leader[self._checked(frame)]), self.trace.columns["token"])

    @cached_property
    def panels(self) -> tuple[str, ...]:
        """What there is to see, of `PANELS`."""
        kinds = {KINDS[k] for k in np.unique(self.trace.columns["kind"])}
        has = {
            "text": True, "cost": True, "drafts": len(self.drafts) > 0, "acceptance": len(self.drafts) > 0,
            "exits": "exit" in kinds, "search": self._branches > 1, "unmask": "unmask" in kinds,
            "constraints": "constrain" in kinds,
        }  # fmt: skip
        return tuple(p for p in PANELS if has[p])

    @cached_property
    def loose(self) -> bool:
        """Whether tokens are whole words that hold no spaces of their own, as in tiny vocabularies."""
        return not any(char.isspace() for piece in self.trace.pieces.values() for char in piece)

    @property
    def _branches(self) -> int:
        """Hypotheses that begin side by side, or part."""
        return len(self.search) - len(np.unique(self.search.parent[self.search.parent >= 0]))

    @cached_property
    def passes(self) -> list[tuple[int, float]]:
        """What a pass of n tokens costs relative to one of a single token, (n, v(n)) by n.

        From ``trace.notes["costs"]`` where a method measured it, else medians of the passes in this trace, where it
        has passes of one token; else empty. `measured` tells which.
        """
        return noted(self.trace.notes.get("costs")) or own_costs(self.trace)

    @property
    def measured(self) -> bool:
        """Whether `passes` was measured apart from this trace."""
        return bool(noted(self.trace.notes.get("costs")))

    @cached_property
    def layers(self) -> int:
        """Layers of the model, as far as exits tell."""
        rows = self.trace.rows("exit")
        seen = int(self.trace.columns["layer"][rows].max(initial=-1)) + 1
        told = self.trace.notes.get("layers", 0)
        return max(seen, int(told) if isinstance(told, int | float) else len(told))

    def _checked(self, frame: int) -> int:
        if not -len(self) <= frame < len(self):
            raise ArgumentError(f"frame={frame}: the trace has {len(self)} frames, 0 to {len(self) - 1}")
        return frame % len(self)

    def _headline(self) -> str:
        return f"Replay({self.trace.method}: {len(self)} frames of {', '.join(self.panels)})"

    def _sections(self) -> tuple[render.Section, ...]:
        from workbench.decode import _replay_picture  # it needs what is defined here

        return _replay_picture.sections(self)


def replay(trace: Any) -> Replay:
    """Read a trace for looking at it.

    Parameters
    ----------
    trace
        A `Trace`, what `generate` returned, or a saved trace's file.

    Raises
    ------
    ArgumentError
        If it is none of them, or has no events.

    Examples
    --------
    >>> replay("out.json").text(-1)                                                    # doctest: +SKIP
    """
    trace = as_trace(trace)
    if not len(trace):
        raise ArgumentError("the trace has no events: nothing was decoded")
    steps = np.maximum.accumulate(trace.columns["step"])
    label, frame = np.unique(steps, return_inverse=True)
    changes, search = _changes(trace, frame), search_of(trace, frame, len(label))
    drafts = drafts_of(trace, frame, len(label))
    return Replay(trace, _frames(trace, label, frame, changes, search), changes, drafts, search, _spent(trace, frame))


def _changes(trace: Trace, frame: np.ndarray) -> Changes:
    """Emitted, unmasked and remasked tokens in the order of their events."""
    kind, parent, place, top = (trace.columns[c] for c in ("kind", "parent", "position", "top"))
    standing: dict[int, int] = {}
    kept: list[tuple[int, ...]] = []
    for row in trace.rows("emit", "unmask", "remask"):
        name, token = KINDS[kind[row]], int(trace.columns["token"][row])
        behind = int(parent[row])
        if name == "emit" and behind >= 0 and KINDS[kind[behind]] == "unmask" and standing.get(place[row]) == token:
            continue  # it stands there already, since it was unmasked
        token = -1 if name == "remask" else token
        standing[int(place[row])] = token
        origin, number = _origin(trace, int(row))
        tops = [int(top[r]) for r in (row, behind) if r >= 0 and top[r] >= 0]
        detail = tops[0] if tops else -1
        kept.append((int(frame[row]), int(place[row]), int(row), behind, token, origin, number, detail))
    columns = np.array(kept, np.int32).reshape(-1, 8).T
    return Changes(*(np.ascontiguousarray(c) for c in columns))


def _origin(trace: Trace, row: int) -> tuple[int, int]:
    """How the token of an event came to be, and the layer or step that goes with it (-1 for none)."""
    kind, layer, step = trace.columns["kind"], trace.columns["layer"], trace.columns["step"]
    name, behind = KINDS[kind[row]], int(trace.columns["parent"][row])
    if name in ("unmask", "remask"):
        return ORIGINS.index("unmasked"), int(step[row])
    above = KINDS[kind[behind]] if behind >= 0 else ""
    origin = _FROM.get(above, "plain")
    deepest = int(layer[row]) if layer[row] >= 0 or behind < 0 else int(layer[behind])
    if origin == "plain" and layer[row] >= 0:
        origin = "exited"
    number = {"exited": deepest, "unmasked": int(step[behind])}.get(origin, -1)
    return ORIGINS.index(origin), number


def _frames(trace: Trace, label: np.ndarray, frame: np.ndarray, changes: Changes, search: Search) -> Frames:
    count = len(label)
    first = np.searchsorted(frame, np.arange(count + 1)).astype(np.int32)
    last = first[1:] - 1
    standing: set[int] = set()
    tokens, n = np.zeros(count, np.int32), 0
    for f in range(count):
        while n < len(changes) and changes.frame[n] == f:
            (standing.add if changes.token[n] >= 0 else standing.discard)(int(changes.place[n]))
            n += 1
        tokens[f] = len(standing)
    tokens = np.maximum(tokens, search.depth_of_leader)
    value = np.nan_to_num(trace.columns["value"])
    passes = np.zeros(count, np.int32)
    rows = trace.rows("verify")
    np.add.at(passes, frame[rows], value[rows].astype(np.int32))
    before = int(trace.columns["target_forwards"][trace.rows("prefill")].max(initial=0))
    target = np.maximum.accumulate(trace.columns["target_forwards"])[last] - before
    seconds = np.maximum.accumulate(trace.columns["seconds"])[last]
    draft = np.maximum.accumulate(trace.columns["draft_forwards"])[last]
    gained = np.diff(tokens, prepend=0).astype(np.int32)
    return Frames(first, label.astype(np.int32), tokens, np.maximum(target, 0), draft, seconds, passes, gained)


def _spent(trace: Trace, frame: np.ndarray) -> np.ndarray:
    """Seconds by what they went into: an event that follows a pass ends that pass, else its kind decides."""
    kinds, seconds = trace.columns["kind"], np.maximum.accumulate(trace.columns["seconds"])
    took = np.diff(seconds, prepend=0.0)
    by_kind = np.array([_SPENT_ON.get(k, len(SPENT) - 1) for k in KINDS])[kinds]
    passed = np.diff(trace.columns["target_forwards"], prepend=0) > 0
    drafted = np.diff(trace.columns["draft_forwards"], prepend=0) > 0
    on = np.where(by_kind == 0, 0, np.where(passed, 1, np.where(drafted, 2, by_kind)))
    spent = np.zeros((int(frame[-1]) + 1, len(SPENT)))
    np.add.at(spent, (frame, on), took)
    return spent.cumsum(axis=0)
