"""What a decode cost, and how much of what was drafted was accepted; both are read off a trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import render

if TYPE_CHECKING:
    from workbench.decode.trace import Trace


@dataclass(frozen=True, slots=True)
class Cost:
    """What it took.

    Attributes
    ----------
    tokens
        Emitted.
    target_forwards, draft_forwards
        Passes of the target, the prompt's not counted, and of a draft model.
    verified
        Tokens that went through those passes of the target.
    prefill_seconds, decode_seconds
        For the prompt, and for all after it.
    from_prompt
        Tokens that the prompt's pass yields: 1, or 0 where there is none, as in masked diffusion.
    """

    tokens: int
    target_forwards: int
    draft_forwards: int
    verified: int
    prefill_seconds: float
    decode_seconds: float
    from_prompt: int = 1

    @property
    def tokens_per_forward(self) -> float:
        """Tokens after the first (which the prompt's pass yields) per pass of the target; NaN without passes."""
        return (self.tokens - self.from_prompt) / self.target_forwards if self.target_forwards > 0 else float("nan")

    @property
    def tokens_per_second(self) -> float:
        """Of decoding alone."""
        return (self.tokens - self.from_prompt) / self.decode_seconds if self.decode_seconds > 0 else float("nan")

    def table(self) -> list[tuple[str, Any]]:
        """Names and figures."""
        return [
            ("tokens", self.tokens),
            ("passes of the target", self.target_forwards),
            ("passes of the draft", self.draft_forwards),
            ("tokens per pass", self.tokens_per_forward),
            ("seconds for the prompt", self.prefill_seconds),
            ("seconds after it", self.decode_seconds),
            ("tokens per second", self.tokens_per_second),
        ]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """How drafts fared.

    Attributes
    ----------
    drafts
        Rounds in which anything was drafted.
    drafted, accepted
        Tokens.
    by_position
        Accepted at depth i of the draft / rounds that drafted, i = 1, 2, ...
    """

    drafts: int
    drafted: int
    accepted: int
    by_position: tuple[float, ...]

    @property
    def mean_length(self) -> float:
        """Tokens of a drafting round: 1 + accepted / rounds; NaN without any."""
        return 1 + self.accepted / self.drafts if self.drafts else float("nan")

    def sections(self) -> tuple[render.Section, ...]:
        """For a result; none where nothing was drafted."""
        if not self.drafts:
            return ()
        rows: list[tuple[str, Any]] = [
            ("rounds with drafts", self.drafts),
            ("tokens drafted", self.drafted),
            ("tokens accepted", self.accepted),
            ("tokens of such a round", self.mean_length),
        ]
        rows += [(f"accepted at position {i}", f"{a:.0%}") for i, a in enumerate(self.by_position, 1)]
        return (render.section("Drafts", rows),)


def cost_of(trace: Trace) -> Cost:
    """The cost of a trace."""
    prefill, kinds = trace.rows("prefill"), trace.columns["seconds"]
    first = float(kinds[prefill].max(initial=0.0))
    verified = int(np.nansum(trace.columns["value"][trace.rows("verify")]))
    before = int(trace.columns["target_forwards"][prefill].max(initial=0))
    forwards = int(trace.columns["target_forwards"].max(initial=0)) - before
    drafts = int(trace.columns["draft_forwards"].max(initial=0))
    total = float(kinds.max(initial=0.0))
    return Cost(len(trace.tokens), forwards, drafts, verified, first, total - first, min(1, prefill.size))


def acceptance_of(trace: Trace) -> Acceptance:
    """How the drafts of a trace fared."""
    steps, positions, parents = (trace.columns[c] for c in ("step", "position", "parent"))
    drafted, accepted = trace.rows("draft"), trace.rows("accept")
    rounds = np.unique(steps[drafted])
    if not rounds.size:
        return Acceptance(0, 0, 0, ())
    root = {int(s): int(p) for s, p in zip(steps[drafted][::-1], positions[drafted][::-1], strict=True)}
    depths = [int(positions[parents[row]]) - root[int(steps[row])] for row in accepted]
    most = int((positions[drafted] - [root[int(s)] for s in steps[drafted]]).max(initial=0)) + 1
    counts = np.bincount(depths, minlength=most) if depths else np.zeros(most, np.int64)
    return Acceptance(rounds.size, drafted.size, accepted.size, tuple((counts / rounds.size).tolist()))
