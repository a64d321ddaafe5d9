"""Methods with a draft: SpecKV against maps of the look-ahead in full, SpecPC against the short prompt read plainly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.attention.kv import CompressedTarget, HeadView, resolve
from workbench.attention.kv._drafts import continued, heeded, shallow
from workbench.decode import as_target, generate
from workbench.errors import ArgumentError
from workbench.testing import tiny_lm

PROMPT = np.random.default_rng(3).integers(3, 97, 40)
MORE = [5, 6, 7, 8]


def maps(lm, ids):
    """Attention of every layer ``[H, S, S]`` as transformers' own slow attention has it."""
    before = lm.module.config._attn_implementation
    lm.module.set_attn_implementation("eager")
    with torch.no_grad():
        found = lm.module(torch.tensor([list(ids)]), output_attentions=True, use_cache=False).attentions
    lm.module.set_attn_implementation(before)
    return [m[0].double().numpy() for m in found]


def greedy(lm, ids, count):
    said = [int(t) for t in ids]
    for _ in range(count):
        with torch.no_grad():
            said.append(int(lm.module(torch.tensor([said]), use_cache=False).logits[0, -1].argmax()))
    return said[len(ids) :]


def slow_speckv(lm, draft, budget, recent, pool, tokens):
    """Kept positions by layer and KV head, straight from the definition."""
    ahead, length = greedy(draft, PROMPT, tokens), len(PROMPT)
    kept = []
    for attention in maps(lm, [*PROMPT, *ahead]):
        layer = []
        for head in range(4):
            seen = attention[2 * head : 2 * head + 2, length - recent :, : length - recent].max((0, 1))
            half = pool // 2
            wide = [seen[max(0, j - half) : j + half + 1].max() for j in range(length - recent)]
            best = sorted(range(length - recent), key=lambda j: (-wide[j], -j))[: budget - recent]
            layer.append(sorted([*best, *range(length - recent, length)]))
        kept.append(layer)
    return kept


@pytest.mark.parametrize("tokens", [1, 6])
def test_speckv_keeps_what_a_drafted_answer_looks_at(tokens):
    lm, draft = tiny_lm("llama"), tiny_lm("llama", seed=1)
    target = CompressedTarget(lm, "speckv", 15, recent=4, pool=3, tokens=tokens, draft=draft)
    target.forward(PROMPT)
    target.compress()
    assert [[k.tolist() for k in layer] for layer in target.kept] == slow_speckv(lm, draft, 15, 4, 3, tokens)
    alone = CompressedTarget(lm, "speckv", 15, recent=4, pool=3, tokens=0)
    alone.forward(PROMPT)
    alone.compress()
    assert [k.tolist() for k in alone.kept[0]] != [k.tolist() for k in target.kept[0]]  # the draft matters
    assert target.method.parameters["draft"] == draft.source


def test_the_draft_is_the_models_own_and_leaves_no_trace():
    lm = tiny_lm("llama")
    whole = CompressedTarget(lm, "speckv", 0.5, recent=4, tokens=5)
    plain = CompressedTarget(lm, "snapkv", 0.5, recent=4)
    for target in (whole, plain):
        target.forward(PROMPT)
    before = [rows.mass.clone() for rows in whole._all]
    whole._size_of = lambda length: length  # compress without dropping
    whole.compress()
    assert whole.length == 40
    assert all(torch.equal(a, rows.mass) for a, rows in zip(before, whole._all, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole._queries, plain._queries, strict=True))
    assert np.array_equal(whole.forward(MORE).logits, plain.forward(MORE).logits)
    said = continued(lm, None, PROMPT.tolist(), 5)
    assert 1 <= len(said) <= 5
    assert continued(lm, as_target(lm), PROMPT.tolist(), 5) == greedy(lm, PROMPT, 5)
    assert len(continued(lm, lm, range(3, 63), 30)) == 5  # 60 tokens, 4 more have room, and one is not read
    assert len(CompressedTarget(lm, "speckv", 0.5).method.ahead(lm, PROMPT.tolist())) == 25  # of which 24 have room


def test_an_interrupted_look_ahead_leaves_the_cache():
    lm, draft = tiny_lm("llama"), tiny_lm("llama", seed=1)
    target = CompressedTarget(lm, "speckv", 0.5, recent=4, tokens=5, draft=draft)
    target.forward(PROMPT)
    hook = lm.module.model.layers[2].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        target.compress()
    hook.remove()
    assert [len(k) for layer in target.kept for k in layer] == [40] * 16
    assert np.allclose(target.forward(MORE).logits, as_target(lm).forward([*PROMPT, *MORE]).logits[-4:], atol=2e-5)


def test_look_ahead_takes_its_share_of_attention():
    random = torch.Generator().manual_seed(0)
    keys, ahead, queries = (torch.randn(n, 4, generator=random) for n in (9, 2, 3))
    rows = torch.arange(9)
    view = HeadView(0, 0, keys, keys, rows, torch.zeros(9), queries[None], 9, ahead)
    found = view.attention()[0]
    both = torch.cat([keys, ahead])
    for q, own in enumerate((8, 9, 10)):
        e = torch.exp(queries[q] @ both[: own + 1].T)
        assert torch.allclose(found[q], e[:9] / e.sum(), atol=1e-6)
    inner = resolve("adakv", {"inner": "speckv", "options": {"tokens": 3, "draft": tiny_lm("llama", seed=1)}})
    assert len(inner.ahead(tiny_lm("llama"), PROMPT.tolist())) == 3


