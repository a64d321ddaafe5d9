"""What `workbench.prune` refuses and what it says; and that the model that came is never changed."""

import pytest
import torch
from tiny_lm import tiny_lm as byte_lm
from transformers import AutoConfig, AutoModelForCausalLM

import workbench
from workbench.data import load_text
from workbench.errors import ArgumentError, Cancelled, DataError, ModelError, ResourceError
from workbench.jobs import Progress
from workbench.measure import memory
from workbench.prune import registry
from workbench.testing import logits, tiny_lm, tiny_tokens

TOKENS = tiny_tokens()


@pytest.fixture
def lm():
    return tiny_lm()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wnda", "unknown method 'wnda': did you mean 'wanda'"),
        ("sparse-gpt", "unknown method 'sparse-gpt': did you mean 'sparsegpt'"),
        ("lottery", r"unknown method 'lottery': .*Known: flap, llm-pruner, magnitude, random, ria"),
        (None, "unknown method None"),
    ],
)
def test_unknown_methods(lm, name, says):
    with pytest.raises(ArgumentError, match=says):
        workbench.prune(lm, name, 0.5)


@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.0, 50, True, False, float("nan"), float("inf"), "0.5", [0.5]])
def test_sparsities_that_are_no_fraction(lm, sparsity):
    with pytest.raises(ArgumentError, match=r"sparsity=.*: want a fraction in \[0, 1\), e\.g\. 0\.5 for half"):
        workbench.prune(lm, "magnitude", sparsity)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_numpy_sparsities(lm, kind):
    import numpy as np

    value = np.dtype(kind).type(0.5)
    assert workbench.prune(lm, "magnitude", value).report.zeroed == round(0.5 * lm.architecture.parameters())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pattern": "3:7"}, "pattern=3:7: self_attn.q_proj has 32 inputs, which 7 does not divide"),
        ({"pattern": "5x1"}, "pattern=5x1: self_attn.q_proj is 32 x 32, which such blocks do not tile"),
        ({"pattern": "2;4"}, "pattern='2;4': want N:M such as '2:4', a block such as '16x1', or None"),
        ({"pattern": "2:4", "sparsity": 0.6}, "sparsity=0.6: the pattern 2:4 fixes it at 0.5; leave sparsity out"),
        ({"method": "flap", "pattern": "2:4"}, "pattern='2:4' is for methods that prune weights; flap prunes"),
        ({"method": "shortgpt", "pattern": "16x1"}, "pattern='16x1' is for methods that prune weights; shortgpt"),
        ({"units": "neuron"}, "units='neuron': magnitude prunes"),
        ({"method": "flap", "units": "heads"}, "unknown unit 'heads'"),
        ({"method": "flap", "units": ()}, r"units=\(\): flap prunes nothing then"),
        ({"apply": "delete"}, "unknown apply 'delete'"),
        ({"of": "everything"}, "unknown of 'everything'"),
        ({"repair": "obs"}, "unknown repair 'obs'"),
        ({"method": "flap", "sparsity": 0.99}, "can go from 4 layers .* ask for less"),
        ({"method": "shortgpt", "sparsity": 0.95}, "the 3 layers that may go hold .* ask for less"),
    ],
)
def test_arguments_that_make_no_sense(lm, options, says):
    before = lm.fingerprint
    with pytest.raises(ArgumentError, match=says):
        workbench.prune(lm, **({"method": "magnitude", "calibration": TOKENS} | options))
    assert lm.fingerprint == before


def test_the_sparsity_that_a_pattern_fixes_may_be_said(lm):
    said, unsaid = (workbench.prune(lm, "magnitude", s, pattern="2:4") for s in (0.5, None))
    assert said.lm.fingerprint == unsaid.lm.fingerprint
    assert said.recipe == unsaid.recipe


def test_no_model():
    with pytest.raises(ArgumentError, match=r"is not a model: pass workbench\.load"):
        workbench.prune("gpt2", "magnitude", 0.5)


def test_a_family_that_is_not_described():
    config = AutoConfig.for_model("bloom", vocab_size=50, hidden_size=16, n_layer=1, n_head=2)
    module = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ModelError, match=r"'bloom' is not described\. Described: gemma2, .*workbench/families\.py"):
        workbench.prune(module, "magnitude", 0.5)


def test_calibration_text_that_is_too_short(tmp_path):
    file = tmp_path / "short.txt"
    file.write_text("Only a few words.\n" * 3, encoding="utf-8")
    lm = byte_lm()
    lm.module.config.max_position_embeddings = 1024
    for text in (file, load_text(file)):
        with pytest.raises(DataError, match="512"):
            workbench.prune(lm, "wanda", 0.5, calibration=text)


def test_calibration_that_does_not_fit_the_model(lm):
    with pytest.raises(DataError, match=r"token ids up to \d+, but this model knows 97"):
        workbench.prune(lm, "wanda", 0.5, calibration=tiny_tokens(vocabulary=500))
    with pytest.raises(ArgumentError, match=r"seqlen=512: this model takes at most 64 positions"):
        workbench.prune(lm, "wanda", 0.5)
    learned = tiny_lm("gpt2")
    with pytest.raises(ArgumentError, match=r"seqlen=80: this model takes at most 64 positions"):
        workbench.prune(learned, "wanda", 0.5, calibration=tiny_tokens(2, 80))


