"""Moving keys: a key that was moved is the key that the model would have computed there."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from workbench.attention.rotating import Rotation
from workbench.attention.watching import Passing, watched
from workbench.errors import ArgumentError, ModelError
from workbench.models import LM
from workbench.testing import tiny_lm


def neox() -> LM:
    config = GPTNeoXConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, rotary_pct=0.25
    )
    return LM(GPTNeoXForCausalLM(config).eval(), None, "memory")


def first_layer(lm: LM, start: int) -> Passing:
    """What the first layer's attention is given for the same tokens at other positions."""
    seen: dict[int, Passing] = {}

    def observe(passing: Passing) -> torch.Tensor:
        seen[passing.layer] = passing
        return passing.dense()

    with torch.no_grad(), watched(lm, observe):
        lm.module(torch.arange(1, 9)[None], position_ids=torch.arange(start, start + 8)[None])
    return seen[0]


@pytest.mark.parametrize("make", [tiny_lm, neox])
def test_a_moved_key_is_the_key_computed_there(make):
    lm = make()
    rotation = Rotation.of(lm)
    here, there = first_layer(lm, 3), first_layer(lm, 40)
    for name in ("key", "query"):
        torch.testing.assert_close(rotation.turn(getattr(here, name), 37), getattr(there, name), atol=2e-5, rtol=2e-5)
        torch.testing.assert_close(rotation.turn(getattr(there, name), -37), getattr(here, name), atol=2e-5, rtol=2e-5)
    assert (here.key - there.key).abs().max() > 1e-3


def test_every_row_may_go_its_own_way():
    rotation = Rotation.of(tiny_lm())
    states = torch.randn(2, 5, 2 * len(rotation.frequencies))
    by = torch.tensor([0, 3, -2, 100, 7])
    moved = rotation.turn(states, by)
    for row, steps in enumerate(by.tolist()):
        assert torch.equal(moved[:, row], rotation.turn(states[:, row : row + 1], steps)[:, 0])
    assert torch.equal(moved[:, 0], states[:, 0])


def test_what_cannot_be_moved_says_so():
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=97, n_embd=32, n_layer=1, n_head=2))
    with pytest.raises(ModelError, match="no rotary embedding"):
        Rotation.of(LM(gpt2, None, "memory"))
    with pytest.raises(ArgumentError, match="one number of positions"):
        Rotation.of(tiny_lm()).turn(torch.zeros(4, 64), torch.zeros(3))
