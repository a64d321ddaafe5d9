"""Smaller caches: scores against slow definitions, and decoding against attention with the dropped keys masked out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.attention import watched
from workbench.attention.kv import CompressedTarget, HeadView, registry, resolve
from workbench.attention.kv._method import best
from workbench.attention.kv._rows import PackedRows, Rows
from workbench.decode import as_target, generate
from workbench.errors import ArgumentError, ModelError
from workbench.testing import tiny_lm

PROMPT = np.random.default_rng(0).integers(3, 97, 40)
MORE = [5, 6, 7, 8]


def test_without_a_method_it_is_the_model():
    for family in ("llama", "qwen3", "gemma2", "smollm3"):
        lm = tiny_lm(family)
        plain, ours = as_target(lm), CompressedTarget(lm, None)
        for part in (PROMPT[:33], PROMPT[33:], MORE):
            assert np.allclose(plain.forward(part).logits, ours.forward(part).logits, atol=2e-5), family
        assert ours.nbytes == ours.dense_nbytes
        ours.crop(10)
        plain.crop(10)
        assert np.allclose(plain.forward(MORE).logits, ours.forward(MORE).logits, atol=2e-5)


@pytest.mark.parametrize("name", sorted(registry()))
def test_a_whole_budget_changes_nothing(name):
    lm = tiny_lm("llama")
    plain, ours = as_target(lm), CompressedTarget(lm, name, 1.0)
    plain.forward(PROMPT)
    ours.forward(PROMPT)
    ours.compress()
    if resolve(name).always and name != "mustafar":  # the budget is the prompt's length: what is read at once stays
        assert np.allclose(plain.forward([5]).logits, ours.forward([5]).logits, atol=2e-5)
    else:
        assert np.allclose(plain.forward(MORE).logits, ours.forward(MORE).logits, atol=2e-5)


def masked_reference(lm, target, more):
    """Logits after more tokens with full attention in which those tokens do not see the keys that were dropped."""
    kept = target.kept
    length = len(PROMPT)

    def observer(passing):
        out = []
        for h in range(len(passing.query)):
            scores = passing.scores(h)
            gone = torch.ones(length, dtype=torch.bool)
            gone[torch.from_numpy(kept[passing.layer][h // passing.group])] = False
            scores[length:, :length][:, gone] = -1e30
            out.append(torch.softmax(scores, -1) @ passing.value[h // passing.group])
        return torch.stack(out)

    with torch.no_grad(), watched(lm, observer):
        ids = torch.tensor([[*PROMPT.tolist(), *more]])
        return lm.module(ids, use_cache=False).logits[0, length:].numpy()


@pytest.mark.parametrize("name", sorted(set(registry()) - {"mustafar", "specpc"}))
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_decoding_goes_on_as_if_dropped_keys_were_masked(name, family):
    lm = tiny_lm(family)
    target = CompressedTarget(lm, name, 0.5, recent=4)
    target.forward(PROMPT)
    target.compress()
    kept = [len(k) for layer in target.kept for k in layer]
    assert sum(kept) == 20 * len(kept)  # AdaKV moves budget between heads, never adds
    wanted = masked_reference(lm, target, MORE)
    assert np.allclose(target.forward(MORE).logits, wanted, atol=3e-5)
    assert target.nbytes <= 0.6 * target.dense_nbytes
    assert all((np.diff(k) > 0).all() for layer in target.kept for k in layer)


def view(length=30, dim=8, group=2, window=20, seed=0):
    random = torch.Generator().manual_seed(seed)
    make = lambda *shape: torch.randn(*shape, generator=random)  # noqa: E731
    mass = make(length).abs()
    return HeadView(
        0, 0, make(length, dim), make(length, dim), torch.arange(length), mass, make(group, window, dim), length
    )


def slow_attention(v):
    rows = []
    for g in range(len(v.queries)):
        for w in range(v.queries.shape[1]):
            own = v.length - v.queries.shape[1] + w
            scores = [float(v.queries[g, w] @ v.keys[j]) if j <= own else -np.inf for j in range(v.length)]
            e = np.exp(np.array(scores) - max(scores))
            rows.append(e / e.sum())
    return np.array(rows).reshape(len(v.queries), -1, v.length)


def slow_scores(name, v):
    keys, values = v.keys.double().numpy(), v.values.double().numpy()
    if name == "streaming":
        return np.arange(v.length)
    if name == "h2o":
        return v.mass.numpy()
    if name == "knorm":
        return -np.sqrt((keys**2).sum(1))
    if name == "tova":
        return slow_attention(v)[:, -1].mean(0)
    if name == "snapkv":
        seen = slow_attention(v)[:, -16:].mean((0, 1))
        return np.array([seen[max(0, j - 3) : j + 4].max() for j in range(v.length)])
    queries = v.queries.double().numpy()
    share = np.zeros(v.length)
    for q in queries:
        mean, sigma = q.mean(0), np.cov(q.T, bias=True)
        e = np.exp([mean @ k + k @ sigma @ k / 2 for k in keys])
        share += e / e.sum() / len(queries)
    return (share + 0.02 / v.length) * np.sqrt((values**2).sum(1))


@pytest.mark.parametrize("name", ["streaming", "h2o", "knorm", "tova", "snapkv", "expected"])
def test_scores_are_their_definitions(name):
    v = view()
    options = {"recent": 16} if name == "snapkv" else {}
    found = resolve(name, options).score(v).numpy()
    np.testing.assert_allclose(found, slow_scores(name, v), rtol=2e-4, atol=1e-6)


def test_mass_is_the_attention_so_far():
    lm = tiny_lm("llama")
    target = CompressedTarget(lm, "h2o", 40)
    for part in (PROMPT[:17], PROMPT[17:]):
        target.forward(part)
    lm.module.set_attn_implementation("eager")
    with torch.no_grad():
        maps = lm.module(torch.from_numpy(PROMPT)[None], output_attentions=True).attentions
    lm.module.set_attn_implementation("sdpa")
    for layer, heads in enumerate(target._layers):
        wanted = maps[layer][0].reshape(len(heads), 2, 40, 40).sum((1, 2))
        for rows, one in zip(heads, wanted, strict=True):
            assert torch.allclose(rows.mass, one, atol=1e-4)


def test_heavy_hitters_stay_and_so_do_the_newest():
    v = view()
    kept = resolve("h2o").select([v], 10)[0]
    assert set(range(25, 30)) <= set(kept.tolist())
    old = v.mass[:25].argsort(descending=True)[:5]
    assert set(old.tolist()) <= set(kept.tolist())
    assert best(torch.tensor([1.0, 1.0, 0.0, 1.0]), 2).tolist() == [1, 3]


def test_layers_share_their_budget_by_need():
    sharp, flat = view(seed=1), view(seed=2)
    sharp.queries.mul_(8)
    method = resolve("adakv", {"recent": 1, "floor": 0.2})
    kept = method.select([sharp, flat], 10)
    assert sum(len(k) for k in kept) == 20
    assert len(kept[1]) > len(kept[0]) >= 2
    even = resolve("adakv", {"recent": 1, "floor": 1.0}).select([sharp, flat], 10)
    assert [len(k) for k in even] == [10, 10]


def test_bitmaps_hold_the_largest_elements():
    random = torch.Generator().manual_seed(0)
    keys, values = torch.randn(20, 16, generator=random), torch.randn(20, 16, generator=random)
    rows = Rows(16)
    rows.append(keys, values, 0)
    packed = PackedRows(rows, 5, recent=3)
    for made, given in ((packed.keys, keys), (packed.values, values)):
        for j in range(20):
            wanted = given[j].clone()
            if j < 17:
                wanted[given[j].abs().argsort()[:-5]] = 0
            assert torch.equal(made[j], wanted)
    assert packed.nbytes == 2 * (17 * (5 * 4 + 2) + 3 * 16 * 4)
    packed.append(keys[:4], values[:4], 20)
    again = PackedRows(packed, 5, recent=2)
    assert torch.equal(again.keys[:17], packed.keys[:17])
    assert again.positions.tolist() == list(range(24))
    again.crop(18)
    assert again.length == len(again.keys) == 18
    again.keep(torch.tensor([17, 2]))
    assert torch.equal(again.keys[0], packed.keys[2])


def test_half_of_mustafars_bytes_are_below_60_percent():
    lm = tiny_lm("llama", head_dim=64)
    target = CompressedTarget(lm, "mustafar", 0.5, recent=2)
    target.forward(PROMPT)
    target.compress()
    target.forward([5])
    assert target.nbytes < 0.6 * target.dense_nbytes
    assert [len(k) for k in target.kept[0]] == [41] * 4


@pytest.mark.parametrize("name", sorted(registry()))
def test_methods_decode(name):
    lm = tiny_lm("llama")
    target = CompressedTarget(lm, name, 0.4, recent=2)
    done = generate(target, PROMPT[:30], max_new_tokens=12)
    assert len(done.tokens) == 12
    assert target.length == 0  # empty for the next one
    again = generate(target, PROMPT[:30], max_new_tokens=12)
    assert np.array_equal(done.tokens, again.tokens)
    if resolve(name).always and name != "mustafar":
        target.forward(PROMPT[:30])
        target.compress()
        for token in done.tokens:
            target.forward([int(token)])
        assert max(len(k) for layer in target.kept for k in layer) <= 12


def test_an_interrupted_pass_leaves_the_cache():
    lm = tiny_lm("llama")
    target = CompressedTarget(lm, "snapkv", 0.5, recent=2)
    target.forward(PROMPT)
    target.compress()
    before = [k.tolist() for layer in target.kept for k in layer]
    hook = lm.module.model.layers[2].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        target.forward(MORE)
    hook.remove()
    assert [k.tolist() for layer in target.kept for k in layer] == before
    assert target.length == 40
    wanted = masked_reference(lm, target, MORE)
    assert np.allclose(target.forward(MORE).logits, wanted, atol=3e-5)


def test_errors():
    lm = tiny_lm("llama")
    for call, error, message in (
        (lambda: CompressedTarget(lm, "snapvk"), ArgumentError, "did you mean|snapkv"),
        (lambda: CompressedTarget(lm, "snapkv", 0.0), ArgumentError, "budget=0.0"),
        (lambda: CompressedTarget(lm, "snapkv", 1.5), ArgumentError, "budget=1.5"),
        (lambda: CompressedTarget(lm, "snapkv", 0.5, pool=4), ArgumentError, "an odd number"),
        (lambda: CompressedTarget(lm, "adakv", 0.5, floor=2), ArgumentError, "floor=2"),
        (lambda: CompressedTarget(lm, "knorm", 0.5, recent=0), ArgumentError, "recent=0"),
        (lambda: CompressedTarget(lm, None).forward([1, 2], [-1, -1]), ModelError, "no trees"),
        (lambda: CompressedTarget(lm, "knorm").compress(), ArgumentError, "read a prompt first"),
    ):
        with pytest.raises(error, match=message):
            call()
