"""What defines each method for channels, against formulas written out here."""

import numpy as np
import pytest
import torch
from references import EPS, gradients_of, inputs_of, mean_losses, weight_of

import workbench
from workbench.prune import registry
from workbench.prune._method import LayerView
from workbench.prune.flap import FLAP
from workbench.prune.llm_pruner import LLMPruner
from workbench.prune.statistics import collect
from workbench.prune.wanda_sp import WandaSP
from workbench.testing import tiny_lm, tiny_tokens

TOKENS = tiny_tokens()
OUTPUTS = {"llama": ("o_proj", "down_proj"), "phi3": ("o_proj", "down_proj"), "gpt2": ("attn.c_proj", "mlp.c_proj")}
LOOSE = 500 * EPS  # two float32 forward passes of the same model, a few hundred roundings apart


def view(lm, method, layer=1, tokens=TOKENS):
    statistics = collect(lm.architecture, tokens, method.needs, fingerprint=lm.fingerprint)
    return LayerView(lm.architecture, layer, statistics.layer(layer))


def by_unit(values, kind, heads_per_group=2, head_dim=4):
    """Numbers of the output's inputs as units: one each, or all of a group's query heads together."""
    return values[:, None] if kind == "neuron" else values.reshape(-1, heads_per_group * head_dim)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("kind", ["kv_group", "neuron"])
@pytest.mark.parametrize("metric", ["WIFV", "IFV", "WIFN"])
def test_flap_scores(metric, kind, family):
    lm = tiny_lm(family)
    name = OUTPUTS[family][kind == "neuron"]
    X, W = inputs_of(lm, TOKENS)[1, name], weight_of(lm, 1, name)
    want = {
        "WIFV": np.var(X, axis=0) * (W**2).sum(0),
        "IFV": np.var(X, axis=0),
        "WIFN": np.abs(W).mean(0) * np.sqrt((X**2).mean(0)),
    }[metric]
    for square in (True, False):
        method = FLAP(metric=metric, square_attention=square)
        got = method.score(view(lm, method), kind).double().numpy()
        power = 2 if square and kind == "kv_group" else 1
        groups = 2 if family == "llama" else 1
        assert np.allclose(got, by_unit(want**power, kind, groups), rtol=LOOSE)


def test_flap_recovers_a_constant_channel():
    """Inputs that never change lose nothing: bias compensation puts back exactly what they gave."""
    lm = tiny_lm("opt")
    for layer in lm.architecture.layers:  # ReLU(bias) whatever the input: those neurons are constant
        layer.fc1.weight.data[:12] = 0
        layer.fc1.bias.data[:12] = torch.rand(12, generator=torch.Generator().manual_seed(0)) + 0.5
        layer.fc2.weight.data[:, :12] *= 10  # and important: whoever looks at sizes keeps them
    share = 4 * 12 * lm.architecture.unit_parameters("neuron", 0) / lm.architecture.parameters()
    options = {"units": "neuron", "allocation": "uniform", "calibration": TOKENS}
    pruned = workbench.prune(lm, "flap", share, **options)
    assert all(tuple(r["neuron"]) == tuple(range(12)) for r in pruned.recipe.removed)
    ids = torch.from_numpy(tiny_tokens(seed=5).ids)
    with torch.no_grad():
        dense, ours = (m.module(ids, use_cache=False).logits for m in (lm, pruned.lm))
        bare = workbench.prune(lm, "flap", share, repair="none", **options).lm.module(ids, use_cache=False).logits
    scale = float(dense.abs().max())
    assert float((ours - dense).abs().max()) <= LOOSE * scale
    assert float((bare - dense).abs().max()) > 0.1 * scale


@pytest.mark.parametrize("kind", ["kv_group", "neuron"])
@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2"])
def test_wanda_sp_scores(family, kind):
    lm = tiny_lm(family)
    name = OUTPUTS[family][kind == "neuron"]
    X, W = inputs_of(lm, TOKENS)[1, name], weight_of(lm, 1, name)
    want = np.abs(W).mean(0) * np.sqrt((X**2).sum(0) / len(X))
    got = WandaSP().score(view(lm, WandaSP()), kind).double().numpy()
    assert np.allclose(got, by_unit(want, kind, 1 if family == "gpt2" else 2), rtol=LOOSE)


def test_wanda_sp_removes_the_lowest_of_the_pruned_stream():
    """Each layer is scored behind the pruned layers before it."""
    lm = tiny_lm()
    pruned = workbench.prune(lm, "wanda-sp", 0.3, calibration=TOKENS, apply="zero")
    step = workbench.prune(lm, "wanda-sp", 0.0, calibration=TOKENS).lm
    for layer in range(4):
        inputs = inputs_of(step, TOKENS)
        for kind, name in (("kv_group", "o_proj"), ("neuron", "down_proj")):
            X, W = inputs[layer, name], weight_of(lm, layer, name)
            scores = by_unit(np.abs(W).mean(0) * np.sqrt((X**2).mean(0)), kind).mean(1)
            gone = pruned.recipe.removed[layer][kind]
            assert gone == tuple(sorted(np.argsort(scores)[: len(gone)].tolist()))
        done = workbench.prune(lm, "wanda-sp", 0.3, calibration=TOKENS, apply="zero").lm.architecture.layers[layer]
        step.architecture.layers[layer].load_state_dict(done.state_dict())


