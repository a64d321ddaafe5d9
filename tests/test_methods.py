"""The battery for every method, and what defines each weight method against slow references."""

import numpy as np
import pytest
import torch
from references import EPS, damped_hessian, inputs_of, lowest_of, obs_tolerance, sparsegpt, weight_of

import workbench
from workbench.models import LM
from workbench.prune import apply, registry
from workbench.prune.masks import Pattern, spread
from workbench.prune.random import Random
from workbench.prune.ria import RIA
from workbench.prune.sparsegpt import SparseGPT
from workbench.prune.statistics import SiteStatistics
from workbench.testing import CheckFailed, check_method, tiny_lm, tiny_tokens

TOKENS = tiny_tokens()
WEIGHTS = sorted(n for n, c in registry().items() if c.family == "weights")


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
@pytest.mark.parametrize("name", sorted(registry()))
def test_battery(name, family):
    check_method(name, tiny_lm(family), TOKENS)


def test_the_battery_can_fail(monkeypatch):
    """A method that writes into its input is caught."""

    def score(self, weight, inputs):
        weight[0, 0] += 1
        return weight.abs()

    monkeypatch.setattr(registry()["magnitude"], "score", score)
    with pytest.raises(CheckFailed, match="magnitude: the input model was changed"):
        check_method("magnitude", tiny_lm(), TOKENS)


def pruned_positions(pruned, layer, name):
    weight = weight_of(pruned.lm, layer, name)
    return set(np.flatnonzero(weight == 0).tolist())


def expected_mask(scores, count, compare):
    """Flat positions of what goes, by a full sort of the matrix or of every row."""
    if compare == "matrix":
        return lowest_of(scores, count)
    counts = spread(count, scores.shape[0]).tolist()
    return {r * scores.shape[1] + c for r, n in enumerate(counts) for c in lowest_of(scores[r], n)}


def reference_scores(name, W, X):
    """Published formulas, token by token."""
    size = np.abs(W)
    norm = np.zeros(X.shape[1])
    for x in X:
        norm += x**2
    norm = np.sqrt(norm)
    return {
        "magnitude": lambda: size,
        "wanda": lambda: size * norm,
        "ria": lambda: (size / size.sum(0) + size / size.sum(1, keepdims=True)) * norm**0.5,
    }[name]()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize(("name", "compare"), [("magnitude", "matrix"), ("wanda", "row"), ("ria", "matrix")])
def test_masks_by_hand(name, compare, family):
    """The dense model's scores: what goes is what a full sort of the formula says."""
    lm = tiny_lm(family)
    pruned = workbench.prune(lm, name, 0.5, calibration=TOKENS, propagate=False)
    inputs = inputs_of(lm, TOKENS)
    for (layer, linear), X in inputs.items():
        W = weight_of(lm, layer, linear)
        gone = pruned_positions(pruned, layer, linear)
        assert gone == expected_mask(reference_scores(name, W, X), len(gone), compare), (layer, linear)
        kept = weight_of(pruned.lm, layer, linear).flat
        assert all(kept[i] == W.flat[i] for i in range(W.size) if i not in gone)


@pytest.mark.parametrize(("name", "compare"), [("wanda", "row"), ("ria", "matrix")])
def test_a_layer_is_scored_on_what_the_pruned_ones_put_out(name, compare):
    """By the paper: every layer sees the pruned layers before it; the reference runs the whole model each time."""
    lm = tiny_lm()
    pruned = workbench.prune(lm, name, 0.5, calibration=TOKENS)
    step = LM(apply.shared_copy(lm.module), None, "reference")
    for layer in range(4):
        inputs = inputs_of(step, TOKENS)
        for linear, module in step.architecture.linears(layer).items():
            W, gone = weight_of(lm, layer, linear), pruned_positions(pruned, layer, linear)
            scores = reference_scores(name, W, inputs[layer, linear])
            assert gone == expected_mask(scores, len(gone), compare), (layer, linear)
            new = W.copy().flatten()
            new[sorted(gone)] = 0
            apply.set_matrix(module, torch.from_numpy(new.reshape(W.shape)))


def test_propagation_matters():
    """Else the test above could not tell."""
    lm = tiny_lm()
    one, other = (workbench.prune(lm, "wanda", 0.5, calibration=TOKENS, propagate=p) for p in (True, False))
    assert pruned_positions(one, 0, "q_proj") == pruned_positions(other, 0, "q_proj")
    assert pruned_positions(one, 3, "down_proj") != pruned_positions(other, 3, "down_proj")


def test_ria_exponent():
    W, square = torch.randn(5, 7), torch.rand(7)
    got = RIA(a=2.0).score(W, SiteStatistics(square=square))
    size = W.double().abs()
    want = (size / size.sum(0) + size / size.sum(1, keepdim=True)) * square.double()
    assert torch.allclose(got.double(), want, rtol=20 * EPS)


