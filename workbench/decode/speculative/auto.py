"""Auto: in every step the free drafter that measured costs favour, or none.

No paper: prompt lookup and Token Recycling (see there) behind one gate.

    worth of a drafter = max_n (1 + E[accept(n)]) / v(1 + n)      draft with the largest worth, if it exceeds 1.1

What a drafter is worth hangs on the length of the match for prompt lookup, and for Token Recycling on whether the last
two tokens were seen together before; both are learned during the run, from priors.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench.decode._method import decoder
from workbench.decode.run import Run
from workbench.decode.speculative._base import Drafter, Speculative
from workbench.decode.speculative.gate import Gate, Yield, decline, table
from workbench.decode.speculative.prompt_lookup import Lookup
from workbench.decode.speculative.token_recycling import Recycled, Recycler
from workbench.decode.target import Forward
from workbench.decode.tree import DraftTree
from workbench.decode.verify import Verified
from workbench.errors import ArgumentError


@decoder
@dataclass(frozen=True)
class Auto(Speculative):
    """Picks a drafter step by step.

    Attributes
    ----------
    draft_tokens
        Of prompt lookup, at most.
    nodes
        Of Token Recycling's tree, at most.
    state
        A `Recycled` to go on with, which is changed; None for an empty one.
    costs
        A `VerifyCosts`; None to measure them.
    """

    name: ClassVar[str] = "auto"
    title: ClassVar[str] = "Automatic"
    formula: ClassVar[str] = "the drafter with the largest (1 + E[accept(n)]) / v(1 + n), or a plain step"

    draft_tokens: int = 15
    nodes: int = 15
    state: Any = None
    costs: Any = None

    def __post_init__(self) -> None:
        if self.draft_tokens < 1 or not 1 <= self.nodes <= 24:
            raise ArgumentError(f"draft_tokens={self.draft_tokens}, nodes={self.nodes}: at least 1; nodes to 24")
        if self.state is not None and not isinstance(self.state, Recycled):
            raise ArgumentError(f"state={self.state!r}: a Recycled, or None for an empty one")

    def drafter(self, run: Run) -> Drafter:
        """Both drafters."""
        state = self.state if self.state is not None else Recycled()
        return Pick(run, Gate(table(run, self.costs)), Lookup(self.draft_tokens), Recycler(state, self.nodes))


class Pick(Drafter):
    """Asks the gate which of two drafters is worth more."""

    def __init__(self, run: Run, gate: Gate, lookup: Lookup, recycler: Recycler) -> None:
        self.run, self.gate, self.lookup, self.recycler = run, gate, lookup, recycler
        self._kind: Hashable | None = None

    def begin(self, run: Run, forward: Forward) -> None:
        """Hand on."""
        self.recycler.begin(run, forward)

    def propose(self, context: Sequence[int], room: int) -> DraftTree:
        """The draft worth most, cut to the size that pays."""
        offers: list[tuple[float, int, Hashable, Yield, Lookup | Recycler]] = []
        drafters: tuple[Lookup | Recycler, ...] = self.lookup, self.recycler
        for index, drafter in enumerate(drafters):
            kind = drafter.kind(context)
            if kind is not None:
                named, prior = (type(drafter).__name__, kind), drafter.prior(kind)
                _, worth, _ = self.gate.best(named, prior, min(room, drafter.most))
                offers.append((-worth, index, named, prior, drafter))
        self._kind = None
        if not offers:
            return DraftTree.of()
        _, _, kind, prior, chosen = min(offers, key=lambda offer: offer[:2])
        size, value = self.gate.size(kind, prior, min(room, chosen.most))
        if not size:
            decline(self.run, value)
            return DraftTree.of()
        self._kind = kind
        return chosen.propose(context, size)

    def observe(self, verified: Verified) -> None:
        """Learn, and teach Token Recycling whatever was looked at."""
        self.gate.heard(self._kind, len(verified.tree), len(verified.verdict.path))
        self.recycler.observe(verified)
