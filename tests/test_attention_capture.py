"""Streamed statistics equal those of the whole map; the model gets its own attention back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from workbench_kernels import KernelError
from workbench_kernels.attention_sums import RowSums

from workbench.attention import Settings, capture, watched
from workbench.errors import ArgumentError, Cancelled
from workbench.jobs import Progress
from workbench.testing import logits, tiny_lm, tiny_tokens

LENGTH = 45
SETTINGS = Settings(sinks=2, local=7, first=5, near=2, far=9, sample=4, cells=10)


def maps(lm, ids):
    """Whole attention maps ``[L, H, S, S]`` by transformers' eager attention."""
    before = lm.module.config._attn_implementation
    lm.module.set_attn_implementation("eager")
    with torch.no_grad():
        found = lm.module(torch.from_numpy(ids)[None], output_attentions=True, use_cache=False).attentions
    lm.module.set_attn_implementation(before)
    return torch.stack(found)[:, 0].double().numpy()


def slow(p, s):
    """Every statistic from its definition, key by key."""
    layers, heads, n, _ = p.shape
    out = {k: np.zeros((layers, heads, n)) for k in ("entropy", "sink", "local", "waad", "column", "fai", "slash")}
    block = -(-n // s.cells)
    cells = -(-n // block)
    out["picture"], out["needed"] = np.zeros((layers, heads, cells, cells)), np.zeros((layers, heads, 3))
    for at in np.ndindex(layers, heads):
        m = p[at]
        for i in range(n):
            row = m[i, : i + 1]
            out["entropy"][at][i] = -sum(x * np.log(x) for x in row if x > 0)
            out["sink"][at][i] = row[: s.sinks].sum()
            out["local"][at][i] = row[max(0, i - s.local + 1) :].sum()
            out["waad"][at][i] = sum(x * min(i - j, s.local) for j, x in enumerate(row))
        for j in range(n):
            out["column"][at][j] = m[j:, j].mean()
            out["slash"][at][j] = np.diagonal(m, -j).mean()
            far = [m[i, j] for i in range(n) if s.near <= i - j <= s.far]
            out["fai"][at][j] = np.mean(far) if far else 0
        for a, b in np.ndindex(cells, cells):
            out["picture"][at][a, b] = m[a * block : (a + 1) * block, b * block : (b + 1) * block].mean()
        for k, wanted in enumerate((0.9, 0.95, 0.99)):
            rows = [i for i in range(s.first, n) if i % s.sample == 0]
            counts = [1 + int((np.cumsum(np.sort(m[i])[::-1]) < wanted - 1e-6).sum()) for i in rows]
            out["needed"][at][k] = np.mean(counts)
    return out


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "phi3", "smollm3"])
@pytest.mark.parametrize("chunk", [LENGTH, 16, 1])
def test_statistics_are_those_of_the_whole_map(family, chunk):
    changes = {"max_position_embeddings": 128}
    lm = tiny_lm(family, **changes)
    ids = tiny_tokens(1, LENGTH).ids[0]
    wanted, found = slow(maps(lm, ids), SETTINGS), capture(lm, ids, SETTINGS, chunk=chunk)
    for name, value in wanted.items():
        np.testing.assert_allclose(getattr(found, name), value, atol=2e-5, rtol=1e-3, err_msg=name)
    assert found.layers == lm.architecture.num_layers
    assert found.length == LENGTH


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_an_observer_that_answers_as_the_model_changes_nothing(family):
    lm, tokens = tiny_lm(family), tiny_tokens(1, 20)
    plain, before = logits(lm, tokens), lm.module.config._attn_implementation
    with watched(lm, lambda passing: passing.dense()):
        assert torch.allclose(logits(lm, tokens), plain, atol=1e-5)
    with pytest.raises(ZeroDivisionError), watched(lm, lambda _: 1 / 0):
        logits(lm, tokens)
    assert lm.module.config._attn_implementation == before
    assert torch.equal(logits(lm, tokens), plain)
    with watched(lm, lambda passing: torch.zeros_like(passing.query)):
        assert not torch.allclose(logits(lm, tokens), plain, atol=1e-2)


def test_cancel_and_errors():
    lm, progress = tiny_lm(), Progress()
    progress.cancel()
    before = lm.module.config._attn_implementation
    with pytest.raises(Cancelled):
        capture(lm, range(3, 30), progress=progress)
    assert lm.module.config._attn_implementation == before
    for call, message in (
        (lambda: capture(lm, [1]), "ids has 1 tokens: 2 to 64"),
        (lambda: capture(lm, [1] * 65), "ids has 65 tokens"),
        (lambda: capture(lm, [1, 2], chunk=0), "chunk=0"),
        (lambda: Settings(sinks=0), "sinks=0: at least 1"),
        (lambda: Settings(near=9, far=3), "far >= near"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()


def test_sizes_that_do_not_fit_are_refused():
    sums = RowSums(20, sinks=1, local=1, near=1, far=2, block=4)
    with pytest.raises(KernelError, match=r"scores \(4, 20\) at offset=0"):
        sums.add(np.zeros((4, 20), np.float32), 0)
    with pytest.raises(KernelError, match="offset=18"):
        sums.add(np.zeros((4, 32), np.float32), 18)
    with pytest.raises(KernelError, match="far=1: at least near"):
        RowSums(20, sinks=1, local=1, near=2, far=1, block=4)


def test_what_a_row_does_not_see_has_no_effect():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((5, 32)).astype(np.float32)
    clean, dirty = scores.copy(), scores.copy()
    for i in range(5):
        clean[i, 7 + i + 1 :], dirty[i, 7 + i + 1 :] = 0, np.nan
    found = []
    for given in (clean, dirty):
        sums = RowSums(12, sinks=1, local=3, near=1, far=2, block=4)
        sums.add(given, 7)
        found.append((sums.entropy, sums.column, sums.slash, sums.cells, given))
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)
    np.testing.assert_allclose(clean.sum(1), 1, atol=1e-6)
