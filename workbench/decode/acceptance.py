"""Which drafted tokens the target accepts, and what it says instead: one object per rule.

At every node the rule sees the target's distribution p after that node and the drafted children, in order:

    Greedy               accept the child that is argmax p                                          greedy text exact
    SpeculativeSampling  one child x from q: accept if u <= p(x) / q(x); else draw from [p - q]+     distribution exact
    WithoutReplacement   children from q without replacement: as above for each child in turn;
                         after a refusal p <- norm [p - q]+, q <- norm (q without x)                distribution exact
    Certain              children chosen, not sampled: accept x if u <= p(x);
                         after a refusal p <- norm (p without x)                                    distribution exact
    Typical              accept if p(x) > min(eps, delta exp(-H(p))), longest path wins              neither

Sources: Leviathan, Kalman, Matias (2023, arXiv:2211.17192, Algorithm 1); Chen et al. (2023, arXiv:2302.01318); for
recursive rejection Jeon et al. (2024, arXiv:2402.14160, Algorithm 2) and Yang et al. (2024, arXiv:2401.06706);
Certain is WithoutReplacement for point masses; Typical is Cai et al. (2024, arXiv:2401.10774, section 2.3.1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from workbench.decode.sampling import Sampler, draw
from workbench.decode.tree import ROOT, DraftTree
from workbench.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Trial:
    """One look at a drafted token: node, whether it was accepted, p, q (NaN where certain) and the deciding u."""

    node: int
    accepted: bool
    p: float = float("nan")
    q: float = float("nan")
    u: float = float("nan")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule decided.

    Attributes
    ----------
    path
        Accepted nodes from the text down.
    token
        The target's own token behind them.
    bonus
        Whether it comes after a whole path (nothing was refused at the last node), else it replaces what was refused.
    trials
        In order.
    u
        The uniform number that drew ``token``; NaN if none did.
    """

    path: tuple[int, ...]
    token: int
    bonus: bool
    trials: tuple[Trial, ...]
    u: float = float("nan")


Logits = Callable[[int], np.ndarray]


class Rule(ABC):
    """A rule of acceptance.

    Attributes
    ----------
    exact
        What stays as without drafts: ``"greedy"`` text, the ``"distribution"`` of texts, or ``"nothing"``.
    """

    exact: ClassVar[str]

    @abstractmethod
    def judge(self, tree: DraftTree, logits: Logits, sampler: Sampler, random: np.random.Generator) -> Verdict:
        """Walk down a draft.

        Parameters
        ----------
        logits
            ``logits(node)`` are the target's ``[V]`` after a node, `ROOT` for the text itself.
        """


@dataclass(frozen=True)
class Greedy(Rule):
    """The text that the most likely token gives, whatever was drafted."""

    exact: ClassVar[str] = "greedy"

    def judge(self, tree: DraftTree, logits: Logits, sampler: Sampler, random: np.random.Generator) -> Verdict:
        """Follow the most likely token while it was drafted."""
        del sampler, random
        path: list[int] = []
        trials: list[Trial] = []
        node = ROOT
        while True:
            token = int(np.argmax(logits(node)))
            below = tree.children.get(node, ())
            hit = next((c for c in below if tree.tokens[c] == token), None)
            trials += [Trial(c, c == hit) for c in (below if hit is None else below[: below.index(hit) + 1])]
            if hit is None:
                return Verdict(tuple(path), token, not below, tuple(trials))
            path.append(hit)
            node = hit


@dataclass(frozen=True)
class Sampled(Rule):
    """Base of the rules that keep the distribution; `step` treats the children of one node."""

    exact: ClassVar[str] = "distribution"

    @abstractmethod
    def step(
        self, p: np.ndarray, tree: DraftTree, node: int, random: np.random.Generator, trials: list[Trial]
    ) -> tuple[int | None, np.ndarray]:
        """The accepted child and p, or None and the distribution that remains after all refusals."""

    def judge(self, tree: DraftTree, logits: Logits, sampler: Sampler, random: np.random.Generator) -> Verdict:
        """Node by node; the last token is drawn from what remains."""
        path: list[int] = []
        trials: list[Trial] = []
        node = ROOT
        while True:
            p = sampler.probabilities(logits(node))
            below = tree.children.get(node, ())
            hit, rest = self.step(p, tree, node, random, trials) if below else (None, p)
            if hit is None:
                u = random.random()
                return Verdict(tuple(path), draw(rest, u), not below, tuple(trials), u)
            path.append(hit)
            node = hit


