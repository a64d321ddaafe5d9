"""What happens to the weights that stay."""

import numpy as np
import pytest
import torch
from references import EPS, damped_hessian, inputs_of, obs_tolerance, sparsegpt, weight_of

import workbench
from workbench.errors import ArgumentError, ModelError
from workbench.prune.repair import REPAIRS, BiasCompensation, LeastSquares, NoRepair, SparseGPTUpdate
from workbench.prune.statistics import SiteStatistics
from workbench.testing import logits, tiny_lm, tiny_tokens

TOKENS = tiny_tokens()


def case(tokens=500, width=24, out=10, seed=0, offset=0.0):
    """Correlated inputs ``[tokens, width]``, a weight, a mask by rows and one by columns."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator)
    X = torch.randn(tokens, width, generator=generator) @ mix + offset
    W = torch.randn(out, width, generator=generator)
    ragged = torch.rand(out, width, generator=generator) < 0.5
    columns = (torch.rand(width, generator=generator) < 0.4).expand(out, -1)
    return X, W, ragged, columns


def statistics_of(X):
    x = X.double()
    return SiteStatistics(
        square=x.square().mean(0).float(), mean=x.mean(0).float(), variance=x.var(0, correction=0).float(),
        gram=(x.T @ x / len(x)).float(),
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(REPAIRS))
@pytest.mark.parametrize("which", [2, 3])
def test_what_is_pruned_is_zero(name, which):
    given = case()
    weight, before, mask = given[1], given[1].clone(), given[which]
    new, _ = REPAIRS[name]().fix(weight, mask, statistics_of(given[0]))
    assert bool((new[mask] == 0).all())
    assert torch.equal(weight, before)
    nothing, _ = REPAIRS[name]().fix(weight, torch.zeros_like(mask), statistics_of(given[0]))
    assert torch.allclose(nothing, weight, atol=1e-4)


def test_none_changes_nothing_else():
    _, W, mask, _ = case()
    new, bias = NoRepair().fix(W, mask, None)
    assert bias is None
    assert torch.equal(new, torch.where(mask, 0.0, W))


@pytest.mark.parametrize("which", [2, 3])
def test_bias_is_exact_for_inputs_that_never_change(which):
    given = case(offset=3.0)
    W, mask = given[1], given[which]
    row = given[0][:1].expand(50, -1)
    new, bias = BiasCompensation().fix(W, mask, statistics_of(row))
    bound = 24 * EPS * float((W.abs() @ row[0].abs()).max()) * 2
    assert float((row @ new.T + bias - row @ W.T).abs().max()) <= bound


def test_bias_is_the_mean_of_what_is_lost():
    """Over the calibration inputs the mean output stays what it was."""
    X, W, mask, _ = case(offset=1.0)
    new, bias = BiasCompensation().fix(W, mask, statistics_of(X))
    gap = (X.double() @ new.double().T + bias.double() - X.double() @ W.double().T).mean(0)
    assert float(gap.abs().max()) <= 24 * EPS * float((W.abs() @ X.abs().mean(0)).max()) * 2


def error(X, W, new):
    return (X.double() @ (W.double() - new.double()).T).square().sum(0)


@pytest.mark.parametrize("which", [2, 3], ids=["rows", "columns"])
def test_least_squares_is_the_minimiser(which):
    """Against lstsq on the raw activations, row by row; and whichever way one moves it gets worse."""
    given = case()
    X, W, mask = given[0], given[1], given[which]
    new, bias = LeastSquares(damp=0.0).fix(W, mask, statistics_of(X))
    assert bias is None
    condition = float(torch.linalg.cond(X.double())) ** 2
    for row in range(len(W)):
        keep = ~mask[row]
        want = torch.linalg.lstsq(X[:, keep].double(), X.double() @ W[row].double()).solution
        assert float((new[row, keep].double() - want).abs().max()) <= 24 * EPS * condition * float(W.abs().max())
    best = error(X, W, new)
    assert bool((best < error(X, W, W.masked_fill(mask, 0.0))).all())
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        step = 0.05 * torch.randn(W.shape, generator=generator).masked_fill(mask, 0.0)
        assert bool((error(X, W, new + step) > best).all())
        assert bool((error(X, W, new - step) > best).all())


def test_damp_pulls_towards_the_old_weights():
    X, W, mask, _ = case()
    gaps = [float((LeastSquares(damp=d).fix(W, mask, statistics_of(X))[0] - W)[~mask].norm()) for d in (0.0, 0.1, 1e4)]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.01 * gaps[0]


@pytest.mark.parametrize("which", [2, 3], ids=["rows", "columns"])
def test_sparsegpt_update_of_a_given_mask(which):
    given = case()
    X, W, mask = given[0].numpy(), given[1].numpy(), given[which].numpy()
    new, _ = SparseGPTUpdate().fix(given[1], given[which], statistics_of(given[0]))
    want, kept_mask = sparsegpt(W, X, mask=mask)
    assert np.array_equal(kept_mask, mask)
    assert np.abs(new.numpy() - want).max() <= obs_tolerance(W, damped_hessian(X.astype(np.float64), 0.01))


def test_the_update_crosses_blocks():
    """300 columns are three blocks: what one leaves, the next ones take up."""
    X, W, mask, _ = case(tokens=900, width=300, out=4)
    new, _ = SparseGPTUpdate().fix(W, mask, statistics_of(X))
    want, _ = sparsegpt(W.numpy(), X.numpy(), mask=mask.numpy())
    tolerance = obs_tolerance(W.numpy(), damped_hessian(X.double().numpy(), 0.01))
    assert tolerance < 0.1
    assert np.abs(new.numpy() - want).max() <= tolerance


def test_repairs_in_order_of_error():
    """Least squares beats the left-to-right sweep, which beats doing nothing."""
    X, W, mask, _ = case()
    found = statistics_of(X)
    errors = [
        float(error(X, W, REPAIRS[n]().fix(W, mask, found)[0]).sum()) for n in ("least_squares", "sparsegpt", "none")
    ]
    assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("repair", ["least_squares", "sparsegpt"])
def test_repair_on_a_model(repair):
    """With magnitude's mask, not propagated: the output of every linear is nearer than without repair."""
    lm = tiny_lm()
    options = {"calibration": TOKENS, "propagate": False}
    bare, fixed = (workbench.prune(lm, "magnitude", 0.5, repair=r, **options) for r in ("none", repair))
    for (layer, name), X in inputs_of(lm, TOKENS).items():
        W, one, other = (weight_of(m, layer, name) for m in (lm, bare.lm, fixed.lm))
        assert np.array_equal(one == 0, other == 0)
        assert np.square(X @ (W - other).T).sum() < np.square(X @ (W - one).T).sum()


