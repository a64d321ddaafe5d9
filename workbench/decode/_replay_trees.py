"""The trees in a trace: the draft of every step, and the hypotheses of a search. Part of `workbench.decode.replay`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.decode.trace import KINDS

if TYPE_CHECKING:
    from workbench.decode.trace import Trace

_CODE = {name: n for n, name in enumerate(KINDS)}


@dataclass(frozen=True, slots=True)
class Node:
    """A drafted token: probabilities are NaN where nobody asked for them; ``state`` is what became of it."""

    token: int
    parent: int
    depth: int
    p: float
    q: float
    u: float
    state: str


@dataclass(frozen=True, slots=True, eq=False)
class Drafts:
    """Drafted tokens of all frames, and how often each depth was accepted until the end of a frame.

    Attributes
    ----------
    first : ndarray of int32 [F + 1]
        Where each frame's nodes begin.
    row, parent, tried, depth : ndarray of int32 [N]
        ``parent`` is a node of the same frame, counted from its ``first``, or -1 for the text.
    last, last_parent : ndarray of int32 [F]
        The event that drew the target's own token behind a draft, and the node that it hangs on.
    rounds : ndarray of int32 [F]
        Drafts so far.
    accepted : ndarray of int32 [F, D]
        Of them accepted at each depth so far.
    """

    first: np.ndarray
    row: np.ndarray
    parent: np.ndarray
    tried: np.ndarray
    depth: np.ndarray
    last: np.ndarray
    last_parent: np.ndarray
    rounds: np.ndarray
    accepted: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def tree(self, trace: Trace, frame: int) -> list[Node]:
        """The nodes of a frame."""
        found = []
        for n in range(int(self.first[frame]), int(self.first[frame + 1])):
            row, tried = int(self.row[n]), int(self.tried[n])
            state = KINDS[trace.columns["kind"][tried]] if tried >= 0 else "untried"
            p, q, u = (float(trace.columns[c][tried]) if tried >= 0 else np.nan for c in ("log_p", "log_q", "u"))
            q = q if np.isfinite(q) else float(trace.columns["log_q"][row])
            place = int(trace.columns["token"][row]), int(self.parent[n]), int(self.depth[n])
            found.append(Node(*place, float(np.exp(p)), float(np.exp(q)), u, state))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Hypotheses in the order of their birth; see the table in `workbench.decode.replay`."""

    row: np.ndarray
    parent: np.ndarray
    frame: np.ndarray
    gone: np.ndarray
    score: np.ndarray
    chosen: np.ndarray
    depth: np.ndarray
    leader: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    @property
    def depth_of_leader(self) -> np.ndarray:
        """Tokens of the best hypothesis after each frame."""
        if not len(self):
            return np.zeros(len(self.leader), np.int32)
        return np.where(self.leader >= 0, self.depth[self.leader], 0).astype(np.int32)

    def path(self, node: int) -> list[int]:
        """Hypotheses from the first to this one."""
        found: list[int] = []
        while node >= 0:
            found.append(node)
            node = int(self.parent[node])
        return found[::-1]

    def tokens(self, node: int, token: np.ndarray) -> list[int]:
        """Tokens along `path`, given the trace's column."""
        return [int(token[self.row[n]]) for n in self.path(node) if token[self.row[n]] >= 0]


def drafts_of(trace: Trace, frame: np.ndarray, count: int) -> Drafts:
    """All drafts of a trace."""
    kind, above = trace.columns["kind"], trace.columns["parent"]
    rows = trace.rows("draft")
    first = np.searchsorted(frame[rows], np.arange(count + 1)).astype(np.int32)
    node = {int(r): n for n, r in enumerate(rows)}
    parent, depth = np.full(len(rows), -1, np.int32), np.zeros(len(rows), np.int32)
    for n, r in enumerate(rows):
        at = node.get(int(above[r]), -1)
        if at >= first[frame[r]]:
            parent[n], depth[n] = at - first[frame[r]], depth[at] + 1
    tried = np.full(len(rows), -1, np.int32)
    for r in trace.rows("accept", "reject"):
        if int(above[r]) in node:
            tried[node[int(above[r])]] = r
    last, last_parent = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
    for r in trace.rows("residual", "bonus"):
        f, behind = int(frame[r]), int(above[r])
        at = node.get(int(above[behind]), -1) if behind >= 0 and kind[behind] == _CODE["accept"] else -1
        last[f], last_parent[f] = r, (at - int(first[f]) if at >= first[f] else -1)
    hits = np.zeros((count, int(depth.max(initial=-1)) + 1), np.int32)
    for n in np.flatnonzero(tried >= 0).tolist():
        if kind[tried[n]] == _CODE["accept"]:
            hits[frame[rows[n]], depth[n]] += 1
    rounds = np.cumsum(np.diff(first) > 0).astype(np.int32)
    hits = hits.cumsum(axis=0, dtype=np.int32)
    return Drafts(first, rows.astype(np.int32), parent, tried, depth, last, last_parent, rounds, hits)


