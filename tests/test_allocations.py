"""How a budget is shared out: met to the unit, and each rule against brute force."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import inputs_of, weight_of

import workbench
from workbench.errors import ArgumentError
from workbench.prune._ranking import Entry, take
from workbench.prune.allocations import ALLOCATIONS, Plan, Standardised, resolve_allocation
from workbench.prune.owl import OWL
from workbench.prune.statistics import collect
from workbench.testing import tiny_lm, tiny_tokens

SETTINGS = settings(max_examples=40, deadline=None)
TOKENS = tiny_tokens()
LM = tiny_lm()
ARCH = LM.architecture
RAGGED = workbench.prune(LM, "flap", 0.2, calibration=TOKENS).lm.architecture
KINDS = [("neuron",), ("kv_group",), ("neuron", "kv_group")]


def plan_of(arch, sparsity, kinds=(), protected=frozenset(), of="non-embedding"):
    if not kinds:
        size = sum(m.weight.numel() for i in range(arch.num_layers) for m in arch.linears(i).values())
        return Plan(arch, round(sparsity * size), (), protected, collected(arch))
    return Plan(arch, round(sparsity * arch.parameters(of)), kinds, protected, collected(arch))


def collected(arch):
    return collect(arch, TOKENS, {"norm"}, fingerprint=workbench.wrap(arch.module).fingerprint)


def scores_of(arch, kinds, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        {k: torch.rand(arch.units(k, i), 3, generator=generator) * (1 + i) for k in kinds}
        for i in range(arch.num_layers)
    ]


def cost_of(arch, removed):
    return sum(len(u) * arch.unit_parameters(k, i) for i, kinds in enumerate(removed) for k, u in kinds.items())


@pytest.mark.parametrize("arch", [ARCH, RAGGED], ids=["even", "ragged"])
@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("name", sorted(ALLOCATIONS))
@SETTINGS
@given(sparsity=st.floats(0, 0.6), seed=st.integers(0, 5), protect=st.booleans())
def test_budgets_of_units(name, kinds, arch, sparsity, seed, protect):
    protected = frozenset({0, 3}) if protect else frozenset()
    try:
        plan = plan_of(arch, sparsity, kinds, protected)
    except ArgumentError:  # out of reach for these kinds: the exact bound is tested below
        return
    removed = resolve_allocation(name).units(plan, scores_of(arch, kinds, seed))
    assert len(removed) == 4
    for i, gone in enumerate(removed):
        assert i not in protected or not sum(len(u) for u in gone.values())
        for kind, units in gone.items():
            assert len(set(units.tolist())) == len(units) < arch.units(kind, i)
            assert units.tolist() == sorted(units.tolist())
    cheapest = max(min(plan.cost(k, i) for k in kinds) for i in plan.layers)
    miss = abs(cost_of(arch, removed) - plan.budget)
    alike = len({plan.size(i) for i in plan.layers}) == 1 and not protect
    uniform = name == "uniform" and alike  # every layer the same: half a unit in each
    assert miss <= cheapest / 2 * (4 if uniform else 1) + 1, (miss, cheapest)


@pytest.mark.parametrize("name", ["uniform", "global", "owl"])
@settings(max_examples=15, deadline=None)
@given(sparsity=st.floats(0, 0.99))
def test_budgets_of_weights(name, sparsity):
    plan = plan_of(ARCH, sparsity)
    counts = resolve_allocation(name).weights(plan, lambda i, p: ARCH.linear(i, p).weight.detach().abs())
    assert sum(counts.values()) == plan.budget
    for (layer, path), count in counts.items():
        assert 0 <= count <= ARCH.linear(layer, path).weight.numel()


@SETTINGS
@given(sparsity=st.floats(0, 0.8))
def test_uniform_is_equal_everywhere(sparsity):
    plan = plan_of(ARCH, sparsity, ("neuron", "kv_group"))
    removed = resolve_allocation("uniform").units(plan, scores_of(ARCH, ("neuron", "kv_group")))
    counts = [{k: len(u) for k, u in gone.items()} for gone in removed]
    assert all(c == counts[0] for c in counts)
    weights = resolve_allocation("uniform").weights(plan_of(ARCH, sparsity), None)
    shares = [n / ARCH.linear(i, p).weight.numel() for (i, p), n in weights.items()]
    smallest = min(ARCH.linear(0, p).weight.numel() for p in ARCH.linear_paths)
    assert max(shares) - min(shares) <= 2 / smallest


@pytest.mark.parametrize("name", ["magnitude", "wanda"])
def test_global_is_one_sort_of_everything(name):
    pruned = workbench.prune(LM, name, 0.5, allocation="global", calibration=TOKENS, propagate=False)
    inputs = inputs_of(LM, TOKENS)
    scores, gone = [], []
    for layer, linear in itertools.product(range(4), ARCH.linear_names):
        W = np.abs(weight_of(LM, layer, linear))
        scores.append((W * np.sqrt((inputs[layer, linear] ** 2).mean(0)) if name == "wanda" else W).flatten())
        gone.append(weight_of(pruned.lm, layer, linear).flatten() == 0)
    scores, gone = np.concatenate(scores), np.concatenate(gone)
    wanted = np.zeros(len(scores), bool)
    wanted[np.argsort(scores)[: round(0.5 * ARCH.parameters())]] = True
    assert np.array_equal(gone, wanted)


def test_global_ranks_each_kind_of_unit_by_itself():
    scores = scores_of(ARCH, ("neuron", "kv_group"))
    plan = plan_of(ARCH, 0.3, ("neuron", "kv_group"))
    removed = resolve_allocation("global").units(plan, scores)
    for kind in ("neuron", "kv_group"):
        means = {(i, u): float(s[kind].double().mean(1)[u]) for i, s in enumerate(scores) for u in range(len(s[kind]))}
        for i in range(4):  # the best of a layer stays
            means.pop(max((u for u in means if u[0] == i), key=means.get))
        gone = {(i, int(u)) for i, r in enumerate(removed) for u in r[kind]}
        assert gone == set(sorted(means, key=means.get)[: len(gone)])
        assert len(gone) > 3


def test_standardised_by_brute_force():
    """FLAP's rule with numpy: z-scores per layer and kind, units by their mean, one ranking by true cost."""
    scores = scores_of(ARCH, ("neuron", "kv_group"))
    plan = plan_of(ARCH, 0.3, ("neuron", "kv_group"))
    removed = Standardised().units(plan, scores)
    everything = []
    for i, kinds in enumerate(scores):
        for kind, values in kinds.items():
            S = values.double().numpy()
            z = ((S - S.mean()) / S.std(ddof=1)).mean(1)
            everything += [(z[u], i, kind, u) for u in range(len(z)) if u != z.argmax()]
    spent, wanted = 0, set()
    for _, i, kind, u in sorted(everything):
        if spent + plan.cost(kind, i) <= plan.budget:
            spent += plan.cost(kind, i)
            wanted.add((i, kind, u))
        elif plan.budget - spent < plan.cost("neuron", 0) or kind == "neuron":
            break
    gone = {(i, k, int(u)) for i, r in enumerate(removed) for k, units in r.items() for u in units}
    assert wanted <= gone
    assert len(gone - wanted) <= 1  # the unit that takes the budget to its nearest


