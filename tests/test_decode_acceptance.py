"""Rules of acceptance: the texts that come out are distributed as the target's, and a rule that is broken is caught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import pytest

from workbench.decode._exact import Fit, g_test, g_test_passes
from workbench.decode.acceptance import (
    Certain,
    Greedy,
    Rule,
    Sampled,
    SpeculativeSampling,
    Trial,
    Typical,
    WithoutReplacement,
)
from workbench.decode.sampling import Sampler
from workbench.decode.tree import ROOT, DraftTree
from workbench.errors import ArgumentError

V, LENGTH, SAMPLES = 4, 3, 4000
Drafts = Callable[["Language", np.random.Generator], DraftTree]


@dataclass(frozen=True)
class Language:
    """Random conditionals of a target and a draft, by the tokens before."""

    seed: int

    def logits(self, text: tuple[int, ...], who: int = 0) -> np.ndarray:
        return table(self.seed, who, text)

    def p(self, text: tuple[int, ...], sampler: Sampler) -> np.ndarray:
        return sampler.probabilities(self.logits(text))

    def q(self, text: tuple[int, ...]) -> np.ndarray:
        return chances_of(self.seed, text)


@cache
def table(seed: int, who: int, text: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng([seed, who, len(text), *text]).normal(0, 1.3, V).astype(np.float32)


@cache
def chances_of(seed: int, text: tuple[int, ...]) -> np.ndarray:
    return Sampler(1.0).probabilities(table(seed, 1, text))


def without_replacement(q: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """One after the other, each from what is left."""
    left, found = q.copy(), []
    for _ in range(count):
        found.append(int(rng.choice(V, p=left / left.sum())))
        left[found[-1]] = 0
    return found


def sampled_tree(shape: tuple[int, ...]) -> Drafts:
    def draw(language: Language, rng: np.random.Generator) -> DraftTree:
        tokens: list[int] = []
        parents: list[int] = []
        chances: dict[int, np.ndarray] = {}
        level: list[tuple[int, tuple[int, ...]]] = [(ROOT, ())]
        for width in shape:
            below = []
            for node, text in level:
                chances[node] = language.q(text)
                for token in without_replacement(chances[node], width, rng):
                    tokens.append(token)
                    parents.append(node)
                    below.append((len(tokens) - 1, (*text, token)))
            level = below
        return DraftTree.of(tokens, parents, q=chances)

    return draw


def chosen_tree(language: Language, rng: np.random.Generator) -> DraftTree:
    """The two most likely tokens of the draft, and below the first one its two."""
    del rng
    top = np.argsort(-language.q(()))[:2].tolist()
    deep = np.argsort(-language.q((top[0],)))[:2].tolist()
    return DraftTree.of([*top, *deep], [ROOT, ROOT, 0, 0])


def fit(rule: Rule, draft: Drafts, seed: int = 0, sampler: Sampler | None = None, samples: int = SAMPLES) -> Fit:
    """Texts of three tokens: what the rule gives, then plain draws, against their probabilities."""
    sampler = sampler or Sampler(1.0)
    language, rng = Language(seed), np.random.default_rng(seed)
    counts: Counter[tuple[int, ...]] = Counter()
    for _ in range(samples):
        tree = draft(language, rng)
        verdict = rule.judge(tree, lambda node, tree=tree: language.logits(tuple(tree.texts(node))), sampler, rng)
        text = [*tree.tokens[list(verdict.path)].tolist(), verdict.token]
        while len(text) < LENGTH:
            text.append(sampler.choose(language.logits(tuple(text)), rng))
        counts[tuple(text[:LENGTH])] += 1
    exact = {
        text: float(np.prod([language.p(text[:n], sampler)[text[n]] for n in range(LENGTH)]))
        for text in product(range(V), repeat=LENGTH)
    }
    return g_test(counts, exact)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("rule", "draft"),
    [
        (SpeculativeSampling(), sampled_tree((1, 1))),
        (WithoutReplacement(), sampled_tree((2, 2))),
        (WithoutReplacement(), sampled_tree((4,))),
        (Certain(), chosen_tree),
    ],
    ids=["speculative sampling", "two by two", "all four", "chosen"],
)
def test_texts_are_distributed_as_the_target_s(rule: Rule, draft: Drafts, seed: int) -> None:
    assert rule.exact == "distribution"
    assert g_test_passes(fit(rule, draft, seed))


def test_filters_of_the_sampler_are_kept() -> None:
    sampler = Sampler(0.7, top_k=3, min_p=0.05)
    assert g_test_passes(fit(WithoutReplacement(), sampled_tree((2, 1)), 2, sampler))
    assert g_test_passes(fit(Certain(), chosen_tree, 2, sampler))


@dataclass(frozen=True)
class Slow(Sampled):
    """Recursive rejection written once more, with faults to switch on."""

    fault: str = ""

    def step(
        self, p: np.ndarray, tree: DraftTree, node: int, random: np.random.Generator, trials: list[Trial]
    ) -> tuple[int | None, np.ndarray]:
        q = tree.q[node] if tree.q else None
        target = p.tolist()
        for child in tree.children[node]:
            x = int(tree.tokens[child])
            share = q.tolist() if q is not None else [float(n == x) for n in range(V)]
            odds = target[x] / share[x] if self.fault != "inverted" else share[x] / max(target[x], 1e-12)
            if random.random() < min(1.0, odds) or self.fault == "accepts all":
                return child, np.array(target)
            rest = [max(a - b, 0.0) for a, b in zip(target, share, strict=True)]
            if self.fault != "no residual" and sum(rest) > 0:
                target = [r / sum(rest) for r in rest]
            if q is not None and self.fault != "keeps x in q":
                q = np.array([0.0 if n == x else c for n, c in enumerate(q)])
                q = q / q.sum() if q.sum() > 0 else q
        return None, np.array(target)


def test_the_slow_reference_passes() -> None:
    assert g_test_passes(fit(Slow(), sampled_tree((2, 2))))
    assert g_test_passes(fit(Slow(), chosen_tree))


@pytest.mark.parametrize(
    ("fault", "draft"),
    [
        ("no residual", sampled_tree((1, 1))),
        ("no residual", sampled_tree((2, 2))),
        ("no residual", chosen_tree),
        ("keeps x in q", sampled_tree((3,))),
        ("inverted", sampled_tree((1, 1))),
        ("inverted", sampled_tree((2, 2))),
        ("accepts all", sampled_tree((1, 1))),
        ("accepts all", chosen_tree),
    ],
)
def test_broken_rules_are_caught(fault: str, draft: Drafts) -> None:
    assert fit(Slow(fault), draft).p_value < 1e-6


def test_typical_acceptance_is_not_lossless() -> None:
    assert Typical().exact == "nothing"
    assert not g_test_passes(fit(Typical(epsilon=0.3, delta=0.6), chosen_tree))


def test_a_token_is_accepted_as_often_as_p_and_q_overlap() -> None:
    language, rng = Language(5), np.random.default_rng(0)
    p, q = language.p((), Sampler(1.0)), language.q(())
    draws = 4000
    taken = sum(
        bool(
            SpeculativeSampling()
            .judge(sampled_tree((1,))(language, rng), lambda _: language.logits(()), Sampler(1.0), rng)
            .path
        )
        for _ in range(draws)
    )
    wanted = float(np.minimum(p, q).sum())
    assert abs(taken / draws - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / draws)


def test_greedy_says_what_the_most_likely_tokens_say() -> None:
    for seed in range(30):
        language, rng = Language(seed), np.random.default_rng(seed)
        tree = sampled_tree((3, 2, 2))(language, rng)
        verdict = Greedy().judge(tree, lambda n, t=tree, w=language: w.logits(tuple(t.texts(n))), Sampler(), rng)
        text: tuple[int, ...] = ()
        for node in (*verdict.path, None):
            token = int(language.logits(text).argmax())
            assert token == (verdict.token if node is None else tree.tokens[node])
            text = (*text, token)
        last = verdict.path[-1] if verdict.path else ROOT
        below = [int(tree.tokens[c]) for c in tree.children.get(last, ())]
        assert verdict.token not in below
        assert verdict.bonus == (not below)


def test_typical_takes_the_longest_path_that_passes() -> None:
    peaked = np.log(np.array([0.9, 0.06, 0.03, 0.01], np.float32))
    flat = np.zeros(4, np.float32)
    rule = Typical()
    p = np.exp(peaked.astype(np.float64))
    entropy = -(p * np.log(p)).sum()
    assert rule.threshold(p) == pytest.approx(min(0.09, 0.3 * np.exp(-entropy)))
    # 1 does not pass after a peak (0.06 < 0.09); after 0 everything passes (0.25 > 0.075)
    tree = DraftTree.of([1, 0, 3, 2], [ROOT, ROOT, 1, 2])
    verdict = rule.judge(tree, lambda n: peaked if n == ROOT else flat, Sampler(1.0), np.random.default_rng(0))
    assert verdict.path == (1, 2, 3)
    assert verdict.bonus
    assert [t.accepted for t in verdict.trials] == [False, True, True, True]


def test_wrong_trees_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ArgumentError, match="node -1 has 2 children"):
        SpeculativeSampling().judge(DraftTree.of([0, 1], [-1, -1]), lambda _: np.zeros(V), Sampler(1.0), rng)
    with pytest.raises(ArgumentError, match="no distribution for the children of node -1: use the rule Certain"):
        WithoutReplacement().judge(DraftTree.of([0]), lambda _: np.zeros(V), Sampler(1.0), rng)


def test_the_test_itself() -> None:
    """Right counts pass about as often as they should; an impossible outcome never does."""
    rng = np.random.default_rng(0)
    chances = dict(enumerate(rng.dirichlet(np.ones(12)).tolist()))
    values = []
    for _ in range(300):
        drawn = rng.multinomial(2000, list(chances.values()))
        values.append(g_test(dict(enumerate(drawn.tolist())), chances).p_value)
    assert 0.02 < np.mean(np.array(values) < 0.1) < 0.2
    assert g_test({"a": 1, "b": 99}, {"b": 1.0}).p_value == 0
    assert g_test({"b": 99}, {"b": 1.0}).p_value == 1
