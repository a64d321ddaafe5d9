"""Compiled decoding: transformers' logits, the same bits however tokens come, and formats that hold what was pruned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

import workbench
from workbench.errors import ArgumentError, Cancelled, ModelError
from workbench.execute._twin import check_logits
from workbench.jobs import Progress
from workbench.models import LM
from workbench.testing import tiny_lm

SIZES = {
    "vocab_size": 100, "hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 128,
}  # fmt: skip
FAMILIES = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama3 rope": LlamaConfig(
        **SIZES,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
        },
    ),
    "mistral, window": MistralConfig(**SIZES, sliding_window=8),
    "qwen2, biases": Qwen2Config(**{k: v for k, v in SIZES.items() if k != "head_dim"} | {"hidden_size": 128}),
    "qwen3, head norms": Qwen3Config(**SIZES),
}  # fmt: skip
IDS = np.random.default_rng(1).integers(0, 100, 40)


def model(config: PretrainedConfig) -> LM:
    torch.manual_seed(0)
    module = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1:  # norms and biases that matter
                parameter.add_(0.3 * torch.randn(parameter.shape))
            elif "embed" not in name:
                parameter.mul_(4)
    return workbench.wrap(module)


def reference(lm: LM, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return lm.module(torch.from_numpy(ids)[None]).logits[0].numpy()


def formats(compiled: workbench.execute.compiled.Compiled) -> dict[str, list]:  # type: ignore[type-arg]
    w = compiled.decoder.weights
    return {k: [getattr(x, k) for x in w.layers] for k in ("qkv", "o", "gate_up", "down")} | {"head": [w.head]}


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_those_of_transformers(name: str) -> None:
    lm = model(FAMILIES[name])
    compiled = workbench.compile(lm, "dense", threads=1)
    check = check_logits(lm, formats(compiled), compiled.forward(IDS), IDS)
    assert check.passed, check


def test_the_check_can_fail() -> None:
    lm = model(FAMILIES["llama"])
    compiled = workbench.compile(lm, "dense", threads=1)
    assert not check_logits(lm, formats(compiled), 1.001 * compiled.forward(IDS), IDS).passed


@pytest.mark.parametrize("values", ["fp32", "bf16", "int8"])
def test_the_same_bits_one_by_one_in_parts_and_with_two_threads(values: str) -> None:
    lm = model(FAMILIES["llama"])
    compiled = workbench.compile(lm, "dense", values, threads=1)
    whole = compiled.forward(IDS)
    compiled.crop()
    parts = np.concatenate([compiled.forward(IDS[:1]), compiled.forward(IDS[1:12]), compiled.forward(IDS[12:])])
    two = workbench.compile(lm, "dense", values, threads=2).forward(IDS)
    assert whole.tobytes() == parts.tobytes() == two.tobytes()


def test_more_than_one_pass_and_the_last_token_alone() -> None:
    lm = model(FAMILIES["llama"])
    ids = np.random.default_rng(2).integers(0, 100, 100)
    compiled = workbench.compile(lm, "dense", threads=1)
    whole = compiled.forward(ids)
    assert np.abs(whole - reference(lm, ids)).max() < 1e-3
    compiled.crop()
    assert compiled.forward(ids, last=True).tobytes() == whole[-1:].tobytes()
    assert compiled.position == 100


@pytest.mark.parametrize(("pattern", "kind"), [(None, "bitmap"), ("2:4", "2:4"), ("16x1", "16x1"), ("16x1", "auto")])
@pytest.mark.parametrize("values", ["fp32", "int8"])
def test_pruned_models_run_in_their_format(pattern: str | None, kind: str, values: str) -> None:
    lm = model(LlamaConfig(**SIZES | {"hidden_size": 64, "intermediate_size": 64}))
    pruned = workbench.prune(lm, "magnitude", None if pattern == "2:4" else 0.75, pattern=pattern)
    compiled = workbench.compile(pruned, kind, values, threads=1)
    check = check_logits(pruned.lm, formats(compiled), compiled.forward(IDS), IDS)
    assert check.passed, check
    assert kind in (compiled.stored["gate_up"][0].removesuffix("-int8"), "auto")
    assert compiled.nbytes < (1.0 if values == "fp32" else 0.5) * compiled.dense_nbytes


def test_removed_heads_and_neurons_run() -> None:
    lm = model(LlamaConfig(**SIZES))
    pruned = workbench.prune(lm, "magnitude", 0.5, pattern=None)
    assert workbench.compile(pruned, "auto").forward(IDS).shape == (40, 100)
    small = workbench.prune(lm, "random", 0.3)
    assert workbench.compile(small, "dense").stored["head"][0] == "dense"


def test_generate_is_greedy_generation() -> None:
    lm = model(FAMILIES["llama"])
    compiled = workbench.compile(lm, "dense", threads=1)
    with torch.no_grad():
        want = lm.module.generate(
            torch.from_numpy(IDS[:5])[None], max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0,
        )[0, 5:]  # fmt: skip
    assert list(compiled.generate(IDS[:5], 12)) == want.tolist()
    one, two = (list(compiled.generate(IDS[:5], 12, temperature=1.0, seed=s)) for s in (1, 1))
    assert one == two
    assert (
        list(compiled.generate(IDS[:5], 12, stop=[int(want[3])])) == want[: want.tolist().index(int(want[3]))].tolist()
    )


def test_wrong_arguments_are_told() -> None:
    lm = model(FAMILIES["llama"])
    with pytest.raises(ArgumentError, match=r"bitmpa.*bitmap"):
        workbench.compile(lm, "bitmpa")
    with pytest.raises(ArgumentError, match="context=1000"):
        workbench.compile(lm, "dense", context=1000)
    with pytest.raises(ArgumentError, match="2:4 allows 2"):
        workbench.compile(lm, "2:4")
    with pytest.raises(ModelError, match="gpt2"):
        workbench.compile(workbench.wrap(AutoModelForCausalLM.from_config(GPT2Config(n_embd=64, n_layer=1, n_head=2))))
    compiled = workbench.compile(lm, "dense", context=16)
    with pytest.raises(ArgumentError, match="room for 16"):
        compiled.forward(IDS)
    with pytest.raises(ArgumentError, match="0 to 99"):
        compiled.forward([100])
    with pytest.raises(ArgumentError, match="holds 0 tokens"):
        compiled.crop(3)
    assert compiled.position == 0


def test_compiling_can_be_cancelled_and_leaves_the_model() -> None:
    lm, progress = model(FAMILIES["llama"]), Progress()
    before = lm.fingerprint
    progress.cancel()
    with pytest.raises(Cancelled):
        workbench.compile(lm, "dense", progress=progress)
    assert workbench.wrap(lm.module).fingerprint == before


def test_the_result_says_what_it_holds() -> None:
    compiled = workbench.compile(model(FAMILIES["llama"]), "dense", "int8", threads=1)
    assert "int8" in repr(compiled)
    assert "gate_up" in compiled.to_html()
    assert compiled.to_dict()["stored"]["head"][0] == "dense-int8"
    assert set(compiled.profile(1, 2)) >= {"qkv", "attend", "head"}


def test_whole_model_times_on_a_tiny_model(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench import cli
    from workbench.commands import bench

    lm = model(LlamaConfig(**SIZES | {"max_position_embeddings": 512, "hidden_size": 64, "intermediate_size": 64}))
    monkeypatch.setattr(bench, "load_model", lambda *_: lm)
    arguments = ["bench", "--format", "16x1", "--sparsity", "0.5", "--rounds", "3", "--threads", "1", "--prompt", "32"]
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out
    assert "compiled 16x1" in said
    assert "transformers bf16" in said
    assert "logits agree" in said
    assert cli.main(["bench", "--format", "17x1"]) == 2
    assert "bitmap-int8" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "values", "share"), [("dense", "bf16", 0), ("16x1", "fp32", 0.8), ("bitmap", "int8", 0.5)]
)
def test_the_default_model(kind: str, values: str, share: float) -> None:
    lm = workbench.load()
    model_ = workbench.prune(lm, "magnitude", share, pattern="16x1" if kind == "16x1" else None) if share else lm
    compiled = workbench.compile(model_, kind, values, context=128)
    ids = np.asarray(workbench.evaluation(lm, windows=1, seqlen=24).ids[0])
    check = check_logits(workbench.models.as_lm(model_), formats(compiled), compiled.forward(ids), ids)
    assert check.passed, check


def test_a_model_on_sparse_layers_is_packed_from_what_they_store() -> None:
    pruned = workbench.prune(tiny_lm("llama", head_dim=32), "magnitude", 0.5)
    sparse = workbench.sparsify(pruned, format="bitmap")
    ids = [1, 5, 9, 3]
    packed, wanted = (workbench.compile(model, "bitmap") for model in (sparse, pruned))
    assert np.array_equal(packed.forward(ids), wanted.forward(ids))
