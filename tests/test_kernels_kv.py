"""Caches of keys and values: packed, and with bitmaps."""

from itertools import pairwise

import numpy as np
import pytest
from workbench_kernels._errors import KernelError
from workbench_kernels.attention import KVCache, decode_attention
from workbench_kernels.formats._base import from_bf16, to_bf16
from workbench_kernels.kv_bitmap import BitmapKV, bitmap_bound, bitmap_reference, decode_bitmap
from workbench_kernels.testing import check_kernel


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


@pytest.mark.parametrize("name", ["decode-bitmap", "decode-bitmap-bf16"])
def test_battery(name):
    check_kernel(name)


def test_a_bitmap_keeps_the_largest_of_each_token_and_the_window_whole():
    k, v = tokens(np.random.default_rng(4), 2, 150, 32)
    k[0, 3, :5] = 2.5
    k[0, 3, 5:] = 2.5 * np.sign(k[0, 3, 5:])  # of equals the earlier
    cache = BitmapKV.from_dense(k, v, keep_k=0.25, keep_v=0.5, window=20)
    assert (cache.packed, cache.recent.length, cache.length) == (128, 22, 150)
    for dense, got, kept in zip((k, v), cache.to_dense(), (8, 16), strict=True):
        assert (got[:, 128:] == dense[:, 128:]).all()
        size, old = np.abs(dense[:, :128]), got[:, :128]
        order = np.argsort(-size, axis=-1, kind="stable")
        want = np.zeros_like(size, bool)
        np.put_along_axis(want, order[..., :kept], values=True, axis=-1)
        assert (old == np.where(want, dense[:, :128], 0)).all()


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_a_bitmap_grows_token_by_token(kind):
    k, v = tokens(np.random.default_rng(5), 1, 200, 16)
    whole, grown = BitmapKV.from_dense(k, v, kind, window=10), BitmapKV(1, 16, kind, window=10)
    for a, b in ((0, 70), (70, 73), (73, 74), (74, 150), (150, 200)):
        grown.append(np.ascontiguousarray(k[:, a:b]), np.ascontiguousarray(v[:, a:b]))
    assert (grown.packed, grown.nbytes) == (whole.packed, whole.nbytes)
    for one, other in zip(whole.to_dense(), grown.to_dense(), strict=True):
        assert one.tobytes() == other.tobytes()
    q = np.ones((3, 16), np.float32)
    assert decode_bitmap(q, whole).tobytes() == decode_bitmap(q, grown).tobytes()


def test_bytes_of_a_bitmap():
    zeros = np.zeros((2, 640, 64), np.float32)
    cache = BitmapKV.from_dense(zeros, zeros, "bf16", keep_k=0.5, keep_v=0.25, window=0)
    assert cache.nbytes == 2 * 640 * (2 * 64 // 8 + (32 + 16) * 2)
    assert repr(cache) == "BitmapKV(2 heads x 64, bf16, 640 tokens keep 32 + 16 of 64, 0 dense)"


def test_what_is_not_finite_is_kept_and_passes_on():
    k, v = tokens(np.random.default_rng(6), 2, 64, 16)
    v[0, 9, 4] = np.nan
    out = decode_bitmap(np.ones((2, 16), np.float32), BitmapKV.from_dense(k, v, keep_v=0.1, window=0))
    assert np.isnan(out[0, 4])
    assert np.isfinite(out[1]).all()


def test_a_full_bitmap_is_dense_attention():
    k, v = tokens(np.random.default_rng(7), 2, 300, 48)
    q = np.random.default_rng(8).standard_normal((6, 48)).astype(np.float32)
    cache = BitmapKV.from_dense(k, v, keep_k=1.0, keep_v=1.0)
    bound = bitmap_bound(q, cache)
    assert (np.abs(decode_bitmap(q, cache) - decode_attention(q, KVCache.from_dense(k, v))) <= 2 * bound).all()
    assert (np.abs(bitmap_reference(q, cache) - decode_attention(q, KVCache.from_dense(k, v))) <= bound).all()


@pytest.mark.parametrize("options", [{"keep_k": 1.5}, {"keep_v": -0.1}, {"window": -1}, {"kind": "int8"}])
def test_a_bitmap_refuses(options):
    with pytest.raises(KernelError, match=next(iter(options))):
        BitmapKV(1, 16, **options)