@dataclass(frozen=True)
class Certain(Sampled):
    """Children that were chosen and not sampled: the draft's distribution is all on them."""

    def step(
        self, p: np.ndarray, tree: DraftTree, node: int, random: np.random.Generator, trials: list[Trial]
    ) -> tuple[int | None, np.ndarray]:
        """Accept x with probability p(x); refused, x is out."""
        p = p.copy()
        for child in tree.children[node]:
            x, u = int(tree.tokens[child]), random.random()
            accepted = u < p[x]
            trials.append(Trial(child, bool(accepted), float(p[x]), float("nan"), u))
            if accepted:
                return child, p
            p[x] = 0.0
            p /= p.sum()
        return None, p


@dataclass(frozen=True)
class WithoutReplacement(Sampled):
    """Children sampled from ``tree.q[node]`` without replacement, in this order; one child is speculative sampling."""

    def step(
        self, p: np.ndarray, tree: DraftTree, node: int, random: np.random.Generator, trials: list[Trial]
    ) -> tuple[int | None, np.ndarray]:
        """Accept x with probability min(1, p(x) / q(x)); refused, p loses q's share and q loses x."""
        if node not in tree.q:
            raise ArgumentError(f"the draft has no distribution for the children of node {node}: use the rule Certain")
        q = tree.q[node].copy()
        for child in tree.children[node]:
            x, u = int(tree.tokens[child]), random.random()
            accepted = u * q[x] < p[x]
            trials.append(Trial(child, bool(accepted), float(p[x]), float(q[x]), u))
            if accepted:
                return child, p
            p = _left(p, q)
            q[x] = 0.0
            mass = q.sum()
            if mass > 0:
                q /= mass
        return None, p


@dataclass(frozen=True)
class SpeculativeSampling(WithoutReplacement):
    """One sampled child per node, a chain.

    Raises
    ------
    ArgumentError
        If a node has more.
    """

    def step(
        self, p: np.ndarray, tree: DraftTree, node: int, random: np.random.Generator, trials: list[Trial]
    ) -> tuple[int | None, np.ndarray]:
        """As `WithoutReplacement`, for one child."""
        if len(tree.children[node]) > 1:
            raise ArgumentError(f"node {node} has {len(tree.children[node])} children: use WithoutReplacement")
        return super().step(p, tree, node, random, trials)


def _left(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """``norm [p - q]+``; p itself where nothing is left, which happens with probability 0 only."""
    rest = np.maximum(p - q, 0.0)
    mass = rest.sum()
    return rest / mass if mass > 0 else p


@dataclass(frozen=True)
class Typical(Rule):
    """Medusa's typical acceptance: likely enough is good enough; the text is not what the target would have said.

    Attributes
    ----------
    epsilon, delta
        A token passes if ``p(x) > min(epsilon, delta exp(-H(p)))``.
    """

    exact: ClassVar[str] = "nothing"
    epsilon: float = 0.09
    delta: float = 0.3

    def judge(self, tree: DraftTree, logits: Logits, sampler: Sampler, random: np.random.Generator) -> Verdict:
        """The longest path whose tokens all pass, the likeliest of equals; the most likely token passes always."""
        plain = sampler if not sampler.greedy else Sampler(temperature=1.0)
        trials: list[Trial] = []
        best: tuple[int, float, int] = (0, 0.0, ROOT)
        passed: dict[int, tuple[int, float]] = {ROOT: (0, 0.0)}
        after: dict[int, np.ndarray] = {}
        for n, (x, parent) in enumerate(zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True)):
            if parent not in passed:
                continue
            p = after.setdefault(parent, plain.probabilities(logits(parent)))
            accepted = p[x] > self.threshold(p) or x == int(np.argmax(p))
            trials.append(Trial(n, bool(accepted), float(p[x])))
            if accepted:
                depth, chance = passed[parent]
                passed[n] = depth + 1, chance + float(np.log(max(p[x], 1e-300)))
                best = max(best, (*passed[n], n))
        path = tuple(tree.path(best[2]))
        u = float("nan") if sampler.greedy else random.random()
        last = logits(best[2])
        token = int(np.argmax(last)) if sampler.greedy else draw(plain.probabilities(last), u)
        return Verdict(path, token, best[2] not in tree.children, tuple(trials), u)

    def threshold(self, p: np.ndarray) -> float:
        """``min(epsilon, delta exp(-H))`` with H in nats."""
        positive = p[p > 0]
        entropy = float(-(positive * np.log(positive)).sum())
        return min(self.epsilon, self.delta * float(np.exp(-entropy)))
