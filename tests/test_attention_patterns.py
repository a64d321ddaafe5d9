"""Sparse patterns: a full budget is dense, masks are their definitions, recall is counted key by key."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.attention import Passing, watched
from workbench.attention.patterns import attend, registry, resolve, sparse_prefill
from workbench.attention.patterns._dual_chunk import DualChunk
from workbench.attention.patterns.block_top import means
from workbench.attention.rotating import Rotation
from workbench.errors import ArgumentError, Cancelled, ModelError
from workbench.jobs import Progress
from workbench.testing import logits, tiny_lm, tiny_tokens

LENGTH = 300
FULL = {
    "a-shape": {"sinks": 0, "local": LENGTH},
    "block-top": {"budget": 1.0},
    "vertical-slash": {"vertical": 1.0, "slash": 0.01},
    "minference": {"budget": 1.0},
    "qwen-1m": {"recall": 1.0},
    "infllm": {"budget": 1.0},
    "actqkv": {"budget": 1.0},
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
    passing = made()
    lower = np.broadcast_to(np.tri(5, dtype=bool), (2, 5, 5))
    assert torch.equal(full.attend(passing, full.masks(passing)), attend(passing, lower))
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
        (lambda: resolve("infllm", {"representatives": 65}), ArgumentError, "representatives=65"),
        (lambda: resolve("actqkv", {"budget": 0.0}), ArgumentError, "budget=0"),
        (lambda: resolve("minference", {"probe": 0}), ArgumentError, "probe=0"),
        (lambda: resolve("qwen-1m", {"read": 100}), ArgumentError, "read=100"),
        (lambda: resolve("qwen-1m", {"trained": 100}), ArgumentError, "trained=100"),
        (lambda: sparse_prefill(tiny_lm("gemma2"), tiny_tokens(1, 40).ids[0]), ModelError, "window|capped"),
    ):
        with pytest.raises(error, match=message):
            call()


def text_like(length=640, heads=2, shared=1, dim=16, seed=0, layer=0):
    """Queries and keys that are alike in places, so that there is something to choose."""
    random = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(h, length, dim, generator=random) for h in (heads, shared, shared))
    return Passing(layer, 2 * q + 0.5 * k.repeat_interleave(heads // shared, 0).roll(70, 1), k, v, dim**-0.5)


def test_infllm_looks_up_blocks_by_their_representatives():
    passing = text_like()
    pattern = resolve("infllm", {"sinks": 64, "local": 128, "representatives": 3, "budget": 0.6})
    representatives = {}
    for h in range(2):
        q, k = passing.query[h], passing.key[0]
        wanted = [q[m + 1 : m + 129].mean(0) @ k[m] if m < 639 else q[639] @ k[639] for m in range(640)]
        for b in range(10):
            best = sorted(range(64 * b, 64 * b + 64), key=lambda m: -float(wanted[m]))[:3]
            representatives[h, b] = best
    for i in range(10):
        score = [
            sum(float(passing.query[h, n] @ passing.key[0, m]) for h in range(2) for n in range(64 * i, 64 * i + 64)
                for m in representatives[h, b])
            for b in range(i + 1)
        ]  # fmt: skip
        always = {b for b in range(i + 1) if b == 0 or i - b <= 2}
        others = sorted(set(range(i + 1)) - always, key=lambda b: -score[b])
        expected = always | set(others[: max(0, round(0.6 * (i + 1)) - len(always))])
        for head in range(2):
            assert set(np.flatnonzero(pattern.masks(passing)[head, i])) == expected


def test_the_probe_weighs_unusual_queries():
    passing = text_like()
    pattern = resolve("actqkv", {"sinks": 0, "local": 64, "representatives": 64, "budget": 0.5, "by_density": False})
    flat = torch.cat([passing.query[0], passing.query[1]], 1).double().numpy()
    scores = np.zeros((10, 10))
    for i in range(10):
        so_far, own = flat[: 64 * (i + 1)], flat[64 * i : 64 * (i + 1)]
        variance = so_far.var(0)
        bias = ((own - so_far.mean(0)) ** 2 / (variance + variance.mean() / 100)).mean(1)
        probe = (bias[:, None] * own).sum(0) / bias.sum()
        for j in range(10):
            key = np.tile(passing.key[0, 64 * j : 64 * j + 64].double().numpy().mean(0), 2)
            scores[i, j] = probe @ key / np.linalg.norm(probe) / np.linalg.norm(key)
    np.testing.assert_allclose(pattern.scores(passing), scores, atol=1e-5)
    plain = replace(pattern, biased=False)
    assert np.abs(plain.scores(passing) - scores).max() > 1e-2
    kept = pattern.masks(passing)
    for i in range(10):
        always = {b for b in range(i + 1) if i - b <= 1}
        others = sorted(set(range(i + 1)) - always, key=lambda b: -scores[i, b])
        assert set(np.flatnonzero(kept[0, i])) == always | set(others[: max(0, round(0.5 * (i + 1)) - len(always))])


def test_layers_whose_blocks_are_wanted_evenly_get_more():
    even, uneven = text_like(), text_like(layer=1)
    uneven.query[..., 0] += 8
    uneven.key[:, ::, 0] = -8
    uneven.key[:, 128:192, 0] = 8  # one block is wanted, the others are not
    pattern = resolve("actqkv", {"sinks": 0, "local": 64, "budget": 0.4})
    shares = []
    for passing in (even, uneven):
        p = torch.softmax(torch.from_numpy(pattern.scores(passing)[9]), 0)
        shares.append(float(-(p * p.log()).sum()))
        pattern.masks(passing)
    assert shares[1] < shares[0]
    first, second = pattern.densities[0], pattern.densities[1]
    assert 0 < second < first <= 1
    assert pattern.budget_of(even, pattern.scores(even)) == 0.4
    assert pattern.budget_of(uneven, pattern.scores(uneven)) == pytest.approx(0.4 * second / ((first + second) / 2))


def planted(kind, length=1280):
    """One head of a kind: a few columns, a diagonal, the newest keys, or whole blocks of its own kind."""
    value = torch.randn(1, length, 16, generator=torch.Generator().manual_seed(0))
    query, key = torch.zeros(1, length, 16), torch.zeros(1, length, 16)
    step = torch.arange(length)
    waves = torch.tensor([0.17, 0.31, 0.57, 0.9, 1.9, 2.3, 2.9])
    if kind in ("column", "diagonal"):  # some blocks are liked as a whole, but none of their keys enough to matter
        query[..., 15], key[:, step // 64 % 3 == 1, 15] = 1, 10
    if kind == "column":
        query[..., 0], key[:, [200, 400], 0] = 8, 8
    elif kind in ("diagonal", "local"):
        shift = 500 if kind == "diagonal" else 0
        waves = waves if shift else torch.tensor([0.005, 0.031, 0.17, 0.9, 1.9, 2.3, 2.9])
        for x, at in ((key, step), (query, step - shift)):
            angles = at[:, None] * waves
            x[..., :14] = torch.cat([angles.cos(), angles.sin()], 1) * 4
    else:
        colour = torch.nn.functional.one_hot(torch.randint(8, (20,), generator=torch.Generator().manual_seed(1)), 8)
        query[..., :8] = key[..., :8] = colour.repeat_interleave(64, 0)[:length].float() * 5
    return Passing(0, query, key, value, 1.0)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("column", "vertical-slash"), ("diagonal", "vertical-slash"), ("blocks", "block-top"), ("local", "a-shape")],
)
def test_minference_finds_what_a_head_is(kind, name):
    passing = planted(kind)
    chosen = resolve("minference", {"budget": 0.35})
    first = chosen.masks(passing)
    assert chosen.choice[0, 0].name == name
    assert first.sum() <= 0.35 * 210 + 20  # the budget, and the diagonal
    other = replace(chosen, choice={(0, 0): resolve("a-shape", {"sinks": 0, "local": 64})})
    assert other.masks(passing).sum() == 39  # a choice that is there is not made anew
    assert chosen.kinds() == {name: 1}
    assert chosen.within(0.5, 1280).choice == {}


def test_qwen_takes_the_fewest_lines_that_keep_the_recall():
    passing = planted("column", 640)
    few = resolve("qwen-1m", {"recall": 0.5, "read": 320}).keep(passing, 0)
    assert few[4:5, 3].all()  # the first chunk has key 200 alone
    assert few[5:, 3].all() or few[5:, 6].all()
    sizes = []
    for recall in (0.3, 0.6, 0.9, 0.99, 1.0):
        chosen = resolve("qwen-1m", {"recall": recall, "read": 128})
        random = text_like()
        kept = chosen.masks(random)
        sizes.append(int(kept.sum()))
        for head in range(2):
            p = torch.softmax(random.scores(head), -1).numpy()
            for end in range(128, 641, 128):
                own = p[end - 64 : end].sum(0).reshape(10, 64).sum(1)
                assert own[kept[head, end // 64 - 1]].sum() >= recall * 64 - 1e-3
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] == 2 * 55


def slow_dual_chunk(passing, rotation, chunk, local, seen):
    """Every query and key turned back to position 0, then to its own place for each pair."""
    length, found = passing.key.shape[1], []
    at = torch.arange(length)
    for head in range(len(passing.query)):
        q = rotation.turn(passing.query[head], -at).double()
        k = rotation.turn(passing.key[head // passing.group], -at).double()
        half = len(rotation.frequencies)
        i, j = at[:, None], at[None]
        kind = i // chunk - j // chunk
        to = torch.where(kind == 0, i % chunk, torch.where(kind == 1, (i % chunk + chunk).clamp(max=chunk + local),
                         chunk + local))  # fmt: skip
        way = (to - j % chunk).double()
        scores = torch.zeros(length, length, dtype=torch.float64)
        for n in range(half):
            a, b, c, d = q[:, n, None], q[:, half + n, None], k[None, :, n], k[None, :, half + n]
            angle = way * rotation.frequencies[n]
            scores += (a * c + b * d) * angle.cos() + (a * d - b * c) * angle.sin()
        scores = (scores * passing.scaling).masked_fill((j > i) | ~torch.from_numpy(seen[head]), -1e30)
        found.append(torch.softmax(scores, -1) @ passing.value[head // passing.group].double())
    return torch.stack(found)


def test_dual_chunks_stand_where_the_paper_puts_them():
    passing = made(700, heads=2)
    rotation = Rotation(torch.tensor([1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003], dtype=torch.float64))
    positions = DualChunk(rotation, 192, 64)
    whole = np.broadcast_to(np.tri(11, dtype=bool), (2, 11, 11))
    random = np.random.default_rng(0).random((2, 11, 11)) < 0.5
    for masks in (whole, (random | np.eye(11, dtype=bool)) & np.tri(11, dtype=bool)):
        seen = masks.repeat(64, 1).repeat(64, 2)[:, :700, :700]
        expected = slow_dual_chunk(passing, rotation, 192, 64, seen)
        assert torch.allclose(positions.attend(passing, masks).double(), expected, atol=2e-5)
    assert (positions.attend(passing, whole) - attend(passing, whole)).abs().max() > 1e-2
    view = positions.view(passing)(1, 650, 700)
    ones = replace(passing, value=torch.eye(700)[None])
    expected = slow_dual_chunk(ones, rotation, 192, 64, np.ones((2, 700, 700), bool))[1, 650:]
    np.testing.assert_allclose(view, expected.numpy(), atol=1e-5)
    short = made(190)
    full = np.broadcast_to(np.tri(3, dtype=bool), (2, 3, 3))
    assert torch.equal(positions.attend(short, full), attend(short, full))


def test_texts_beyond_the_trained_length_read_at_dual_chunk_positions():
    lm, tokens = model(), text(400)
    chosen = resolve("qwen-1m", {"recall": 1.0, "trained": 256}).bound(lm)
    assert (chosen.chunks.chunk, chosen.chunks.local) == (192, 64)
    with watched(lm, lambda passing: chosen.attend(passing, chosen.masks(passing))):
        far = logits(lm, tokens)
    plain = logits_of(lm, tokens)
    assert torch.allclose(far[0, :192], plain[0, :192], atol=2e-4)  # one chunk
    assert not torch.allclose(far[0, 256:], plain[0, 256:], atol=1e-2)
    with pytest.raises(ModelError, match="400 tokens are more than the 256"):
        resolve("qwen-1m", {"trained": 256}).keep(made(400), 0)
    assert (replace(chosen, recall=0.5).bound(lm).masks(made(400)).sum()) < 2 * 28