@SETTINGS
@given(
    st.lists(st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=6), min_size=1, max_size=4),
    st.floats(0, 1),
    st.data(),
)
def test_take_never_passes_over_a_cheaper_fit(values, share, data):
    costs = [data.draw(st.integers(1, 9)) for _ in values]
    entries = [Entry(i, "u", torch.tensor(v), c) for i, (v, c) in enumerate(zip(values, costs, strict=True))]
    room = sum(c * (len(v) - 1) for v, c in zip(values, costs, strict=True))
    budget = round(share * room)
    removed, spent = take(entries, budget)
    gone = [removed[i, "u"].tolist() for i in range(len(values))]
    assert spent == sum(c * len(g) for c, g in zip(costs, gone, strict=True))
    assert all(len(g) < len(v) for g, v in zip(gone, values, strict=True))
    assert spent <= budget + min(costs) / 2
    for v, g, c in zip(values, gone, costs, strict=True):  # what stays and would fit is the best of its entry
        stays = [u for u in range(len(v)) if u not in g]
        assert len(stays) == 1 or c > budget - spent
        if g and stays:
            assert min(v[u] for u in stays) >= max(v[u] for u in g)


def test_owl_by_hand():
    inputs, outliers = inputs_of(LM, TOKENS), []
    for layer in range(4):
        entries = [
            (np.abs(weight_of(LM, layer, n)) * np.sqrt((inputs[layer, n] ** 2).mean(0))).flatten()
            for n in ARCH.linear_names
        ]
        everything = np.concatenate(entries)
        outliers.append(np.mean(everything > 2.0 * everything.mean()))
    D = np.array(outliers)
    keep = (D - D.min()) / (D.max() - D.min()) * 2 * 0.08
    want = 0.5 - (keep - keep.mean())
    plan = plan_of(ARCH, 0.5)
    sizes = np.array([plan.size(i) for i in range(4)])
    got = OWL(m=2.0).shares(plan).numpy() / sizes
    assert np.allclose(got, want, atol=1e-9)
    assert got.max() - got.min() == pytest.approx(2 * 0.08)
    assert got.argmin() == D.argmax()
    assert np.abs(got - 0.5).max() < 2 * 0.08


