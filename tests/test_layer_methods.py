"""What defines each method for whole layers, against the full model with that layer really gone."""

import copy

import numpy as np
import pytest
import torch
from references import EPS, gradients_of, mean_losses, streams_of

import workbench
from workbench.jobs import Progress
from workbench.prune import apply
from workbench.prune._method import ModelView
from workbench.prune.shortened_llama import ShortenedLlama
from workbench.prune.shortgpt import ShortGPT
from workbench.prune.statistics import collect
from workbench.testing import tiny_lm, tiny_tokens

TOKENS = tiny_tokens()
LOOSE = 500 * EPS
FAMILIES = ["llama", "gpt2", "phi3", "gemma2", "opt", "gpt_neox"]


def scores(method, lm, tokens=TOKENS):
    found = collect(lm.architecture, tokens, method.needs, fingerprint=lm.fingerprint) if method.needs else None
    return method.score(ModelView(lm.architecture, tokens, found, Progress()))


@pytest.mark.parametrize("family", FAMILIES)
def test_perplexity_without_each_layer(family):
    lm = tiny_lm(family)
    got = scores(ShortenedLlama(), lm)
    for layer in range(4):
        module = copy.deepcopy(lm.module)
        apply.remove_layers(workbench.wrap(module).architecture, [layer])
        with torch.no_grad():
            want = float(mean_losses(module, TOKENS).double().mean())
        assert abs(float(got[layer]) - want) <= LOOSE * want


def test_perplexity_over_uneven_batches(monkeypatch):
    """The mean is over tokens, however the sequences fall into batches."""
    from workbench.prune import _runner

    lm, whole = tiny_lm(), scores(ShortenedLlama(), tiny_lm())
    monkeypatch.setattr(_runner, "BATCH_TOKENS", 48)  # 6 sequences of 12: batches of 4 and 2
    assert torch.allclose(scores(ShortenedLlama(), lm), whole, rtol=LOOSE)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_taylor_is_plain_autograd(family):
    lm = tiny_lm(family)
    got = scores(ShortenedLlama(criterion="taylor"), lm)
    gradients, weights = gradients_of(lm, TOKENS), dict(lm.module.named_parameters())
    prefix = lm.architecture.family.layers
    for layer in range(4):
        own = [n for n in weights if n.startswith(f"{prefix}.{layer}.")]
        want = sum(float((weights[n].detach() * gradients[n]).double().abs().sum()) for n in own)
        assert abs(float(got[layer]) - want) <= 20 * LOOSE * want


@pytest.mark.parametrize("family", FAMILIES)
def test_block_influence(family):
    lm = tiny_lm(family)
    cosines, angles = [], []
    for came, went in streams_of(lm, TOKENS):
        one = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(came, went, strict=True)]
        cosines.append(1 - np.mean(one))
        angles.append(np.mean(np.arccos(one)) / np.pi)
    assert np.allclose(scores(ShortGPT(), lm).numpy(), cosines, atol=LOOSE)
    assert np.allclose(scores(ShortGPT(criterion="angular"), lm).numpy(), angles, atol=LOOSE)


def test_block_influence_of_the_last_layer_is_before_the_final_norm():
    """transformers' last hidden state is behind the norm: taking it gives another number."""
    lm = tiny_lm()
    with torch.no_grad():
        states = lm.module(torch.from_numpy(TOKENS.ids), use_cache=False, output_hidden_states=True).hidden_states
    wrong = 1 - float(torch.cosine_similarity(states[-2], states[-1], dim=-1).mean())
    right = float(scores(ShortGPT(), lm)[-1])
    assert abs(right - wrong) > 1e-3


@pytest.mark.parametrize("method", [ShortGPT(), ShortenedLlama(), ShortenedLlama(criterion="taylor")])
def test_the_lowest_go(method):
    lm = tiny_lm()
    order = scores(method, lm).argsort().tolist()
    for count in (1, 2, 3):
        share = count * lm.architecture.layer_parameters(0) / lm.architecture.parameters()
        pruned = workbench.prune(lm, method, share, calibration=TOKENS)
        assert pruned.recipe.removed_layers == tuple(sorted(order[:count]))
        stay = [i for i in range(4) if i not in order[:count]]
        for new, old in enumerate(stay):
            kept, before = (h.architecture.layers[i].state_dict() for h, i in ((pruned.lm, new), (lm, old)))
            assert all(torch.equal(kept[n], before[n]) for n in before)


def test_taylor_plus_keeps_the_ends():
    lm = tiny_lm(num_hidden_layers=12)
    taylor = ShortenedLlama(criterion="taylor")
    assert taylor.protected(12) == {0, 1, 2, 3, 10, 11}
    assert ShortenedLlama().protected(12) == frozenset()
    share = 6 * lm.architecture.layer_parameters(0) / lm.architecture.parameters()
    assert workbench.prune(lm, taylor, share, calibration=TOKENS).recipe.removed_layers == (4, 5, 6, 7, 8, 9)
    with pytest.raises(workbench.errors.ArgumentError, match="the 6 layers that may go hold"):
        workbench.prune(lm, taylor, 0.8, calibration=TOKENS)
