"""Traces made up through `Recorder`: what methods record, without a model. For tests of the replay and the theatre."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.decode.recorder import Recorder
from workbench.decode.trace import KINDS, Trace
from workbench.results import Provenance

WORDS = (
    "the", " old", " keeper", " of", " a", " light", "house", " saw", " ships", " at", " night", ".", "\n", " and",
    " he", " wrote", " their", " names", " in", " his", " book", ",", " one", " by", " sea", " storm", " lamp", " <b>",
    " was", " lit",
)  # fmt: skip
PROMPT = (0, 1, 2, 12)


def piece(token: int) -> str:
    return WORDS[token % len(WORDS)]


def logits(random: np.random.Generator, token: int) -> np.ndarray:
    made = random.normal(size=len(WORDS))
    made[token] += 3.5
    return made


class Made:
    """A recorder whose clock is told, so that the same calls give the same trace."""

    def __init__(self, seed: int = 0) -> None:
        self.random, self.recorder = np.random.default_rng(seed), Recorder()
        self.recorder.add("prefill", value=len(PROMPT), position=len(PROMPT) - 1)
        self.place = len(PROMPT)

    def emit(self, token: int, parent: int = -1, **columns: Any) -> int:
        row = self.recorder.add(
            "emit", token=token, parent=parent, position=self.place, logits=logits(self.random, token), **columns
        )
        self.place += 1
        return row

    def done(self, method: str, milliseconds: float = 20.0, **notes: Any) -> Trace:
        self.recorder.notes |= notes
        now = 0.0
        for row in self.recorder._rows:
            passed = milliseconds * {"prefill": 2.0, "verify": 1 + 0.02 * row.get("value", 0)}.get(row["kind"], 0.0)
            now += (passed or {"draft": 0.3, "expand": 2.0, "unmask": 5.0, "exit": 1.5}.get(row["kind"], 0.02)) / 1000
            row["seconds"] = now
        where = Provenance("3", {}, "made up", 1, 1)
        return self.recorder.finish(method, {"seed": 0}, PROMPT, piece, where)


def speculative(steps: int = 24, nodes: int = 8, seed: int = 0) -> Trace:
    """Trees of drafts: some accepted, some refused, some never looked at."""
    made = Made(seed)
    trace, random = made.recorder, made.random
    made.emit(3)
    for _ in range(steps):
        trace.step += 1
        parents = [-1, -1, *(int(random.integers(0, n)) for n in range(2, nodes))]
        tokens = random.integers(0, len(WORDS), nodes).tolist()
        depth = [0] * nodes
        rows: list[int] = []
        for n, above in enumerate(parents):
            depth[n] = depth[above] + 1 if above >= 0 else 0
            behind = rows[above] if above >= 0 else -1
            rows.append(
                trace.add("draft", token=tokens[n], parent=behind, position=made.place + depth[n], log_q=-0.3 - 0.2 * n)
            )
        trace.target_forwards += 1
        looked = trace.add("verify", value=1 + nodes, position=made.place)
        node, behind, place = -1, looked, made.place
        emitted: list[tuple[int, int]] = []
        while below := [n for n in range(nodes) if parents[n] == node]:
            hit = -1
            for n in below:
                u = float(random.random())
                kind = "accept" if u < 0.55 else "reject"
                row = trace.add(
                    kind, token=tokens[n], parent=rows[n], position=place + depth[n], u=u, log_p=-0.5, log_q=-0.9
                )
                if kind == "accept":
                    hit, behind = n, row
                    emitted.append((tokens[n], row))
                    break
            if hit < 0:
                break
            node = hit
        trace.add("rollback", value=nodes - len(emitted), parent=looked, position=place + len(emitted))
        for token, row in emitted:
            made.emit(token, row)
        kind = "residual" if any(parents[n] == node for n in range(nodes)) else "bonus"
        token = int(random.integers(0, len(WORDS)))
        made.emit(token, trace.add(kind, token=token, parent=behind, position=made.place, u=float(random.random())))
    costs = {"sizes": [1, 2, 4, 8, 16], "ratios": [1.0, 1.05, 1.08, 1.13, 1.75]}
    return made.done("made-up-tree", costs=costs)


def plain(tokens: int = 40, seed: int = 1) -> Trace:
    """One token per pass."""
    made = Made(seed)
    for n in range(tokens):
        made.recorder.step = n
        if n:
            made.recorder.target_forwards += 1
            made.recorder.add("verify", value=1, position=made.place)
        made.emit(int(made.random.integers(0, len(WORDS))))
    return made.done("greedy")


def beam(steps: int = 16, width: int = 4, seed: int = 2) -> Trace:
    """A beam search: all children of every beam, the best ``width`` stay, the best of all is emitted."""
    made = Made(seed)
    trace, random = made.recorder, made.random
    live = [(0.0, -1, [])]
    for step in range(1, steps + 1):
        trace.step = step
        trace.target_forwards += 1
        trace.add("verify", value=len(live), position=made.place + step - 1)
        born = []
        for score, above, path in live:
            for token in random.choice(len(WORDS), 3, replace=False).tolist():
                worth = score - float(random.exponential(0.8))
                row = trace.add(
                    "expand", token=token, parent=above, position=made.place + step - 1, branch=len(born), value=worth,
                    logits=logits(random, token),
                )  # fmt: skip
                born.append((worth, row, [*path, (token, row)]))
        born.sort(key=lambda b: -b[0])
        for worth, row, _ in born[width:]:
            trace.add("prune", parent=row, value=worth)
        trace.add("prune", token=5, parent=live[0][1], position=made.place + step - 1, value=live[0][0] - 9)
        live = born[:width]
    for token, row in live[0][2]:
        made.emit(token, row)
    return made.done("made-up-beam")


def diffusion(length: int = 28, seed: int = 3) -> Trace:
    """Masked diffusion: a few places a step, the surest first; one is masked again."""
    made = Made(seed)
    trace, random = made.recorder, made.random
    order = random.permutation(length).tolist()
    rows: dict[int, tuple[int, int]] = {}
    while order:
        trace.step += 1
        trace.target_forwards += 1
        trace.add("verify", value=length, position=made.place)
        many = int(random.integers(1, 5))
        take, order = order[:many], order[many:]
        for at in take:
            token = int(random.integers(0, len(WORDS)))
            row = trace.add(
                "unmask", token=token, position=made.place + at, value=float(random.random()),
                logits=logits(random, token),
            )  # fmt: skip
            rows[at] = row, token
        if trace.step == 3:
            at = take[0]
            trace.add("remask", token=rows[at][1], position=made.place + at, parent=rows[at][0])
            order.append(at)
    for at in range(length):
        made.emit(rows[at][1], rows[at][0])
    return made.done("made-up-diffusion")


def exits(tokens: int = 30, layers: int = 12, seed: int = 4) -> Trace:
    """Early exit: confidence after each layer until it suffices."""
    made = Made(seed)
    trace, random = made.recorder, made.random
    for n in range(tokens):
        trace.step = n
        trace.target_forwards += 1
        token, sure = int(random.integers(0, len(WORDS))), 0.0
        stop = int(random.integers(3, layers))
        for layer in range(2, stop + 1):
            sure = min(0.98, sure + 0.9 / (stop - 1) * float(random.random() + 0.5))
            row = trace.add("exit", token=token, position=made.place, layer=layer, value=sure)
        made.emit(token, row, layer=stop)
    return made.done("made-up-exits", layers=layers)


def constrained(tokens: int = 20, seed: int = 5) -> Trace:
    """Draws that a constraint may forbid, until one is allowed."""
    made = Made(seed)
    trace, random = made.recorder, made.random
    for n in range(tokens):
        trace.step = n
        trace.target_forwards += 1
        tried = random.choice(len(WORDS), int(random.integers(1, 5)), replace=False).tolist()
        for token in tried:
            allowed = token == tried[-1]
            u = float(random.random())
            row = trace.add("constrain", token=token, position=made.place, value=float(allowed), log_p=-1.0, u=u)
        made.emit(tried[-1], row)
    return made.done("made-up-constraint")


def long(tokens: int = 2000, events: int = 17) -> Trace:
    """About so many events a token, to see whether the page stays fluid."""
    made = Made(6)
    trace, random = made.recorder, made.random
    drafted = events - 5
    while made.place - len(PROMPT) < tokens:
        trace.step += 1
        rows: list[int] = []
        for n in range(drafted):
            above = rows[(n - 1) // 2] if n else -1
            depth = int(np.log2(n + 1))
            token = int(random.integers(0, len(WORDS)))
            rows.append(trace.add("draft", token=token, parent=above, position=made.place + depth, log_q=-1.0))
        trace.target_forwards += 1
        looked = trace.add("verify", value=1 + drafted, position=made.place)
        trace.add("reject", token=1, parent=rows[0], position=made.place, u=0.9, log_p=-2.0, log_q=-1.0)
        trace.add("rollback", value=drafted, parent=looked, position=made.place)
        token = int(random.integers(0, len(WORDS)))
        made.emit(token, trace.add("residual", token=token, parent=looked, position=made.place, u=0.5))
    return made.done("made-up-long")


ALL = {
    "speculative": speculative, "plain": plain, "beam": beam, "diffusion": diffusion, "exits": exits,
    "constrained": constrained,
}  # fmt: skip
KIND_CONSTRAIN = KINDS.index("constrain")