@pytest.mark.parametrize("sparsity", [0.0, 0.01, 0.97, 0.995])
def test_owl_at_the_ends(sparsity):
    """No layer below nothing or above everything, and the budget is still met."""
    plan = plan_of(ARCH, sparsity)
    shares = OWL(m=2.0, span=0.3).shares(plan)
    assert float(shares.min()) >= 0
    assert all(s <= plan.size(i) for i, s in enumerate(shares.tolist()))
    assert float(shares.sum()) == pytest.approx(plan.budget, abs=1e-3)


@pytest.mark.parametrize("name", ["uniform", "global", "standardised"])
def test_at_least_one_unit_stays(name):
    most = sum((ARCH.units(k, i) - 1) * ARCH.unit_parameters(k, i) for k in KINDS[2] for i in range(4))
    plan = Plan(ARCH, most, KINDS[2])
    removed = resolve_allocation(name).units(plan, scores_of(ARCH, KINDS[2]))
    assert all(len(r["neuron"]) == 47 for r in removed)
    assert all(len(r["kv_group"]) == 3 for r in removed)
    with pytest.raises(
        ArgumentError, match=rf"asks for {most + 1:,} parameters, but only {most:,} can go from 4 layers"
    ):
        Plan(ARCH, most + 1, KINDS[2])


def test_protected_layers_are_not_touched():
    lm = tiny_lm(num_hidden_layers=12)
    pruned = workbench.prune(lm, "llm-pruner", 0.2, calibration=TOKENS)
    for layer in (0, 1, 2, 3, 10, 11):
        old, new = (h.architecture.layers[layer].state_dict() for h in (lm, pruned.lm))
        assert all(torch.equal(old[n], new[n]) for n in old)
    assert all(pruned.recipe.removed[i]["neuron"] for i in range(4, 10))
    assert abs(pruned.report.true_sparsity - 0.2) * pruned.report.base <= ARCH.unit_parameters("neuron", 0) / 2


def test_the_fraction_is_of_what_one_says():
    arch = LM.architecture
    report = workbench.prune(LM, "magnitude", 0.3, of="all").report
    assert report.zeroed == round(0.3 * arch.parameters("all"))
    assert report.base == arch.parameters("all") > arch.parameters()
    pruned = workbench.prune(LM, "wanda-sp", 0.3, of="all", calibration=TOKENS).report
    assert abs(pruned.removed - 0.3 * arch.parameters("all")) <= 2 * arch.unit_parameters("neuron", 0)
    with pytest.raises(ArgumentError, match="only 30,720 can go from 4 layers"):
        workbench.prune(LM, "magnitude", 0.9, of="all")


@pytest.mark.parametrize("name", ["wanda", "sparsegpt"])
def test_a_pattern_sets_the_share_of_every_matrix(name):
    """Also of all parameters, where the same share of everything would be out of reach."""
    report = workbench.prune(LM, name, pattern="1:8", of="all", calibration=TOKENS).report
    assert {m.zeroed / (m.zeroed + m.kept) for m in report.modules} == {7 / 8}


def test_rules_that_do_not_apply():
    with pytest.raises(ArgumentError, match=r"allocation='standardised' is for units .* use uniform, global or owl"):
        workbench.prune(LM, "magnitude", 0.5, allocation="standardised")
    with pytest.raises(ArgumentError, match="allocation='owl': the pattern 2:4 fixes every matrix's share"):
        workbench.prune(LM, "wanda", pattern="2:4", allocation="owl", calibration=TOKENS)
    with pytest.raises(ArgumentError, match="unknown allocation 'globl': did you mean 'global'"):
        workbench.prune(LM, "magnitude", 0.5, allocation="globl")
    with pytest.raises(ArgumentError, match="removes whole layers: allocation and repair do not apply"):
        workbench.prune(LM, "shortgpt", 0.5, allocation="global", calibration=TOKENS)
