"""When not to draft: a gate that weighs what a draft yields against what verifying it costs on this machine.

    s_1 >= s_2 >= ...   chance that the draft's first, second, ... token is accepted, learned per kind of draft
    n* = argmax_n  (1 + s_1 + ... + s_n) / v(1 + n)          draft n* tokens if that exceeds 1.1, else none

v comes from `workbench.decode.costs`. For a chain s_i = a^i, with a the share of tokens accepted of those that were
looked at; for a tree the sums are what its nodes are expected to yield, times what they yielded of it so far. Both
forget slowly and start from a prior. A kind of draft that does not pay is tried again now and then, as long as that
has cost at most a hundredth of the passes. Decisions depend on the table of costs and the text only, never on the
clock of the run, so that a seed gives the same tokens again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from workbench.decode.costs import VerifyCosts, costs_of
from workbench.decode.run import Run
from workbench.decode.speculative._base import Drafter
from workbench.decode.tree import DraftTree
from workbench.decode.verify import Verified

DECAY = 0.95  # what a draft counts after another one of its kind
WEIGHT = 4.0  # drafts that the prior counts for
MARGIN = 1.1  # a draft must promise so much more than a plain step: drafting and keeping books take time too
PROBES = 0.01  # share of the passes that drafts against the odds may cost


class Yield(ABC):
    """What drafts of one kind yield, as far as seen.

    Attributes
    ----------
    tree
        Whether they are trees, for the costs.
    """

    tree: ClassVar[bool]

    @abstractmethod
    def gains(self, most: int) -> np.ndarray:
        """Tokens expected to be accepted of the first n, for n = 1 to at most ``most``; float64."""

    @abstractmethod
    def learn(self, drafted: int, accepted: int) -> None:
        """So many were drafted, so many accepted."""


@dataclass(slots=True)
class ChainYield(Yield):
    """Chains: every token is accepted with the same chance after the one before it.

    Attributes
    ----------
    chance
        The prior for it.
    """

    tree: ClassVar[bool] = False
    chance: float = 0.6
    accepted: float = 0.0
    refused: float = 0.0

    @property
    def rate(self) -> float:
        """The chance as far as it is known."""
        return (self.accepted + WEIGHT * self.chance) / (self.accepted + self.refused + WEIGHT)

    def gains(self, most: int) -> np.ndarray:
        """``a + a^2 + ... + a^n``."""
        return np.cumsum(self.rate ** np.arange(1, most + 1))

    def learn(self, drafted: int, accepted: int) -> None:
        """Count tokens that were looked at."""
        self.accepted = DECAY * self.accepted + accepted
        self.refused = DECAY * self.refused + (accepted < drafted)


@dataclass(slots=True)
class TreeYield(Yield):
    """Trees whose nodes come in an order of their own.

    Attributes
    ----------
    chances
        For every node the prior chance that it is accepted; of the first so many for a smaller tree.
    """

    tree: ClassVar[bool] = True
    chances: Sequence[float]
    accepted: float = 0.0
    expected: float = 0.0

    def gains(self, most: int) -> np.ndarray:
        """Sums of the prior chances, times accepted / expected."""
        prior = np.cumsum(self.chances[:most])
        weight = WEIGHT * float(np.sum(self.chances))
        return prior * (self.accepted + weight) / (self.expected + weight)

    def learn(self, drafted: int, accepted: int) -> None:
        """Compare with what was to be expected."""
        self.accepted = DECAY * self.accepted + accepted
        self.expected = DECAY * self.expected + float(np.sum(self.chances[:drafted]))


class Gate:
    """Decides how many tokens a draft of some kind shall have.

    Parameters
    ----------
    costs
    drafting
        What drafting itself costs per draft, relative to a pass over one token (a draft model's passes).
    """

    def __init__(self, costs: VerifyCosts, drafting: float = 0.0) -> None:
        self.costs, self.drafting = costs, drafting
        self.passes, self.spent = 0, 0.0
        self.kinds: dict[Hashable, Yield] = {}

    def size(self, kind: Hashable, prior: Yield, most: int, *, fixed: bool = False) -> tuple[int, float]:
        """How many tokens to draft, and what they cost relative to their gain: above 1 means a loss.

        Parameters
        ----------
        kind
            Whatever tells drafts of different worth apart.
        prior
            Used (and changed) from now on if the kind is new.
        most
            At least 1.
        fixed
            Whether it is all or none.
        """
        at, worth, loss = self.best(kind, prior, most, fixed=fixed)
        if worth <= MARGIN:
            if self.spent + loss > PROBES * self.passes:
                return 0, 1 / worth
            self.spent += loss
        return at, 1 / worth

    def best(self, kind: Hashable, prior: Yield, most: int, *, fixed: bool = False) -> tuple[int, float, float]:
        """The size that pays most, its gain relative to its cost, and what a pass of it costs beyond a plain one."""
        known = self.kinds.setdefault(kind, prior)
        gains = known.gains(most)
        ratios = (self.costs.tree_ratios if known.tree else self.costs.ratios)[2 : 2 + len(gains)] + self.drafting
        worth = (1 + gains) / ratios
        at = len(gains) - 1 if fixed else int(np.argmax(worth))
        return at + 1, float(worth[at]), max(0.0, float(ratios[at]) - 1)

    def heard(self, kind: Hashable | None, drafted: int, accepted: int) -> None:
        """A pass is over; ``kind`` is None if nothing of any kind was drafted."""
        self.passes += 1
        if kind is not None and drafted:
            self.kinds[kind].learn(drafted, accepted)


class GatedDrafter(Drafter):
    """A drafter behind a gate; what it drafts is cut to the size that pays, or left out.

    A drafter may have ``kind(context)``, which tells its drafts apart before they are made (None: there is nothing to
    draft), and ``prior(kind)``; without them all its drafts are chains of one kind.

    Parameters
    ----------
    inner
    run
        Whose trace hears of declined drafts.
    gate
    fixed
        Whether drafts are made whole or not at all; else they are asked for with as much room as pays.
    """

    def __init__(self, inner: Drafter, run: Run, gate: Gate, *, fixed: bool = False) -> None:
        self.inner, self.run, self.gate, self.fixed = inner, run, gate, fixed
        self.most = int(getattr(inner, "most", 16))
        self._kind: Hashable | None = None

    @property
    def hidden(self) -> bool:  # type: ignore[override]
        """As the drafter's."""
        return self.inner.hidden

    def begin(self, run: Run, forward: Any) -> None:
        """Hand on."""
        self.inner.begin(run, forward)

    def propose(self, context: Sequence[int], room: int) -> DraftTree:
        """Ask the gate, then the drafter."""
        kind_of, prior = getattr(self.inner, "kind", None), getattr(self.inner, "prior", None)
        self._kind = kind_of(context) if kind_of else "draft"
        if self._kind is None or not room:
            return DraftTree.of()
        expected = prior(self._kind) if prior else ChainYield()
        size, value = self.gate.size(self._kind, expected, min(room, self.most), fixed=self.fixed)
        if not size:
            self._kind = None
            decline(self.run, value)
            return DraftTree.of()
        return self.inner.propose(context, size)

    def observe(self, verified: Verified) -> None:
        """Learn, and hand on."""
        self.gate.heard(self._kind, len(verified.tree), len(verified.verdict.path))
        self.inner.observe(verified)


def decline(run: Run, value: float) -> None:
    """Record that a draft was left out, of the round that comes."""
    run.trace.add("decline", step=run.trace.step + 1, value=value, position=len(run.tokens))


def table(run: Run, costs: VerifyCosts | None) -> VerifyCosts:
    """The costs to decide by: those given, or the target's, which are measured once; noted in the trace."""
    if costs is None:
        with run.trace.aside():
            costs = costs_of(run.target)
    run.trace.notes["costs"] = costs.note()
    return costs


def gated(
    run: Run, drafter: Drafter, costs: VerifyCosts | None = None, *, drafting: float = 0.0, fixed: bool = False
) -> Drafter:
    """A drafter behind a gate; call it before the prompt's pass, because measuring empties the cache."""
    return GatedDrafter(drafter, run, Gate(table(run, costs), drafting), fixed=fixed)
