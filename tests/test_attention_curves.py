"""Curves of patterns, and the checks of their claims."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from workbench.attention import watched
from workbench.attention.patterns import curves, registry, resolve, sparse_prefill
from workbench.attention.patterns.claims import Beyond, Divergence, FoundAnew, Needle, PatternContext, Recall
from workbench.claims import HELD, NOT_HELD, claims
from workbench.data import Text, Tokens
from workbench.errors import ArgumentError, Cancelled
from workbench.jobs import Progress
from workbench.measure._head import split_head
from workbench.models import LM
from workbench.testing import tiny_lm, tiny_tokenizer, tiny_tokens

LENGTH = 330


def model(**changes):
    return tiny_lm("llama", head_dim=16, max_position_embeddings=1024, **changes)


def text(length=LENGTH, samples=1, seed=3):
    return tiny_tokens(samples, length, seed=seed)


def maps(lm, ids):
    lm.module.set_attn_implementation("eager")
    with torch.no_grad():
        found = lm.module(torch.from_numpy(ids)[None], output_attentions=True).attentions
    lm.module.set_attn_implementation("sdpa")
    return [one[0].double().numpy() for one in found]


def test_recall_and_cost_of_every_pattern_against_whole_maps():
    lm, ids = model(), text().ids[0]
    found = curves(lm, ids, points=(0.3, 0.7), divergence=False)
    assert [(r.name, r.budget) for r in found.rows] == [(n, b) for n in sorted(registry()) for b in (0.3, 0.7)]
    assert (found.tokens, found.blocks) == (LENGTH, 6)
    whole = maps(lm, ids)
    for row in found.rows:
        for layer, one in enumerate(whole):
            for head in range(len(one)):
                kept = found.kept(row, layer, head)
                assert kept.diagonal().all()
                assert not np.triu(kept, 1).any()
                wide = kept.repeat(64, 0).repeat(64, 1)[:LENGTH, :LENGTH]
                assert row.recalls[layer, head] == pytest.approx((one[head] * wide).sum() / LENGTH, abs=1e-4)
                assert row.costs[layer, head] == pytest.approx(kept.sum() / 21)
        assert row.recall == pytest.approx(row.recalls.mean())
        assert math.isnan(row.seconds)
        assert math.isnan(row.divergence)
        assert row.divergences is None
    assert "recall" in found.to_text()
    assert '"recalls"' not in str(found.to_dict())


def test_a_budget_of_one_is_dense_for_all_patterns():
    found = curves(model(), text().ids[0], points=(1.0,), divergence=True)
    for row in found.rows:
        assert row.cost == 1
        assert row.recall == pytest.approx(1, abs=1e-5)
        assert (row.divergences == 0).all()  # the same kernel ran all blocks: equal to the bit
        assert row.seconds > 0


def test_more_budget_keeps_more():
    found = curves(model(), text(700).ids[0], points=(0.2, 0.5, 0.8, 1.0), divergence=False)
    for name in registry():
        costs = [r.cost for r in found.of(name)]
        recalls = [r.recall for r in found.of(name)]
        assert costs == sorted(costs), name
        assert recalls == sorted(recalls), name
        assert costs[0] < (1 if name == "qwen-1m" else 0.6)  # which has a recall to reach, here of flat attention
        assert found.recall_at(name, costs[1]) == pytest.approx(recalls[1])
        middle = found.recall_at(name, (costs[0] + costs[1]) / 2)
        assert recalls[0] <= middle <= recalls[1] or costs[0] == costs[1]


def test_divergence_position_by_position():
    lm, ids = model(), text().ids[0]
    narrow = resolve("a-shape", {"sinks": 0, "local": 64})
    found = curves(lm, ids, [narrow], (0.1, 0.5), divergence=0.1)
    first, second = found.rows
    assert second.divergences is None
    with torch.no_grad():
        dense = torch.log_softmax(lm.module(torch.from_numpy(ids)[None]).logits[0].double(), -1)
        with watched(lm, lambda p: narrow.attend(p, narrow.masks(p))):
            sparse = torch.log_softmax(lm.module(torch.from_numpy(ids)[None]).logits[0].double(), -1)
    expected = (dense.exp() * (dense - sparse)).sum(-1).numpy()
    np.testing.assert_allclose(first.divergences, expected, atol=2e-5)
    assert first.divergences[:128] == pytest.approx(0, abs=1e-5)  # they see all keys
    assert first.divergence == pytest.approx(expected.mean(), abs=1e-5)
    (row,) = sparse_prefill(lm, ids, [narrow]).rows
    assert (row.recall, row.cost) == (first.recall, first.cost)
    assert row.divergence == pytest.approx(first.divergence, abs=1e-7)


def test_models_that_make_logits_in_their_own_way():
    for family in ("llama", "gemma2", "granite"):
        try:
            lm = tiny_lm(family)
        except ArgumentError:
            continue
        ids = torch.from_numpy(tiny_tokens(1, 20).ids)
        read, logits = split_head(lm.module, ids[:, :8])
        with torch.no_grad():
            true = lm.module(ids).logits[0]
            assert torch.allclose(logits(read(ids)), true, atol=1e-4)


def test_errors_and_cancelling():
    lm, ids = model(), text(130).ids[0]
    for arguments, message in (
        ({"points": ()}, "at least one"),
        ({"patterns": []}, "at least one"),
        ({"points": (0.0,)}, "points=0"),
        ({"patterns": ["block-to"]}, "block-top"),
    ):
        with pytest.raises(ArgumentError, match=message):
            curves(lm, ids, **arguments)
    with pytest.raises(ArgumentError, match="1 tokens"):
        curves(lm, ids[:1])
    progress = Progress()
    progress.cancel()
    with pytest.raises(Cancelled):
        curves(lm, ids, "a-shape", progress=progress)


def context(samples=3, length=400, **changes):
    content = " ".join(str(n) for n in range(4000))
    tokens = Tokens(tiny_tokens(samples, length, seed=5).ids, "numbers", "abc", (0, 10), "first")
    lm = model(**changes)
    lm = LM(lm.module, tiny_tokenizer(), lm.source)
    return PatternContext(lm, tokens, Text(content, "numbers", "abc", (0, len(content))), threads=1)


def test_every_pattern_has_a_claim():
    known = claims()
    for name, cls in registry().items():
        assert known[name] is cls.claim
        assert cls.claim.needs is PatternContext
        assert cls.claim.statement.endswith(".")
    assert "block" in context().conditions().summary()
    assert [n for n, _ in context().conditions().rows()] == ["model", "threads", "text", "tokens of a piece"]


def test_recall_compares_at_equal_cost():
    given = context()
    same = Recall(than=("a-shape",), budget=0.5)(given, "a-shape")
    assert same.estimate == pytest.approx(0, abs=0.02)
    best = Recall(than=("a-shape",), budget=1.0)(given, "block-top")
    assert best.estimate == pytest.approx(0, abs=1e-6)  # at full cost the other has everything, too
    found = Recall(than=("a-shape", "block-top"), elsewhere=True, budget=0.5)(given, "minference")
    assert len(found.runs) == 3
    assert "the best of a-shape, block-top at equal cost" in found.asked


def test_blocks_of_another_text_are_those_of_the_next_piece():
    given = context()
    found = FoundAnew(budget=0.5)(given, "block-top")
    own = [given.curves(n, [resolve("block-top")], (0.5,)).rows[0] for n in range(3)]
    for n, run in enumerate(found.runs):
        assert run.own == pytest.approx(own[n].recall)
        whole, total = maps(given.lm, given.tokens.ids[n]), []
        other = given.curves((n + 1) % 3, [resolve("block-top")], (0.5,))
        for layer, one in enumerate(whole):
            for head in range(len(one)):
                wide = other.kept(other.rows[0], layer, head).repeat(64, 0).repeat(64, 1)[:400, :400]
                total.append((one[head] * wide).sum() / 400)
        assert run.other == pytest.approx(np.mean(total), abs=1e-4)


def test_divergence_and_text_beyond_the_trained_length():
    given = context()
    found = Divergence(than="a-shape", than_parameters={"sinks": 64}, budget=0.6)(given, "a-shape")
    assert found.estimate == pytest.approx(1)
    with pytest.raises(ArgumentError, match="of the blocks"):
        Divergence(than="block-top", budget=0.3)(given, "a-shape")


def test_losses_are_those_of_the_dense_model_at_full_budget():
    given = context()
    ids = given.tokens.ids[0]
    lost, cost = given.losses(ids, resolve("block-top", {"budget": 1.0}), 300)
    with torch.no_grad():
        logits = given.lm.module(torch.from_numpy(ids)[None]).logits[0]
    expected = torch.nn.functional.cross_entropy(logits[299:-1], torch.from_numpy(ids[300:]), reduction="none")
    np.testing.assert_allclose(lost, expected.numpy(), atol=1e-3)
    assert cost == 1


def test_needle_and_beyond_run_on_texts(monkeypatch):
    given = context(length=400)
    lost = {"qwen-1m": 2.0, "block-top": 3.0, "infllm": 1.0, "a-shape": 1.5}

    def losses(_, ids, pattern, first):
        return np.full(len(ids) - first, lost[pattern.name]), 1.0

    monkeypatch.setattr(PatternContext, "losses", losses)
    found = Beyond(longer=2.0)(given, "qwen-1m")
    assert found.status == HELD
    assert found.estimate == pytest.approx(math.exp(-1))
    assert [r.item for r in found.runs] == ["tokens 1024 on", "tokens 1536 on"]
    assert Needle(than="a-shape")(given, "infllm").status == HELD
    lost["infllm"] = 2.0
    assert Needle(than="a-shape")(given, "infllm").status == NOT_HELD
