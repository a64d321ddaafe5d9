"""Attention kernels: the inner kernel of rows, dense and block-sparse decoding, block-sparse prefill."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workbench_kernels import _memory
from workbench_kernels._attention_rows import TILE_ROWS, rows_attention, scratch
from workbench_kernels._errors import KernelError
from workbench_kernels.attention import KVCache, decode_attention, decode_blocks, decode_bound, decode_reference
from workbench_kernels.attention_blocks import score_blocks, select_blocks
from workbench_kernels.attention_prefill import KeptBlocks, prefill_attention, prefill_bound, prefill_reference
from workbench_kernels.testing import check_kernel

KERNELS = (
    "prefill-blocks",
    "decode-attention",
    "decode-attention-bf16",
    "decode-blocks",
    "decode-blocks-bf16",
    "score-blocks-mean",
    "score-blocks-bounds",
)


@pytest.mark.parametrize("name", KERNELS)
def test_battery(name):
    check_kernel(name)


def numbers(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def keys_in_lanes(keys):
    """``[n, D]`` to blocks ``[n / 16][D][16]``; what pads the last block is NaN."""
    n, dim = keys.shape
    padded = np.full((-(-n // 16) * 16, dim), np.nan, np.float32)
    padded[:n] = keys
    return np.ascontiguousarray(padded.reshape(-1, 16, dim).transpose(0, 2, 1)).reshape(-1)


def run_rows(q, keys, values, first, last):
    """`rows_attention` with every offset in use and the output full of NaN."""
    (rows, dim), row = q.shape, q.shape[1] + 16
    out, asked = np.full(7 + rows * row, np.nan, np.float32), np.full(5 + rows * row, np.nan, np.float32)
    for r in range(rows):
        asked[5 + r * row : 5 + r * row + dim] = q[r]
    packed = np.concatenate([np.full(16, np.nan, np.float32), keys_in_lanes(keys)])
    flat = np.concatenate([np.full(3, np.nan, np.float32), values.reshape(-1)])
    size = scratch(len(keys))
    s = _memory.empty(TILE_ROWS * size, np.float32)
    s.fill(np.nan)
    ranges = [np.concatenate([[99], limit]).astype(np.int64) for limit in (first, last)]
    rows_attention(dim)(asked, 5, row, packed, 16, flat, 3, s, 0, size, out, 7, row, *ranges, 1, rows)
    inside = np.lib.stride_tricks.as_strided(out[7:], (rows, dim), (row * 4, 4))
    gaps = np.lib.stride_tricks.as_strided(out[7 + dim :], (rows, 16), (row * 4, 4))
    assert np.isnan(out[:7]).all()
    assert np.isnan(gaps).all()
    return inside.copy()


def expected_rows(q, keys, values, first, last):
    out = np.zeros(q.shape)
    for r in range(len(q)):
        k, v = (x[first[r] : last[r]].astype(np.float64) for x in (keys, values))
        if len(k):
            w = np.exp(k @ q[r] - (k @ q[r]).max())
            out[r] = w @ v / w.sum()
    return out


@pytest.mark.parametrize(("dim", "keys", "rows"), [(64, 150, 13), (80, 33, 5), (16, 1, 1), (128, 64, 9)])
def test_rows_match_the_formula_and_do_not_depend_on_their_neighbours(dim, keys, rows):
    rng = np.random.default_rng(dim)
    q, k, v = numbers(rng, rows, dim) / np.float32(dim**0.5), numbers(rng, keys, dim), numbers(rng, keys, dim)
    first = rng.integers(0, keys // 3 + 1, rows)
    last = np.minimum(keys, keys // 2 + 1 + np.arange(rows) // 2)
    last[rows // 2] = first[rows // 2]  # sees nothing
    together = run_rows(q, k, v, first, last)
    np.testing.assert_allclose(together, expected_rows(q, k, v, first, last), atol=2e-6, rtol=1e-5)
    for r in range(rows):
        alone = run_rows(q[r : r + 1], k, v, first[r : r + 1], last[r : r + 1])
        assert alone.tobytes() == together[r : r + 1].tobytes()


def test_rows_read_no_key_outside_of_their_range():
    rng = np.random.default_rng(0)
    q, k, v = numbers(rng, 6, 32), numbers(rng, 40, 32), numbers(rng, 40, 32)
    k[25], v[26] = np.nan, np.inf
    last = np.array([24, 25, 26, 27, 40, 20])
    out = run_rows(q, k, v, np.zeros(6, int), last)
    assert [bool(np.isfinite(row).all()) for row in out] == [True, True, False, False, False, True]
    out = run_rows(q, k, v, np.full(6, 27), np.full(6, 40))
    np.testing.assert_allclose(out, expected_rows(q, k, v, [27] * 6, [40] * 6), atol=2e-6)


def test_rows_with_ranges_that_share_no_key():
    rng = np.random.default_rng(1)
    q, k, v = numbers(rng, 4, 16), numbers(rng, 60, 16), numbers(rng, 60, 16)
    first, last = np.array([0, 20, 40, 41]), np.array([20, 40, 60, 42])
    np.testing.assert_allclose(
        run_rows(q, k, v, first, last), expected_rows(q, k, v, first, last), atol=2e-6, rtol=1e-5
    )


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 260), st.floats(0, 1), st.integers(0, 99))
def test_prefill_over_any_blocks(shared, group, length, density, seed):
    rng = np.random.default_rng(seed)
    q, k, v = (
        numbers(rng, shared * group, length, 32),
        numbers(rng, shared, length, 32),
        numbers(rng, shared, length, 32),
    )
    mask = rng.random((shared * group, -(-length // 64), -(-length // 64))) < density
    blocks = KeptBlocks.from_mask(mask, length)
    assert (blocks.to_mask() == np.tril(mask)).all()
    error = np.abs(prefill_attention(q, k, v, blocks=blocks) - prefill_reference(q, k, v, blocks))
    assert (error <= prefill_bound(q, k, v, blocks)).all()


def test_prefill_without_blocks_is_dense_and_large_scores_do_not_overflow():
    rng = np.random.default_rng(3)
    q, k, v = (numbers(rng, 1, 100, 16) for _ in range(3))
    assert (
        prefill_attention(q, k, v).tobytes() == prefill_attention(q, k, v, blocks=KeptBlocks.causal(1, 100)).tobytes()
    )
    q *= 100
    error = np.abs(prefill_attention(q, k, v) - prefill_reference(q, k, v))
    assert (error <= prefill_bound(q, k, v)).all()


def test_prefill_of_a_later_key_that_is_not_finite():
    rng = np.random.default_rng(4)
    q, k, v = (numbers(rng, 1, 100, 16) for _ in range(3))
    for spoiled in (k, v):
        spoiled[0, 90, 3] = np.nan
        bad = ~np.isfinite(prefill_attention(q, k, v)[0]).all(axis=1)
        assert (bad == (np.arange(100) >= 90)).all()
        spoiled[0, 90, 3] = 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": np.zeros((2, 8, 16), np.float32), "v": np.zeros((2, 8, 16), np.float32)}, "3 heads"),
        ({"v": np.zeros((1, 8, 32), np.float32)}, "v has shape"),
        ({"blocks": KeptBlocks.causal(3, 9)}, "9 tokens"),
        ({name: np.zeros((3, 8, 24), np.float32) for name in "qkv"}, "multiple of 16"),
    ],
)
def test_prefill_refuses(change, message):
    given = {"q": np.zeros((3, 8, 16), np.float32), "k": np.zeros((1, 8, 16), np.float32)}
    with pytest.raises(KernelError, match=message):
        prefill_attention(**{**given, "v": given["k"], **change})


@pytest.mark.parametrize(
    ("start", "index", "message"),
    [
        ([0, 1, 3], [0, 1, 0], "must ascend"),
        ([0, 1, 2], [1, 1], "block of its queries"),
        ([0, 2, 1], [0], "from 0 to the 1"),
    ],
)
def test_kept_blocks_must_fit(start, index, message):
    with pytest.raises(KernelError, match=message):
        KeptBlocks(1, 128, np.array(start, np.int64), np.array(index, np.int32))


def cache_of(rng, heads, length, dim, kind="fp32"):
    return KVCache.from_dense(numbers(rng, heads, length, dim), numbers(rng, heads, length, dim), kind)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 2), st.integers(1, 7), st.integers(1, 1300), st.floats(0, 1), st.integers(0, 99))
def test_decode_over_any_blocks(shared, group, length, density, seed):
    rng = np.random.default_rng(seed)
    cache, q = cache_of(rng, shared, length, 16), numbers(rng, shared * group, 16)
    kept = round(density * cache.blocks)
    picked = [np.sort(rng.permutation(cache.blocks)[:kept]) for _ in range(shared)]
    index = np.array(picked, np.int32).reshape(shared, kept)
    error = np.abs(decode_blocks(q, cache, index) - decode_reference(q, cache, index))
    assert (error <= decode_bound(q, cache, index)).all()


def test_decode_over_all_blocks_is_dense_and_query_heads_do_not_meet():
    rng = np.random.default_rng(5)
    cache, q = cache_of(rng, 2, 700, 32), numbers(rng, 10, 32)
    dense = decode_attention(q, cache)
    every = np.tile(np.arange(cache.blocks, dtype=np.int32), (2, 1))
    assert decode_blocks(q, cache, every).tobytes() == dense.tobytes()
    assert decode_attention(q[[0, 5]], cache).tobytes() == dense[[0, 5]].tobytes()


def test_decode_does_not_see_blocks_that_are_left_out():
    rng = np.random.default_rng(6)
    k, v = numbers(rng, 1, 200, 16), numbers(rng, 1, 200, 16)
    k[0, 70], v[0, 130] = np.nan, np.inf
    cache, q = KVCache.from_dense(k, v), numbers(rng, 2, 16)
    assert np.isfinite(decode_blocks(q, cache, np.array([[0, 3]], np.int32))).all()
    for block in (1, 2):
        assert not np.isfinite(decode_blocks(q, cache, np.array([[0, block]], np.int32))).all(axis=1).any()


@pytest.mark.parametrize(
    ("index", "message"),
    [([[2, 1]], "ascend"), ([[0, 4]], "to 3 at most"), ([[-1, 1]], "ascend"), ([[0], [1]], "shape")],
)
def test_decode_refuses_other_blocks(index, message):
    cache = cache_of(np.random.default_rng(0), 1, 200, 16)
    with pytest.raises(KernelError, match=message):
        decode_blocks(np.zeros((2, 16), np.float32), cache, np.array(index, np.int32))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(width=32, allow_nan=True), min_size=1, max_size=70),
    st.integers(0, 80),
    st.integers(0, 2),
    st.integers(0, 2),
)
def test_selection_takes_the_largest(scores, keep, first, last):
    row = np.array([scores], np.float32)
    chosen = select_blocks(row, keep, first=first, last=last)[0]
    forced = row[0].copy()
    forced[:first], forced[max(0, len(scores) - last) :] = np.nan, np.nan
    rank = np.where(np.isnan(forced), np.inf, forced)
    order = sorted(range(len(scores)), key=lambda b: (not np.isnan(forced[b]), -rank[b], np.signbit(rank[b]), b))
    assert chosen.tolist() == sorted(order[:keep])


def test_bounds_are_never_below_a_score_and_selection_finds_what_matters():
    rng = np.random.default_rng(7)
    cache, q = cache_of(rng, 2, 1000, 32), numbers(rng, 6, 32)
    k = cache.to_dense()[0]
    each = np.einsum("hgd,hsd->hgs", q.reshape(2, 3, 32), k) * 32**-0.5
    best = np.stack([each[..., b * 64 : b * 64 + 64].max(axis=(1, 2)) for b in range(cache.blocks)], axis=1)
    assert (score_blocks(q, cache, method="bounds") >= best - 1e-5).all()
    k[0, 640:704] = q[0] * 3
    found = select_blocks(score_blocks(q, KVCache.from_dense(k, k)), 3)
    assert found.shape == (2, 3)
    assert 10 in found[0]
    assert (found[:, -1] == cache.blocks - 1).all()
