"""Caches of keys and values: packed, and with bitmaps."""

from itertools import pairwise

import numpy as np
import pytest
from workbench_kernels._errors import KernelError
from workbench_kernels.attention import KVCache
from workbench_kernels.formats._base import from_bf16, to_bf16


def tokens(rng, heads, count, dim):
    return [rng.standard_normal((heads, count, dim)).astype(np.float32) for _ in range(2)]


def contents(cache):
    pages = -(-cache.length // 1024)
    parts = (cache.sums, cache.low, cache.high)
    live = [part[:, :pages].transpose(0, 1, 3, 2).reshape(cache.heads, -1, cache.dim) for part in parts]
    return [*cache.to_dense(), *(part[:, : cache.blocks] for part in live)]


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
@pytest.mark.parametrize("cuts", [(0, 1, 2, 130), (0, 64, 65, 130), (0, 17, 100, 130)])
def test_how_tokens_come_together_leaves_no_trace(kind, cuts):
    k, v = tokens(np.random.default_rng(0), 2, 130, 16)
    whole, grown = KVCache.from_dense(k, v, kind), KVCache(2, 16, kind)
    for a, b in pairwise(cuts):
        grown.append(np.ascontiguousarray(k[:, a:b]), np.ascontiguousarray(v[:, a:b]))
    for one, other in zip(contents(whole), contents(grown), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 100, 130])
def test_truncated_as_if_the_rest_had_never_come(length):
    k, v = tokens(np.random.default_rng(1), 2, 130, 16)
    cut, short = KVCache.from_dense(k, v), KVCache(2, 16)
    cut.truncate(length)
    short.append(np.ascontiguousarray(k[:, :length]), np.ascontiguousarray(v[:, :length]))
    for one, other in zip(contents(cut), contents(short), strict=True):
        assert one.tobytes() == other.tobytes()


def test_a_cache_grows_and_keeps_what_it_was_given():
    k, v = tokens(np.random.default_rng(2), 1, 1500, 32)
    cache = KVCache(1, 32, "bf16")
    for a in range(0, 1500, 500):
        cache.append(np.ascontiguousarray(k[:, a : a + 500]), np.ascontiguousarray(v[:, a : a + 500]))
    assert cache.capacity == 2048
    assert cache.nbytes == 2 * 2 * 1500 * 32
    assert all((got == from_bf16(to_bf16(x))).all() for got, x in zip(cache.to_dense(), (k, v), strict=True))
    assert repr(cache) == "KVCache(1 heads x 32, bf16, 1,500 tokens, 24 blocks)"


def test_summaries_are_of_the_keys():
    k, v = tokens(np.random.default_rng(3), 2, 100, 16)
    k[0, 70, 3] = np.nan
    total, low, high = contents(KVCache.from_dense(k, v))[2:]
    for part, function in ((total, np.sum), (low, np.min), (high, np.max)):
        want = np.stack([function(k[:, :64], axis=1), function(k[:, 64:], axis=1)], axis=1)
        np.testing.assert_allclose(part, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: KVCache(2, 24), "multiple of 16"),
        (lambda: KVCache(2, 16, "int8"), "choose one of 'fp32', 'bf16'"),
        (lambda: KVCache(2, 16).append(np.zeros((1, 3, 16), np.float32), np.zeros((1, 3, 16), np.float32)), "k has"),
        (lambda: KVCache(2, 16).truncate(1), "holds 0 tokens"),
    ],
)
def test_a_cache_refuses(call, message):
    with pytest.raises(KernelError, match=message):
        call()