def slow_specpc(draft, start, budget, recent, pool, neighbours):
    length, score = len(PROMPT), np.zeros(len(PROMPT))
    for attention in maps(draft, PROMPT)[start:]:
        for head in attention:
            for rank, query in enumerate(range(length - recent, length)):
                score = np.maximum(score, head[query] * rank / (recent - 1))
    left = (pool - 1) // 2
    wide = [max(score[max(0, j - left) : j - left + pool]) for j in range(length)]
    chosen = list(range(length - 1, length - 1 - recent, -1))
    for j in sorted(range(length), key=lambda j: -round(wide[j], 12))[:budget]:
        low = -((neighbours - 1) // 2)
        for step in sorted(range(low, low + neighbours), key=abs):
            near = min(max(j + step, 0), length - 1)
            if near not in chosen and len(chosen) < budget:
                chosen.append(near)
    return sorted(chosen)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize(("pool", "neighbours"), [(3, 3), (4, 6), (1, 1)])
def test_specpc_reads_a_shorter_prompt(family, pool, neighbours):
    lm, draft = tiny_lm(family), tiny_lm("llama", seed=1)
    options = {"recent": 5, "pool": pool, "neighbours": neighbours, "start": 2, "draft": draft}
    wanted = slow_specpc(draft, 2, 16, 5, pool, neighbours)
    assert len(wanted) == 16
    target = CompressedTarget(lm, "specpc", 0.4, **options)
    for part in (PROMPT[:31], PROMPT[31:]):
        target.forward(part)
    target.compress()
    assert all(k.tolist() == wanted for layer in target.kept for k in layer)
    assert (target.length, target.nbytes) == (40, 0.4 * target.dense_nbytes)
    plain = as_target(lm)
    plain.forward(PROMPT[wanted])
    assert np.allclose(target.forward(MORE).logits, plain.forward(MORE).logits, atol=2e-5)
    assert target.kept[0][0].tolist() == [*wanted, 40, 41, 42, 43]
    target.crop(42)
    assert target.length == 42
    assert np.allclose(
        target.forward([9]).logits, as_target(lm).forward([*PROMPT[wanted], 5, 6, 9]).logits[-1:], atol=2e-5
    )
    target.crop(30)
    assert target.length == 30
    assert target.kept[0][0].tolist() == [k for k in wanted if k < 30]


def test_what_specpc_drops_is_never_read_when_a_prompt_is_answered():
    lm, draft = tiny_lm("llama"), tiny_lm("llama", seed=1)
    target = CompressedTarget(lm, "specpc", 0.5, recent=4, draft=draft)
    tokens = []
    hook = lm.module.model.embed_tokens.register_forward_hook(lambda _, args, __: tokens.append(args[0].shape[1]))
    found = generate(target, PROMPT[:30], max_new_tokens=6)
    hook.remove()
    assert tokens == [15, 1, 1, 1, 1, 1]
    kept = target.method.reads(lm, PROMPT[:30].tolist(), 15)
    assert found.tokens.tolist() == greedy(lm, PROMPT[:30][kept], 6)
    assert target.length == 0
    assert generate(target, PROMPT[:30], max_new_tokens=6).tokens.tolist() == found.tokens.tolist()


def test_an_interrupted_second_reading_leaves_the_cache():
    lm = tiny_lm("llama")
    target = CompressedTarget(lm, "specpc", 0.5, recent=4, draft=tiny_lm("llama", seed=1))
    target.forward(PROMPT)
    hook = lm.module.model.layers[2].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        target.compress()
    hook.remove()
    assert [len(k) for layer in target.kept for k in layer] == [40] * 16
    target.compress()
    assert [len(k) for layer in target.kept for k in layer] == [20] * 16


def test_the_own_draft_is_the_first_layers():
    lm = tiny_lm("llama")
    draft = shallow(lm, 0.5)
    assert draft.architecture.num_layers == 2
    assert draft is shallow(lm, 0.5)
    assert shallow(lm, 1.0) is lm
    found, wanted = heeded(draft, PROMPT.tolist(), 8, 5), heeded(lm, PROMPT.tolist(), 1, 5)
    first = maps(lm, PROMPT)[1][:, -5:].max(0) * np.linspace(0, 1, 5)[:, None]
    assert np.allclose(found, first.max(0), atol=1e-6)  # the last layer counts always
    assert (wanted >= found).all()
    assert heeded(lm, PROMPT.tolist(), 0, 64).shape == (40,)


def test_errors():
    lm = tiny_lm("llama")
    for call, message in (
        (lambda: resolve("speckv", {"pool": 4}), "pool=4"),
        (lambda: resolve("speckv", {"recent": 100}), "recent=100"),
        (lambda: resolve("specpc", {"depth": 0}), "depth=0"),
        (lambda: resolve("specpc", {"neighbours": 0}), "neighbours=0"),
        (lambda: continued(lm, tiny_lm("llama", vocab_size=50), [3, 4], 2), "draft knows 50 tokens, the model 97"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()
