"""A head that was planted to count is found, and what is found agrees with the definition worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_lm import byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

import workbench
from workbench.attention import METRICS, classify, heads, successor
from workbench.attention.successor import Ordinals, ordinals
from workbench.errors import ModelError
from workbench.testing import tiny_lm

SIZE = 64


def counting(plant: bool = True):
    """Two layers of two heads with one KV head each; head 1 of layer 1 turns digits and letters into the next.

    Byte tokens; what its value and output weights have to carry is solved for, from the model's own states.
    """
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=SIZE, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=SIZE, max_position_embeddings=256, tie_word_embeddings=False,
        initializer_range=0.2,
    )  # fmt: skip
    lm = workbench.wrap(LlamaForCausalLM(config), byte_tokenizer())
    if plant:
        classes = ordinals(lm.tokenizer)
        read = torch.tensor([c.ids[i] for c in classes for i, _ in c.pairs])
        written = torch.tensor([c.ids[j] for c in classes for _, j in c.pairs])
        layer = lm.module.model.layers[1]
        with torch.no_grad():
            seen = layer.input_layernorm(state_of(lm, read))
            wanted = lm.module.lm_head.weight[written]
            found = torch.linalg.lstsq(seen, wanted / wanted.norm(dim=1, keepdim=True)).solution  # [in, hidden]
            layer.self_attn.v_proj.weight[SIZE:] = torch.eye(SIZE)
            layer.self_attn.o_proj.weight[:, SIZE:] = found.T
    return lm


def state_of(lm, tokens):
    """x_t of the definition, by the names of this family."""
    first = lm.module.model.layers[0]
    embedded = lm.module.model.embed_tokens(tokens)
    return embedded + first.mlp(first.post_attention_layernorm(embedded))


def test_a_planted_successor_head_is_found():
    lm = counting()
    scores = successor(lm)
    assert scores.shape == (2, 2)
    assert scores.dtype == np.float32
    assert scores[1, 1] == 1
    assert np.delete(scores.reshape(-1), 3).max() < 0.3
    assert successor(counting(plant=False)).max() < 0.3
    table = heads(lm, np.arange(40, 120))
    assert np.array_equal(table.metrics["successor"], scores)
    assert table.kinds[1, 1] == "successor"
    assert "successor" in table.to_text()


def test_scores_are_those_of_the_definition():
    lm = counting(plant=False)
    classes = ordinals(lm.tokenizer)
    assert [(c.name, len(c.ids), len(c.pairs)) for c in classes] == [("numbers", 10, 9), ("letters", 26, 25)]
    model, wanted = lm.module.model, np.zeros((2, 2))
    for layer, head in np.ndindex(2, 2):
        attention, rows = model.layers[layer].self_attn, slice(head * SIZE, (head + 1) * SIZE)
        hits = []
        for each in classes:
            for i, j in each.pairs:
                with torch.no_grad():
                    x = model.layers[layer].input_layernorm(state_of(lm, torch.tensor([each.ids[i]])))
                    written = attention.o_proj.weight[:, rows] @ (attention.v_proj.weight[rows] @ x[0])
                    logits = lm.module.lm_head(model.norm(written))[list(each.ids)]
                hits.append(int(logits.argmax()) == j)
        wanted[layer, head] = np.mean(hits)
    np.testing.assert_allclose(successor(lm), wanted, atol=1e-6)


def test_days_go_round_and_only_single_tokens_count():
    class Words:
        """Every word that has a blank before it is one token, but for Wednesday."""

        known: dict[str, int] = {}  # noqa: RUF012 - a stand-in

        def __call__(self, text, **_):
            single = text.startswith(" ") and text != " Wednesday"
            return {"input_ids": [self.known.setdefault(text, len(self.known))] if single else [0, 0]}

    found = {c.name: c for c in ordinals(Words())}
    assert len(found["numbers"].pairs) == 200
    assert found["days"].pairs == ((0, 1), (2, 3), (3, 4), (4, 5), (5, 0))  # none into Wednesday, none out of it
    assert found["months"].pairs[-1] == (11, 0)
    assert found["letters"].pairs[-1] == (24, 25)


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3", "gpt2", "gpt_neox", "opt", "olmo2", "qwen3"])
def test_every_family_can_be_read_and_is_left_as_it_was(family):
    lm = tiny_lm(family)
    before = lm.fingerprint
    scores = successor(lm, [Ordinals("some", (5, 6, 7, 8), ((0, 1), (1, 2), (2, 3), (3, 0)))])
    assert scores.shape == (4, 8)
    assert set(np.unique(scores * 4)) <= {0, 1, 2, 3, 4}
    assert lm.fingerprint == before
    assert not any(m._forward_pre_hooks for m in lm.module.modules())


def test_without_a_tokenizer_there_is_no_score():
    lm = tiny_lm(max_position_embeddings=256)
    with pytest.raises(ModelError, match="has no tokenizer"):
        successor(lm)
    with pytest.raises(ModelError, match="single tokens"):
        successor(lm, [])
    metrics = heads(lm, range(3, 90)).metrics
    assert "successor" not in metrics
    assert set(classify(metrics, 87).reshape(-1)) <= {"broad", "local", "sink", "retrieval"}
    assert set(metrics) == {*METRICS, "induction"}