def test_a_model_without_tokenizer():
    lm = tiny_lm(max_position_embeddings=1024)
    with pytest.raises(DataError, match=r"no tokenizer: wrap\(module, tokenizer\), or pass Tokens"):
        workbench.prune(lm, "wanda", 0.5)


def test_too_little_memory(lm, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    with pytest.raises(ResourceError, match=r"a pruned copy of the model \(inplace=True does without it\) needs"):
        workbench.prune(lm, "magnitude", 0.5)
    assert workbench.prune(lm, "magnitude", 0.5, inplace=True).lm.module is lm.module


def test_no_disk_space(lm, monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_STATISTICS", str(tmp_path))
    usage = memory.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda _: usage._replace(free=100))
    before = lm.fingerprint
    with pytest.raises(ResourceError, match=r"100 B are free: make room"):
        workbench.prune(lm, "wanda", 0.5, calibration=TOKENS, propagate=False)
    assert lm.fingerprint == before


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9], ids=["first", "middle", "late"])
@pytest.mark.parametrize("method", ["magnitude", "sparsegpt", "flap", "wanda-sp", "llm-pruner", "shortened-llama"])
def test_cancelling_changes_nothing(lm, method, share, monkeypatch, tmp_path):
    steps, seen, progress = [], [], Progress()
    monkeypatch.setenv("WORKBENCH_STATISTICS", str(tmp_path / "count"))
    whole = workbench.prune(lm, method, 0.4, calibration=TOKENS, progress=Progress(steps.append))
    before, names, at = lm.fingerprint, set(registry()), int(share * (len(steps) - 1))

    def listen(step):
        seen.append(step)
        if len(seen) == at + 1:
            progress.cancel()

    progress.listener = listen
    monkeypatch.setenv("WORKBENCH_STATISTICS", str(tmp_path / "cancel"))
    with pytest.raises(Cancelled, match="nothing was changed"):
        workbench.prune(lm, method, 0.4, calibration=TOKENS, progress=progress)
    assert lm.fingerprint == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.module.modules())
    assert not any("forward" in layer.__dict__ for layer in lm.architecture.layers)
    assert set(registry()) == names
    assert whole.lm.fingerprint == workbench.prune(lm, method, 0.4, calibration=TOKENS).lm.fingerprint


def storages(module):
    tensors = (*module.parameters(), *module.buffers())
    return {t.untyped_storage().data_ptr() for t in tensors if t.numel()}


@pytest.mark.parametrize("family", ["llama", "gpt2", "olmo2"])
@pytest.mark.parametrize("sparsity", [0.0, 0.4])
@pytest.mark.parametrize("method", sorted(registry()))
def test_nothing_is_shared_with_the_input(method, sparsity, family):
    lm = tiny_lm(family, tied=True)
    before, wanted = lm.fingerprint, logits(lm)
    pruned = workbench.prune(lm, method, sparsity, calibration=TOKENS)
    assert not storages(lm.module) & storages(pruned.lm.module)
    assert pruned.lm.module.config is not lm.module.config
    for tensor in (*pruned.lm.module.parameters(), *pruned.lm.module.buffers()):
        tensor.data.zero_()
    pruned.lm.module.config.vocab_size = 1
    assert lm.fingerprint == before
    assert torch.equal(logits(lm), wanted)


@pytest.mark.parametrize("apply", ["remove", "zero"])
@pytest.mark.parametrize("method", sorted(registry()))
def test_ties_stay_ties(method, apply):
    for tied in (True, False):
        lm = tiny_lm(tied=tied)
        module = workbench.prune(lm, method, 0.4, calibration=TOKENS, apply=apply).lm.module
        assert (module.get_input_embeddings().weight is module.get_output_embeddings().weight) == tied
        assert sum(p.numel() for p in module.parameters()) == sum(
            p.numel() for p in {id(p): p for p in module.parameters()}.values()
        )


@pytest.mark.parametrize("method", sorted(registry()))
def test_in_place_is_the_same_result(method):
    """What is in place now is what a copy would have been."""
    lm = tiny_lm(tied=True)
    copied = workbench.prune(lm, method, 0.4, calibration=TOKENS)
    changed = workbench.prune(lm, method, 0.4, calibration=TOKENS, inplace=True)
    assert changed.lm.module is lm.module
    assert changed.lm.fingerprint == copied.lm.fingerprint


def test_parameters_keep_whether_they_train():
    lm = tiny_lm()
    for number, parameter in enumerate(lm.module.parameters()):
        parameter.requires_grad_(number % 2 == 0)
    pruned = workbench.prune(lm, "sparsegpt", 0.5, calibration=TOKENS)
    pairs = zip(lm.module.parameters(), pruned.lm.module.parameters(), strict=True)
    assert all(a.requires_grad == b.requires_grad for a, b in pairs)