def rows_of(family, kind, unit):
    """What a unit is, written out for 8 query heads of 4, 48 neurons: (name, axis, positions)."""
    wide = lambda start, width: list(range(start, start + width))  # noqa: E731
    if kind == "neuron":
        if family == "phi3":
            return [("mlp.gate_up_proj", 0, [unit, 48 + unit]), ("mlp.down_proj", 1, [unit])]
        return [(f"mlp.{n}_proj", a, [unit]) for n, a in (("gate", 0), ("up", 0), ("down", 1))]
    query, key = wide(8 * unit, 8), wide(4 * unit, 4)  # query heads 2u and 2u + 1 read KV head u
    out = ("self_attn.o_proj", 1, query)
    if family == "phi3":
        return [("self_attn.qkv_proj", 0, query + wide(32 + 4 * unit, 4) + wide(48 + 4 * unit, 4)), out]
    return [("self_attn.q_proj", 0, query), ("self_attn.k_proj", 0, key), ("self_attn.v_proj", 0, key), out]


@pytest.mark.parametrize("salience", ["element", "vector"])
@pytest.mark.parametrize("kind", ["kv_group", "neuron"])
@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_llm_pruner_is_taylor_by_plain_autograd(family, kind, salience):
    lm = tiny_lm(family)
    method = LLMPruner(salience=salience)
    gradients = gradients_of(lm, TOKENS)
    got = method.score(view(lm, method), kind)
    units = 48 if kind == "neuron" else 4
    assert got.shape == (units, 1)
    weights = dict(lm.module.named_parameters())
    for unit in range(units):
        terms = []
        for path, axis, where in rows_of(family, kind, unit):
            name = f"model.layers.1.{path}.weight"
            product = (weights[name].detach() * gradients[name]).double()
            terms.append((product[where] if axis == 0 else product[:, where]).flatten())
        terms = torch.cat(terms)
        want = float(terms.abs().sum() if salience == "element" else terms.sum().abs())
        assert abs(float(got[unit, 0]) - want) <= LOOSE * 10 * float(terms.abs().sum())


def test_llm_pruner_reads_so_many_samples():
    lm = tiny_lm()
    few = workbench.data.Tokens.of(TOKENS.ids[:2], name="two")
    one = workbench.prune(lm, LLMPruner(samples=2), 0.3, calibration=TOKENS).recipe.removed
    assert one == workbench.prune(lm, LLMPruner(samples=9), 0.3, calibration=few).recipe.removed
    assert one != workbench.prune(lm, LLMPruner(samples=6), 0.3, calibration=TOKENS).recipe.removed


def test_the_reference_loss_is_transformers_own():
    lm = tiny_lm()
    ids = torch.from_numpy(TOKENS.ids)
    with torch.no_grad():
        ours = mean_losses(lm.module, TOKENS).mean()
        theirs = lm.module(ids, labels=ids, use_cache=False).loss
    assert abs(float(ours - theirs)) < 1e-5


@pytest.mark.parametrize("name", ["flap", "wanda-sp", "llm-pruner"])
@pytest.mark.parametrize("units", ["neuron", "kv_group", ("kv_group", "neuron")])
def test_only_the_units_asked_for_go(name, units):
    pruned = workbench.prune(tiny_lm(), name, 0.4 if len(units) == 2 else 0.15, units=units, calibration=TOKENS)
    asked = {units} if isinstance(units, str) else set(units)
    gone = {k for r in pruned.recipe.removed for k, v in r.items() if v}
    assert gone == asked


@pytest.mark.parametrize("name", sorted(n for n, c in registry().items() if c.family == "channels"))
def test_repairs_that_add_biases_are_paid_for(name):
    """The budget is of true parameters: what bias compensation adds, units pay for."""
    lm = tiny_lm()
    report = workbench.prune(lm, name, 0.3, repair="bias", calibration=TOKENS).report
    neuron = lm.architecture.unit_parameters("neuron", 0)
    assert report.parameters_before - report.parameters_after == report.removed
    layers = 4 if registry()[name].allocation == "uniform" else 1  # to within half a neuron each, or in all
    assert abs(report.removed - 0.3 * report.base) <= layers * neuron / 2


def test_gqa_matters():
    """Scores of groups differ between a right and a wrong crediting of query heads."""
    lm = tiny_lm()
    scores = WandaSP().score(view(lm, WandaSP()), "kv_group")
    X, W = inputs_of(lm, TOKENS)[1, "o_proj"], weight_of(lm, 1, "o_proj")
    channels = np.abs(W).mean(0) * np.sqrt((X**2).mean(0))
    wrong = channels.reshape(2, 4, 4).transpose(1, 0, 2).reshape(4, 8)  # heads u and u + 4 to group u
    assert not np.allclose(scores.numpy(), wrong, rtol=1e-2)