@pytest.mark.parametrize("name", sorted(REPAIRS))
def test_every_repair_after_removing_units(name):
    """Removed or set to zero, the repaired model is the same."""
    lm = tiny_lm()
    options = {"repair": name, "calibration": TOKENS}
    removed, masked = (workbench.prune(lm, "wanda-sp", 0.3, apply=a, **options) for a in ("remove", "zero"))
    assert float((logits(removed.lm) - logits(masked.lm)).abs().max()) <= 1e-4


def test_bias_on_a_model_without_biases():
    lm = tiny_lm()
    pruned = workbench.prune(lm, "magnitude", 0.3, repair="bias", calibration=TOKENS, propagate=False)
    for (layer, name), X in inputs_of(lm, TOKENS).items():
        W, new = weight_of(lm, layer, name), weight_of(pruned.lm, layer, name)
        bias = pruned.lm.architecture.linears(layer)[name].bias.detach().double().numpy()
        assert np.allclose(bias, (W - new) @ X.mean(0), atol=500 * EPS * np.abs(W @ np.abs(X).mean(0)).max())
    assert pruned.report.removed < 0  # what the repair added


def test_too_little_data():
    X, W, mask, columns = case(tokens=3)
    for which in (mask, columns):
        with pytest.raises(ModelError, match="Gram matrix is singular: use more calibration text or a larger damp"):
            LeastSquares(damp=0.0).fix(W, which, SiteStatistics(gram=torch.zeros(24, 24)))
    new, _ = LeastSquares().fix(W, mask, statistics_of(X))
    assert torch.isfinite(new).all()


def test_messages():
    _, W, mask, _ = case()
    for name in ("bias", "least_squares"):
        with pytest.raises(ArgumentError, match=f"repair='{name}' needs statistics of the inputs: pass calibration"):
            REPAIRS[name]().fix(W, mask, None)
    with pytest.raises(ArgumentError, match="the statistic 'gram' was not collected"):
        LeastSquares().fix(W, mask, SiteStatistics())
    with pytest.raises(ArgumentError, match="unknown repair 'least-squares': did you mean 'least_squares'"):
        workbench.prune(tiny_lm(), "magnitude", 0.5, repair="least-squares")