def correlated(tokens=400, width=48, rank=6, seed=0):
    """Inputs that depend on few factors, and a weight ``[24, width]``."""
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(tokens, rank, generator=generator) @ torch.randn(rank, width, generator=generator)
    X = factors + 0.3 * torch.randn(tokens, width, generator=generator)
    return X, torch.randn(24, width, generator=generator)


def statistics_of(X):
    return SiteStatistics(square=X.square().mean(0), gram=X.T @ X / len(X))


@pytest.mark.parametrize("block", [8, 16, 128])
@pytest.mark.parametrize("form", ["unstructured", "2:4", "1:8"])
def test_sparsegpt_is_the_published_algorithm(form, block):
    X, W = correlated()
    pattern = Pattern.parse(None if form == "unstructured" else form)
    got, mask = SparseGPT(block=block).solver(statistics_of(X))(W, 577, pattern)
    options = {"nm": (pattern.keep, pattern.of)} if pattern.is_nm else {"count": 577}
    want, wanted_mask = sparsegpt(W.numpy(), X.numpy(), block=block, **options)
    assert np.array_equal(mask.numpy(), wanted_mask)
    assert int(mask.sum()) == (577 if not pattern.is_nm else W.numel() * (pattern.of - pattern.keep) // pattern.of)
    assert bool((got[mask] == 0).all())
    assert np.abs(got.numpy() - want).max() <= obs_tolerance(W.numpy(), damped_hessian(X.double().numpy(), 0.01))


def test_sparsegpt_on_a_model():
    lm = tiny_lm()
    pruned = workbench.prune(lm, SparseGPT(block=16), 0.5, calibration=TOKENS, propagate=False)
    inputs = inputs_of(lm, TOKENS)
    for linear in lm.architecture.linear_names:
        W, X = weight_of(lm, 0, linear), inputs[0, linear]
        got = weight_of(pruned.lm, 0, linear)
        want, mask = sparsegpt(W, X, block=16, count=int((got == 0).sum()))
        assert np.array_equal(got == 0, mask), linear
        assert np.abs(got - want).max() <= obs_tolerance(W, damped_hessian(X, 0.01)), linear


@pytest.mark.parametrize("form", [None, "2:4"])
def test_sparsegpt_leaves_less_error_than_wanda(form):
    """On correlated inputs the weights that stay can make up for those that go."""
    X, W = correlated()
    pattern, statistics = Pattern.parse(form), statistics_of(X)
    count = W.numel() // 2
    ours, _ = SparseGPT().solver(statistics)(W, count, pattern)
    from workbench.prune.masks import select

    wanda = W.masked_fill(select(registry()["wanda"]().score(W, statistics), count, pattern, "row"), 0.0)
    errors = [float((X @ (W - w).T).square().sum()) for w in (ours, wanda)]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("damp", [0.0, 0.01])
def test_inputs_that_are_always_zero_go_first_in_sparsegpt(damp):
    """Nothing depends on their weights: as in the published code none survives while a live one goes."""
    X, W = correlated()
    X, dead = 0.01 * X, [3, 17, 30, 31]
    X[:, dead] = 0
    statistics = statistics_of(X)
    alone, mask = SparseGPT(damp=damp).solver(statistics)(W, 24 * 4, Pattern())
    assert set(mask.nonzero()[:, 1].tolist()) == set(dead)
    assert torch.equal(alone[~mask], W[~mask])
    live = [j for j in range(48) if j not in dead]
    got, mask = SparseGPT(damp=damp).solver(statistics)(W, 24 * 24, Pattern())
    assert bool(mask[:, dead].all())
    assert int(mask[:, live].sum()) == 24 * 20
    assert torch.isfinite(got).all()


def test_random_is_seeded():
    lm = tiny_lm()

    def positions(seed):
        pruned = workbench.prune(lm, Random(seed=seed), 0.5)
        return [pruned_positions(pruned, i, n) for i in range(4) for n in ("q_proj", "o_proj")]

    assert positions(1) == positions(1)
    one, other = positions(1), positions(2)
    assert all(a != b for a, b in zip(one, other, strict=True))
    assert len({frozenset(p) for p in one}) == len(one)  # equal shapes, other numbers


def test_random_is_uniform():
    """Scores of 100,000 weights: their mean lies within five standard errors of one half."""
    scores = Random().score(torch.randn(250, 400, generator=torch.Generator().manual_seed(0)), None)
    assert abs(float(scores.mean()) - 0.5) < 5 * (1 / 12 / scores.numel()) ** 0.5
    assert 0 <= float(scores.min()) < float(scores.max()) < 1


@pytest.mark.parametrize("name", WEIGHTS)
def test_weight_methods_score_on_no_less_than_zero(name):
    """Ranking over the model sorts the bits of scores: none may be negative."""
    X, W = correlated()
    scores = registry()[name]().score(W, statistics_of(X))
    assert scores.shape == W.shape
    assert float(scores.min()) >= 0
