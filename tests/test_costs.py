"""Counted FLOPs against PyTorch's own counter, on uniform and ragged models; sizes; bytes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
)

from workbench.errors import ArgumentError
from workbench.measure import cost, size

LLAMA = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**LLAMA),
    "tied": LlamaConfig(**LLAMA, tie_word_embeddings=True),
    "gpt2": GPT2Config(vocab_size=97, n_embd=32, n_layer=3, n_head=4),
}


def tiny(config: PretrainedConfig) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


def ragged() -> Any:
    """A Llama whose second layer has lost 17 neurons."""
    module = tiny(CONFIGS["llama"])
    mlp = module.model.layers[1].mlp
    for part, axis in ((mlp.gate_proj, 0), (mlp.up_proj, 0), (mlp.down_proj, 1)):
        part.weight = torch.nn.Parameter(part.weight.detach().narrow(axis, 0, 31).clone())
        part.out_features, part.in_features = part.weight.shape
    return module


def counted(module: Any, tokens: int, context: int, batch: int) -> int:
    """PyTorch's count of one pass; it computes whole score matrices."""
    cache = DynamicCache(config=module.config)
    with torch.no_grad():
        if context:
            module(input_ids=torch.zeros(batch, context, dtype=torch.long), past_key_values=cache)
        with FlopCounterMode(display=False) as counter:
            module(input_ids=torch.zeros(batch, tokens, dtype=torch.long), past_key_values=cache)
    return int(counter.get_total_flops())


@pytest.mark.parametrize("name", [*CONFIGS, "ragged"])
@pytest.mark.parametrize(("tokens", "context", "batch"), [(1, 0, 1), (1, 9, 1), (1, 9, 3), (7, 0, 2), (5, 6, 1)])
def test_flops_are_pytorchs(name: str, tokens: int, context: int, batch: int) -> None:
    module = ragged() if name == "ragged" else tiny(CONFIGS[name])
    ours = cost(module, tokens=tokens, context=context, batch=batch)
    unseen = tokens * (tokens - 1) // 2  # PyTorch computes what the causal mask then hides
    assert ours.flops + 4 * 32 * 3 * unseen * batch == counted(module, tokens, context, batch)
    assert sum(f for f, _ in ours.by_module.values()) == ours.flops
    assert ours.flops_per_token * tokens * batch == pytest.approx(ours.flops)


def test_closed_form() -> None:
    c = cost(tiny(CONFIGS["llama"]), tokens=1, context=9)
    layer = 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 48
    assert c.flops == 2 * (3 * layer + 32 * 97) + 3 * 4 * 4 * 8 * 10
    assert c.kv_cache_bytes == 3 * 2 * 2 * 8 * 10 * 4
    assert c.bytes_moved == 4 * (3 * layer + 32 * 97 + 32) + 3 * 2 * 2 * 8 * (10 + 1) * 4
    assert c.by_module["q_proj"] == (2 * 3 * 32 * 32, 4 * 3 * 32 * 32)


def test_head_for_the_last_token_only() -> None:
    module = tiny(CONFIGS["llama"])
    every, last = (cost(module, tokens=8, all_logits=x) for x in (True, False))
    assert every.flops - last.flops == 2 * 32 * 97 * 7


@pytest.mark.parametrize(
    ("config", "windows"),
    [
        (MistralConfig(**LLAMA, sliding_window=4), [4, 4, 4]),
        (MistralConfig(**LLAMA, sliding_window=None), [99, 99, 99]),
        (Gemma2Config(**LLAMA, sliding_window=4), [4, 99, 4]),
    ],
)
def test_sliding_windows(config: PretrainedConfig, windows: list[int]) -> None:
    c = cost(tiny(config), tokens=3, context=6)
    pairs = sum(min(p + 1, w) for w in windows for p in (6, 7, 8))
    assert c.by_module["attention"][0] == 4 * 4 * 8 * pairs
    assert c.kv_cache_bytes == sum(min(9, w) for w in windows) * 2 * 2 * 8 * 4


def test_removed_neurons_are_cheaper_and_zeros_are_not() -> None:
    dense, small = tiny(CONFIGS["llama"]), ragged()
    assert cost(dense).flops - cost(small).flops == 2 * 3 * 32 * 17
    zeroed = tiny(CONFIGS["llama"])
    with torch.no_grad():
        zeroed.model.layers[0].mlp.up_proj.weight[:, ::2] = 0
    assert cost(zeroed).flops == cost(dense).flops
    assert size(zeroed).zero_parameters - size(dense).zero_parameters == 32 * 48 // 2
    assert size(dense).parameters - size(small).parameters == 3 * 32 * 17
    assert size(dense).weight_bytes - size(small).weight_bytes == 4 * 3 * 32 * 17


@pytest.mark.parametrize("tied", [True, False])
def test_size_counts_shared_weights_once(tied: bool) -> None:
    s = size(tiny(CONFIGS["tied" if tied else "llama"]))
    layer = 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 48 + 64
    assert s.embedding_parameters == 32 * 97 * (1 if tied else 2)
    assert s.non_embedding_parameters == 3 * layer + 32
    assert s.weight_bytes == 4 * s.parameters


def test_bfloat16_halves_the_bytes() -> None:
    module = tiny(CONFIGS["llama"])
    full, full_size = cost(module, context=5), size(module)
    half = module.bfloat16()
    assert cost(half, context=5).bytes_moved * 2 == full.bytes_moved
    assert size(half).weight_bytes * 2 == full_size.weight_bytes


def test_rendering_and_errors() -> None:
    c = cost(tiny(CONFIGS["llama"]), context=5)
    for part in ("By module", "q_proj", "kv_cache", "FLOPs per token"):
        assert part in c.to_text()
        assert part in c.to_html()
    assert repr(c).startswith("Cost(tokens=1, context=5")
    assert "bytes of weights" in size(tiny(CONFIGS["llama"])).to_text()
    with pytest.raises(ArgumentError, match="tokens=0: a whole number of at least 1"):
        cost(tiny(CONFIGS["llama"]), tokens=0)
    with pytest.raises(ArgumentError, match="context=-1: a whole number of at least 0"):
        cost(tiny(CONFIGS["llama"]), context=-1)
