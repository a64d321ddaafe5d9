"""Perplexity against a slow reference, closed forms and known intervals; comparison; what is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
)

from workbench.data import Tokens
from workbench.errors import ArgumentError, Cancelled, DataError
from workbench.jobs import Progress, Step
from workbench.measure import Quality, compare, perplexity
from workbench.measure._statistics import mean_interval, median_interval, t_quantile
from workbench.models import LM

COMMON = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.4,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**COMMON),
    "gemma2": Gemma2Config(**COMMON, final_logit_softcapping=1.5),
    "granite": GraniteConfig(**COMMON, logits_scaling=8.0),  # scales its logits: the bare head is not enough
    "gpt2": GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, initializer_range=0.4),
    "opt": OPTConfig(
        vocab_size=97, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
        word_embed_proj_dim=16, do_layer_norm_before=False, init_std=0.4,
    ),
}  # fmt: skip


def tiny(name: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    module = AutoModelForCausalLM.from_config(CONFIGS[name])
    return LM(module.eval(), None, name)


def windows(samples: int = 5, seqlen: int = 24, seed: int = 0) -> Tokens:
    return Tokens.of(np.random.default_rng(seed).integers(0, 97, (samples, seqlen)), "random ids")


def slow_nll(module: Any, ids: np.ndarray) -> list[float]:
    """Full logits, one token at a time, in float64."""
    out = []
    for row in ids:
        with torch.no_grad():
            logits = module(input_ids=torch.tensor(row[None])).logits[0].double().numpy()
        losses = [
            math.log(sum(math.exp(v - logits[t].max()) for v in logits[t])) + logits[t].max() - logits[t][row[t + 1]]
            for t in range(len(row) - 1)
        ]
        out.append(sum(losses) / len(losses))
    return out


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("chunk", [5, 128])
def test_equals_the_slow_reference(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.measure.quality.CHUNK", chunk)
    lm, tokens = tiny(name), windows()
    expected = slow_nll(lm.module, tokens.ids)
    quality = perplexity(lm, tokens)
    np.testing.assert_allclose(quality.nll_per_window, expected, rtol=2e-6)
    assert quality.perplexity == pytest.approx(math.exp(np.mean(expected)), rel=1e-5)
    assert (quality.tokens, quality.windows) == (5 * 23, 5)


def test_uniform_model_has_the_perplexity_of_its_vocabulary() -> None:
    lm = tiny("llama")
    with torch.no_grad():
        lm.module.lm_head.weight.zero_()
    quality = perplexity(lm, windows())
    assert quality.perplexity == pytest.approx(97, rel=1e-6)
    assert quality.low == pytest.approx(quality.high, rel=1e-6)


def test_interval_is_the_t_interval_of_windows() -> None:
    quality = perplexity(tiny("llama"), windows())
    nll = quality.nll_per_window
    half = 2.776445 * nll.std(ddof=1) / math.sqrt(5)
    assert quality.low == pytest.approx(math.exp(nll.mean() - half), rel=1e-6)
    assert quality.high == pytest.approx(math.exp(nll.mean() + half), rel=1e-6)


def test_partials_converge_to_the_result() -> None:
    steps: list[Step] = []
    quality = perplexity(tiny("llama"), windows(), progress=Progress(steps.append))
    assert [(s.done, s.total) for s in steps] == [(i, 5) for i in range(1, 6)]
    assert all(isinstance(s.partial, Quality) for s in steps)
    assert math.isnan(steps[0].partial.low)
    assert steps[0].partial.nll_per_window.tolist() == quality.nll_per_window[:1].tolist()
    assert steps[-1].partial.perplexity == quality.perplexity


def test_cancel_stops_inside_a_forward_and_leaves_no_hooks() -> None:
    lm, progress = tiny("llama"), Progress()
    lm.module.model.layers[1].mlp.down_proj.register_forward_hook(lambda *_: progress.cancel())
    with pytest.raises(Cancelled):
        perplexity(lm, windows(), progress=progress)
    assert not any(m._forward_pre_hooks for m in lm.module.modules())


def test_protocol_and_repr() -> None:
    quality = perplexity(tiny("llama"), windows())
    assert quality.protocol["seqlen"] == quality.protocol["stride"] == 24
    assert quality.protocol["bos"] == "none"
    assert quality.protocol["dtype"] == quality.protocol["log_softmax"] == "float32"
    assert repr(quality).startswith("Quality(perplexity=")
    text, markup = quality.to_text(), quality.to_html()
    for name in ("Perplexity", "Protocol", "Provenance", "95 % interval", "random ids"):
        assert name in text
        assert name in markup


def test_bfloat16_is_scored_in_float32() -> None:
    lm = LM(tiny("llama").module.bfloat16(), None, "bf16")
    quality = perplexity(lm, windows())
    np.testing.assert_allclose(quality.nll_per_window, slow_nll(lm.module, windows().ids), rtol=1e-6)
    assert quality.protocol["dtype"] == "bfloat16"


def test_pruned_on_the_evaluation_text_is_refused() -> None:
    tokens = Tokens(windows().ids, "book", "abc", (100, 200), "all 5 consecutive windows")
    lm = tiny("llama")
    for span, fine in (((0, 100), True), ((0, 101), False), ((199, 300), False)):
        calibrated = Tokens(windows().ids, "book", "abc", span, "5 random windows", 0)
        pruned = SimpleNamespace(lm=lm, recipe=SimpleNamespace(calibration=calibrated.provenance))
        if fine:
            perplexity(pruned, tokens)
        else:
            with pytest.raises(DataError, match="share 1 characters of 'book'"):
                perplexity(pruned, tokens)


def test_tokens_of_another_vocabulary_are_refused() -> None:
    with pytest.raises(ArgumentError, match="tokens from 0 to 97, but the model knows 0 to 96"):
        perplexity(tiny("llama"), Tokens.of([[0, 97]]))


def test_compare_is_paired() -> None:
    first, second = perplexity(tiny("llama"), windows(40)), perplexity(tiny("llama", 1), windows(40))
    compared = compare(first, second)
    difference = first.nll_per_window - second.nll_per_window
    mean, low, high = mean_interval(difference)
    assert (compared.ratio, compared.low, compared.high) == tuple(map(math.exp, (mean, low, high)))
    assert compared.ratio == pytest.approx(first.perplexity / second.perplexity, rel=1e-12)
    same = compare(first, first)
    assert (same.ratio, same.verdict) == (1.0, "no clear difference")
    with pytest.raises(ArgumentError, match="different windows"):
        compare(first, perplexity(tiny("llama"), windows(40, seed=1)))


def test_compare_says_which_is_lower() -> None:
    good, bad = tiny("llama"), tiny("llama")
    with torch.no_grad():
        good.module.lm_head.weight.zero_()
    a, b = perplexity(good, windows(40)), perplexity(bad, windows(40))
    assert compare(a, b).verdict == "lower"
    assert compare(b, a).verdict == "higher"
    assert "lower" in compare(a, b).to_text()


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [
        (1, 12.7062047),
        (2, 4.30265273),
        (3, 3.18244631),
        (10, 2.22813885),
        (100, 1.98397152),
        (5000, 1.96043855),
    ],
)
def test_t_quantiles(freedom: int, expected: float) -> None:
    assert t_quantile(freedom) == pytest.approx(expected, rel=1e-7)


def test_intervals_cover_what_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = [low < 3.0 < high for _, low, high in (mean_interval(rng.normal(3, 1, 8)) for _ in range(2000))]
    assert 0.93 < np.mean(covered) < 0.97
    middle, low, high = median_interval(np.arange(101.0))
    assert (middle, low < 50 < high) == (50.0, True)
    assert median_interval(np.arange(101.0)) == (middle, low, high)