def search_of(trace: Trace, frame: np.ndarray, count: int) -> Search:
    """All hypotheses of a trace."""
    kind, above, value = (trace.columns[c] for c in ("kind", "parent", "value"))
    rows = _born(trace)
    rows, walked = (rows, dict[int, int]()) if len(rows) else _walked(trace, frame)
    node = {int(r): n for n, r in enumerate(rows)}

    def behind(row: int) -> int:
        """The hypothesis that an event belongs to."""
        while row >= 0 and row not in node:
            row = int(above[row])
        return node.get(row, -1)

    parent = np.array([behind(walked.get(int(r), int(above[r]))) for r in rows], np.int32)
    score, gone = value[rows].astype(np.float32), np.full(len(rows), count, np.int32)
    if walked:
        score[:] = np.nan
    depth, chosen = np.zeros(len(rows), np.int32), np.zeros(len(rows), np.uint8)
    for n, r in enumerate(rows):
        depth[n] = (depth[parent[n]] if parent[n] >= 0 else 0) + (trace.columns["token"][r] >= 0)
    for r in trace.rows("score", "prune"):
        n = behind(int(r))
        if n >= 0 and kind[r] == _CODE["prune"]:
            gone[n] = min(gone[n], frame[r])
        elif n >= 0 and np.isfinite(value[r]):
            score[n] = value[r]
    for r in trace.rows("emit"):
        n = behind(int(above[r]))
        while n >= 0 and not chosen[n]:
            chosen[n], n = 1, int(parent[n])
    if walked:
        _whole(trace, rows, parent, chosen)
    born = frame[rows].astype(np.int32)
    _outlived(born, parent, gone, chosen, silent=not len(trace.rows("prune")) and not walked)
    leader = _leaders(born, gone, score, count)
    return Search(rows.astype(np.int32), parent, born, gone, score, chosen, depth, leader)


def _born(trace: Trace) -> np.ndarray:
    """Events that begin a hypothesis; a candidate that is dropped at once begins and ends with its ``prune``."""
    if not len(trace.rows("expand")):
        return np.empty(0, np.int64)
    above, token, place = (trace.columns[c] for c in ("parent", "token", "position"))
    dropped = [r for r in trace.rows("prune") if token[r] >= 0 and (above[r] < 0 or place[r] != place[above[r]])]
    return np.sort(np.concatenate([trace.rows("expand", "resample"), np.array(dropped, np.int64)]))


def _walked(trace: Trace, frame: np.ndarray) -> tuple[np.ndarray, dict[int, int]]:
    """Whole texts drawn under a constraint before one of them is said: what was allowed, and what stands before it."""
    asked, emitted = trace.rows("constrain"), trace.rows("emit")
    if not len(asked) or (len(emitted) and frame[emitted[0]] < frame[asked[-1]]):
        return np.empty(0, np.int64), {}
    taken: dict[tuple[int, int], int] = {}
    before: dict[int, int] = {}
    for r in asked:
        branch, place = int(trace.columns["branch"][r]), int(trace.columns["position"][r])
        if trace.columns["value"][r] > 0 and (branch, place) not in taken:
            taken[branch, place] = int(r)
            before[int(r)] = taken.get((branch, place - 1), -1)
    return np.array(sorted(before), np.int64), before


def _whole(trace: Trace, rows: np.ndarray, parent: np.ndarray, chosen: np.ndarray) -> None:
    """Mark the walk whose tokens were said; emitted tokens need not name the draw that they came from."""
    said, token = trace.tokens.tolist(), trace.columns["token"]
    for n in range(len(rows)):
        path, at = list[int](), n
        while at >= 0:
            path.append(at)
            at = int(parent[at])
        if [int(token[rows[k]]) for k in path[::-1]] == said:
            chosen[:] = 0
            chosen[path] = 1
            return


def _outlived(born: np.ndarray, parent: np.ndarray, gone: np.ndarray, chosen: np.ndarray, *, silent: bool) -> None:
    """A hypothesis lives as long as its longest-lived child; without any, where nothing tells, until others go on."""
    last = int(born.max(initial=-1))
    heirs = np.full(len(born), -1, np.int32)
    for n in range(len(born) - 1, -1, -1):
        if heirs[n] >= 0:
            gone[n] = min(gone[n], heirs[n])
        elif silent and born[n] < last and not chosen[n]:
            gone[n] = min(gone[n], int(born[n]) + 1)
        if parent[n] >= 0:
            heirs[parent[n]] = max(heirs[parent[n]], gone[n])


def _leaders(born: np.ndarray, gone: np.ndarray, score: np.ndarray, count: int) -> np.ndarray:
    """After each frame the best of the newest hypotheses that live on; -1 before the first."""
    leader = np.full(count, -1, np.int32)
    for n in range(len(born)):
        f = int(born[n])
        if gone[n] <= f:
            continue
        best = int(leader[f])
        if best < 0 or not score[best] >= score[n]:
            leader[f] = n
    for f in range(1, count):
        if leader[f] < 0:
            leader[f] = leader[f - 1]
    return leader
