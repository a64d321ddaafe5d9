"""Speed: the order alternates, the verdict follows the interval, and a slower model is called slower."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from workbench.errors import ArgumentError, Cancelled
from workbench.jobs import Progress
from workbench.measure import Timing, speed


def tiny() -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        LlamaConfig(
            vocab_size=97,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
        )
    ).eval()


def timing(dense: list[float], model: list[float]) -> Timing:
    return Timing.of(np.stack([model, dense], axis=1))


@pytest.mark.parametrize(
    ("dense", "model", "verdict"),
    [
        ([10, 11, 12, 13, 14], [5, 5.5, 6, 6.5, 7], "faster"),
        ([10, 10, 10, 10, 10], [20, 20.5, 20, 21, 20], "slower"),
        ([10, 20, 30, 40, 50], [10.1, 20.1, 29.9, 40, 50], "the same"),
        ([10, 10, 10, 10, 10], [8, 12, 9, 11, 10], "too noisy to tell"),
        ([10, 10, 10, 10, 10], [1, 9, 2, 8, 3], "too noisy to tell"),
        ([10, 10], [5, 5], "too noisy to tell"),
    ],
)
def test_verdicts(dense: list[float], model: list[float], verdict: str) -> None:
    result = timing(dense, model)
    assert result.verdict == verdict
    assert result.low <= result.ratio <= result.high


def test_ratio_is_of_paired_repeats() -> None:
    result = timing([10, 100, 1000], [5, 50, 500])
    assert (result.ratio, result.low, result.high) == (2.0, 2.0, 2.0)
    assert (result.ms, result.dense_ms) == (50.0, 100.0)


def test_runs_are_interleaved_and_alternate() -> None:
    calls: list[str] = []
    model, dense = tiny(), tiny()
    model.register_forward_pre_hook(lambda m, a, k: calls.append(f"m{k['input_ids'].shape[1]}"), with_kwargs=True)
    dense.register_forward_pre_hook(lambda m, a, k: calls.append(f"d{k['input_ids'].shape[1]}"), with_kwargs=True)
    result = speed(model, dense, prompt_tokens=6, new_tokens=2, repeats=2)
    one, other = ["m6", "m1", "m1"], ["d6", "d1", "d1"]
    assert calls == [*one, *other, *other, *one, *one, *other]
    assert result.prefill.samples_ms.shape == result.decode.samples_ms.shape == (2, 2)
    assert result.threads == torch.get_num_threads()


def test_a_slowed_model_is_slower_in_the_phase_that_was_slowed() -> None:
    model, dense = tiny(), tiny()
    model.model.layers[0].register_forward_pre_hook(lambda m, a: time.sleep(0.03 if a[0].shape[1] == 1 else 0))
    result = speed(model, dense, prompt_tokens=8, new_tokens=4, repeats=3)
    assert result.decode_ratio < 0.9
    assert result.decode.ms > 30
    assert result.prefill_ratio > result.decode_ratio
    for word in ("prefill", "decode", "verdict", "threads", "interleaved"):
        assert word in result.to_text()
        assert word in result.to_html()
    assert "decode" in repr(result)


def test_other_families_run() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=97, n_embd=32, n_layer=1, n_head=4)).eval()
    result = speed(model, model, prompt_tokens=4, new_tokens=1, repeats=1)
    assert result.prefill.ms > 0
    assert result.decode.ms > 0


def test_cancel_and_bad_numbers() -> None:
    model, progress = tiny(), Progress()
    model.model.layers[0].register_forward_hook(lambda *_: progress.cancel())
    with pytest.raises(Cancelled):
        speed(model, tiny(), prompt_tokens=4, new_tokens=1, repeats=1, progress=progress)
    with pytest.raises(ArgumentError, match="repeats=0: a whole number of at least 1"):
        speed(model, model, repeats=0)
    with pytest.raises(ArgumentError, match="512 prompt and 32 new tokens: this model takes at most 64 positions"):
        speed(model, model)
