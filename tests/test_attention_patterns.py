"""Sparse patterns: a full budget is dense, masks are their definitions, recall is counted key by key."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.attention import Passing, watched
from workbench.attention.patterns import attend, registry, resolve, sparse_prefill
from workbench.attention.patterns.block_top import means
from workbench.errors import ArgumentError, Cancelled, ModelError
from workbench.jobs import Progress
from workbench.testing import logits, tiny_lm, tiny_tokens

LENGTH = 300
FULL = {
    "a-shape": {"sinks": 0, "local": LENGTH},
    "block-top": {"budget": 1.0},
    "vertical-slash": {"vertical": 1.0, "slash": 0.01},
}


def text(length=LENGTH):
    return tiny_tokens(1, length, seed=3)


def model(**changes):
    return tiny_lm("llama", head_dim=16, max_position_embeddings=512, **changes)


def made(length=LENGTH, heads=2, dim=16, seed=0):
    random = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(h, length, dim, generator=random) for h in (heads, 1, 1))
    return Passing(0, q, k, v, dim**-0.5)


def test_there_is_a_full_budget_for_each():
    assert set(FULL) == set(registry())


@pytest.mark.parametrize("name", sorted(FULL))
def test_a_full_budget_is_dense(name):
    lm, tokens = model(), text()
    full = resolve(name, FULL[name])
    with watched(lm, lambda passing: attend(passing, full.masks(passing))):
        assert torch.allclose(logits(lm, tokens), logits_of(lm, tokens), atol=2e-4)
    (row,) = sparse_prefill(lm, tokens.ids[0], [full]).rows
    assert row.recall == pytest.approx(1, abs=1e-5)
    assert row.cost == 1
    assert abs(row.divergence) < 1e-5


def logits_of(lm, tokens):
    """The model's own, though its attention is watched now."""
    with watched(lm, lambda passing: passing.dense()):
        return logits(lm, tokens)


def test_kept_blocks_are_all_that_is_attended_to():
    passing = made()
    masks = np.random.default_rng(0).random((2, 5, 5)) < 0.5
    masks |= np.eye(5, dtype=bool)
    masks &= np.tri(5, dtype=bool)
    found = attend(passing, masks)
    wide = torch.from_numpy(masks.repeat(64, 1).repeat(64, 2)[:, :LENGTH, :LENGTH])
    for head in range(2):
        scores = passing.scores(head).masked_fill(~wide[head], -1e30)
        assert torch.allclose(found[head], torch.softmax(scores, -1) @ passing.value[0], atol=1e-5)


def test_a_shape_is_sinks_and_a_window():
    kept = resolve("a-shape", {"sinks": 64, "local": 65}).keep(made(), 0)
    for i in range(5):
        for j in range(i + 1):
            assert kept[i, j] == (j == 0 or i - j <= 2)


def test_block_top_keeps_the_blocks_most_alike():
    passing = made()
    kept = resolve("block-top", {"budget": 0.5}).keep(passing, 1)
    q = [passing.query[1, s : s + 64].mean(0) for s in range(0, LENGTH, 64)]
    k = [passing.key[0, s : s + 64].mean(0) for s in range(0, LENGTH, 64)]
    assert torch.allclose(torch.stack(q), means(passing.query[1]))
    for i in range(5):
        order = sorted(range(i + 1), key=lambda j: -float(q[i] @ k[j]))
        assert set(np.flatnonzero(kept[i])) == set(order[: max(1, round(0.5 * (i + 1)))])


def test_planted_columns_and_diagonals_are_found():
    passing = made()
    query, key = torch.zeros(1, LENGTH, 16), torch.zeros(1, LENGTH, 16)
    query[:, :, 0] = 8
    key[:, 70, 0] = 8  # every query looks at key 70
    found = Passing(0, query, key, passing.value, 1.0)
    columns, _ = resolve("vertical-slash", {"vertical": 1 / LENGTH}).lines(found, 0)
    assert columns.tolist() == [70]
    step = torch.arange(LENGTH)
    angles = step[:, None] * torch.tensor([0.05, 0.31, 1.7, 2.9])
    key = torch.cat([angles.cos(), angles.sin()], 1)[None] * 6
    shifted = (step - 100)[:, None] * torch.tensor([0.05, 0.31, 1.7, 2.9])
    query = torch.cat([shifted.cos(), shifted.sin()], 1)[None] * 6
    found = Passing(0, query, key, passing.value[:, :, :8], 1.0)
    _, diagonals = resolve("vertical-slash", {"slash": 1 / LENGTH}).lines(found, 0)
    assert diagonals.tolist() == [100]
    kept = resolve("vertical-slash", {"vertical": 1 / LENGTH, "slash": 1 / LENGTH}).keep(found, 0)
    assert all(kept[i, i - d] for d in (1, 2) for i in range(d, 5))  # distance 100 lies one or two blocks off


def test_recall_is_the_mass_that_is_kept():
    lm, tokens = model(), text(150)
    (row,) = sparse_prefill(lm, tokens.ids[0], [resolve("a-shape", {"sinks": 0, "local": 1})]).rows
    lm.module.set_attn_implementation("eager")
    with torch.no_grad():
        maps = lm.module(torch.from_numpy(tokens.ids), output_attentions=True).attentions
    for layer, one in enumerate(maps):
        i, j = np.indices((150, 150)) // 64
        mass = (one[0].double().numpy() * (i - j <= 1)).sum((1, 2)) / 150
        np.testing.assert_allclose(row.recalls[layer], mass, atol=1e-5)
    assert (row.costs == 5 / 6).all()
    assert row.divergence > 0


def test_all_patterns_in_one_table_and_errors():
    lm, tokens = model(), text(200)
    table = sparse_prefill(lm, tokens.ids[0])
    assert [r.name for r in table.rows] == sorted(registry())
    assert all(0 < r.cost <= 1 and 0 < r.recall <= 1.00001 for r in table.rows)
    assert "recall" in table.to_text()
    progress = Progress()
    progress.cancel()
    with pytest.raises(Cancelled):
        sparse_prefill(lm, tokens.ids[0], progress=progress)
    for call, error, message in (
        (lambda: sparse_prefill(lm, [1]), ArgumentError, "1 tokens"),
        (lambda: sparse_prefill(lm, tokens.ids[0], "a-shap"), ArgumentError, "a-shape"),
        (lambda: resolve("block-top", {"budget": 0}), ArgumentError, "budget=0"),
        (lambda: resolve("vertical-slash", {"probe": 0}), ArgumentError, "probe=0"),
        (lambda: resolve("a-shape", {"local": 0}), ArgumentError, "local=0"),
        (lambda: sparse_prefill(tiny_lm("gemma2"), tiny_tokens(1, 40).ids[0]), ModelError, "window|capped"),
    ):
        with pytest.raises(error, match=message):
            call()
