"""One description serves every family: sizes, units and counts against what the tensors really hold."""

import pytest
import torch

from workbench.architecture import FAMILIES, describe, matrix
from workbench.errors import ArgumentError, ModelError
from workbench.testing import tiny_lm

GROUPED = [f for f in FAMILIES if f not in ("gpt2", "gpt_neox", "opt")]
CASES = [(f, g, t) for f in FAMILIES for g in ([True, False] if f in GROUPED else [False]) for t in (True, False)]


@pytest.mark.parametrize(("family", "gqa", "tied"), CASES)
def test_units_cover_every_weight_once(family, gqa, tied):
    lm = tiny_lm(family, gqa=gqa, tied=tied)
    arch = lm.architecture
    assert arch.num_layers == 4
    assert arch.neurons(0) == 48
    assert arch.query_heads(0) == 8
    assert arch.kv_heads(0) == (4 if gqa else 8)
    seen = {path: torch.zeros(matrix(arch.linear(0, path)).shape) for path in arch.linear_paths}
    for kind in ("neuron", "kv_group"):
        for slot in arch.slots(kind, 0):
            if slot.module in seen:
                for unit in slot.index:
                    (seen[slot.module] if slot.axis == 0 else seen[slot.module].T)[unit] += 1
    assert all(bool((s == 1).all()) for s in seen.values())


@pytest.mark.parametrize(("family", "gqa", "tied"), CASES)
def test_counts(family, gqa, tied):
    arch = tiny_lm(family, gqa=gqa, tied=tied).architecture
    by_hand = {id(p): p.numel() for p in arch.module.parameters()}
    assert arch.parameters("all") == sum(by_hand.values())
    layers = sum(arch.layer_parameters(i) for i in range(arch.num_layers))
    final_norm = arch.parameters() - layers
    assert 0 < final_norm <= 2 * 32
    in_units = sum(arch.units(k, 0) * arch.unit_parameters(k, 0) for k in ("neuron", "kv_group"))
    block = arch.layers[0]
    output_biases = sum(
        m.bias.numel() for m in (arch.linear(0, arch.family.o), arch.linear(0, arch.family.down)) if m.bias is not None
    )
    norms = sum(p.numel() for n, p in block.named_parameters() if "norm" in n or "ln_" in n)
    flat = sum(block.get_submodule(p).weight.numel() for p in arch.family.flat_norms or ())
    assert in_units == arch.layer_parameters(0) - output_biases - norms + flat


def test_sites_share_inputs():
    arch = tiny_lm("llama").architecture
    assert arch.sites["attention_in"] == ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    assert arch.site_of("mlp.down_proj") == "mlp_out"
    assert arch.linear_names == ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def test_unknown_family():
    module = torch.nn.Linear(2, 2)
    with pytest.raises(ModelError, match=r"is not described\. Described: gemma2"):
        describe(module)


def test_unknown_unit():
    with pytest.raises(ArgumentError, match="unknown unit 'neurons': did you mean 'neuron'"):
        tiny_lm().architecture.slots("neurons", 0)
    with pytest.raises(ArgumentError, match="unknown of 'everything'"):
        tiny_lm().architecture.parameters("everything")
