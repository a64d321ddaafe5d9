"""Masked run == removed run == saved and reloaded run, for every structured method and every family."""

import pytest
import torch

import workbench
from tests.test_architecture import CASES
from workbench.checkpoint import plain_config
from workbench.prune import registry
from workbench.testing import logits, tiny_lm, tiny_tokens

STRUCTURED = sorted(n for n, c in registry().items() if c.family in ("channels", "layers"))
LIMIT = 1e-4


@pytest.mark.parametrize("method", STRUCTURED)
@pytest.mark.parametrize(("family", "gqa", "tied"), CASES)
def test_masked_is_removed_is_reloaded(family, gqa, tied, method, tmp_path):
    lm, tokens = tiny_lm(family, gqa=gqa, tied=tied), tiny_tokens()
    masked = workbench.prune(lm, method, 0.4, calibration=tokens, apply="zero")
    removed = workbench.prune(lm, method, 0.4, calibration=tokens)
    assert removed.report.removed > 0.3 * removed.report.base
    assert removed.report.zeroed == 0
    assert masked.report.removed <= 0
    assert masked.report.parameters_after >= lm.architecture.parameters("all")
    wanted = logits(masked.lm)
    assert (logits(removed.lm) - wanted).abs().max() <= LIMIT
    saved = workbench.save(removed, tmp_path / "out")
    again = workbench.load(saved.folder)
    assert (logits(again) - wanted).abs().max() <= LIMIT
    assert again.architecture.parameters("all") - removed.report.parameters_after >= 0


@pytest.mark.parametrize("repair", ["none", "bias", "least_squares"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "olmo2", "phi3"])
def test_repairs_keep_the_invariant(family, repair, tmp_path):
    lm, tokens = tiny_lm(family), tiny_tokens()
    options = {"calibration": tokens, "repair": repair, "allocation": "global"}
    masked = workbench.prune(lm, "flap", 0.3, apply="zero", **options)
    removed = workbench.prune(lm, "flap", 0.3, **options)
    assert (logits(masked.lm) - logits(removed.lm)).abs().max() <= LIMIT
    again = workbench.load(workbench.save(removed, tmp_path / "out").folder)
    assert (logits(again) - logits(masked.lm)).abs().max() <= LIMIT


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "gemma3_text", "smollm3", "gpt_neox", "opt", "phi3"])
@pytest.mark.parametrize("method", ["flap", "shortgpt"])
def test_generation_with_a_cache(family, method, tmp_path):
    """Ragged layers and renumbered layers decode with the ordinary cache as they do without one."""
    lm = tiny_lm(family)
    pruned = workbench.prune(lm, method, 0.4, calibration=tiny_tokens())
    module = workbench.load(workbench.save(pruned, tmp_path / "m").folder).module
    ids = torch.from_numpy(tiny_tokens(1, 10).ids)
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    mask = torch.ones_like(ids)
    fast = module.generate(ids, attention_mask=mask, use_cache=True, **options)
    slow = module.generate(ids, attention_mask=mask, use_cache=False, **options)
    assert fast.shape == (1, 16)
    assert torch.equal(fast, slow)


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "gemma2", "gpt2", "opt"])
def test_uniform_widths_are_a_plain_checkpoint(family, tmp_path):
    from transformers import AutoModelForCausalLM

    lm = tiny_lm(family)
    pruned = workbench.prune(lm, "wanda-sp", 0.3, units="neuron", calibration=tiny_tokens())
    saved = workbench.save(pruned, tmp_path / "out")
    assert saved.kind == "transformers"
    module, info = AutoModelForCausalLM.from_pretrained(saved.folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with torch.no_grad():
        got = module.eval()(torch.from_numpy(tiny_tokens().ids), use_cache=False).logits
    assert (got - logits(pruned.lm)).abs().max() <= LIMIT


def test_llama_with_odd_heads_goes_out_as_mistral(tmp_path):
    from transformers import AutoModelForCausalLM

    lm = tiny_lm("llama", head_dim=4)
    one_each = 4 * lm.architecture.unit_parameters("kv_group", 0) / lm.architecture.parameters()
    pruned = workbench.prune(lm, "wanda-sp", one_each, units="kv_group", calibration=tiny_tokens())
    arch = pruned.lm.architecture
    assert {arch.query_heads(i) for i in range(4)} == {6}
    assert plain_config(arch).model_type == "mistral"
    saved = workbench.save(pruned, tmp_path / "out")
    module = AutoModelForCausalLM.from_pretrained(saved.folder)
    assert type(module).__name__ == "MistralForCausalLM"
    with torch.no_grad():
        got = module(torch.from_numpy(tiny_tokens().ids), use_cache=False).logits
    assert (got - logits(pruned.lm)).abs().max() <= LIMIT


def test_biases_of_a_uniform_llama_are_plain(tmp_path):
    lm = tiny_lm("llama")
    pruned = workbench.prune(
        lm, "flap", 0.3, units="neuron", allocation="uniform", repair="bias", calibration=tiny_tokens()
    )
    saved = workbench.save(pruned, tmp_path / "out")
    assert saved.kind == "transformers"
    again = workbench.load(saved.folder)
    assert again.module.config.mlp_bias
    assert (logits(again) - logits(pruned.lm)).abs().max() <= LIMIT


def test_pruning_twice(tmp_path):
    """A pruned, ragged model is a model like any other: it can be pruned again and saved."""
    lm, tokens = tiny_lm(), tiny_tokens()
    once = workbench.prune(lm, "flap", 0.25, calibration=tokens)
    twice = workbench.prune(once, "wanda", 0.5, calibration=tokens)
    shrunk = workbench.prune(twice, "shortgpt", 0.25, calibration=tokens)
    again = workbench.load(workbench.save(shrunk, tmp_path / "out").folder)
    assert again.architecture.num_layers == 3
    assert (logits(again) - logits(shrunk.lm)).abs().max() <= LIMIT
