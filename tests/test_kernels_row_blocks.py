"""Blocks of 4 rows and 1 column: the format, and multiplying by it with few, 16 and 64 tokens at a time."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workbench_kernels import KERNELS, _memory, row_blocks
from workbench_kernels._errors import KernelError
from workbench_kernels._jit import kernel
from workbench_kernels._kernel import blocks
from workbench_kernels._tile import put_outputs
from workbench_kernels._transpose import load_corner, load_square, transpose
from workbench_kernels.formats import VALUES, RowBlocks
from workbench_kernels.formats._base import decode, encode, round_inputs
from workbench_kernels.matmul import matmul, matmul_bound, matmul_reference
from workbench_kernels.testing import check_kernel

NAMES = ("4x1", "4x1-bf16", "4x1-int8")


def pruned(rows, inputs, density=0.4, seed=0):
    rng = np.random.default_rng(seed)
    return blocks(4)(rng, rng.standard_normal((rows, inputs)).astype(np.float32), density)


def tokens_of(count, inputs, seed=1):
    return np.random.default_rng(seed).standard_normal((count, inputs)).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_battery(name):
    check_kernel(name)


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["WORKBENCH_KERNELS_CPU=generic", "NUMBA_BOUNDSCHECK=1"])
def test_battery_without_special_instructions_and_with_bounds_checked(setting, tmp_path):
    source = Path(row_blocks.__file__).parents[1]
    given_env = {**os.environ, "PYTHONPATH": str(source), "NUMBA_CACHE_DIR": str(tmp_path)}
    code = f"from workbench_kernels import check_kernel\nfor name in {NAMES}: check_kernel(name)"
    environment = given_env | dict([setting.split("=")])
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=240)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(VALUES),
    st.sampled_from((0.0, 0.1, 0.6, 1.0)),
    st.booleans(),
    st.integers(0, 99),
)
def test_round_trip(rows, inputs, values, density, single, seed):
    weight = pruned(rows, inputs, density, seed)
    if single:  # blocks of which only some rows are there
        weight *= np.random.default_rng(seed).random(weight.shape) < 0.4
    made = RowBlocks.from_dense(weight, values)
    np.testing.assert_array_equal(made.to_dense(), decode(*swapped(encode(weight, values), values)))
    live = np.add.reduceat(made.to_dense() != 0, range(0, rows, 4)) > 0
    depth = made.index.shape[1]
    assert made.stored == sum(-(-int(n) // depth) * depth for n in live.sum(axis=1)) * 4


def swapped(encoded, values):
    return encoded[0], values, encoded[1]


@pytest.mark.parametrize("values", VALUES)
def test_any_number_of_tokens_gives_each_token_the_same_bytes(values):
    weight, x = RowBlocks.from_dense(pruned(37, 45), values), tokens_of(131, 45)
    alone = np.concatenate([matmul(weight, x[t : t + 1]) for t in range(len(x))])
    for count in (2, 3, 4, 15, 16, 17, 32, 33, 64, 65, 81, 97, 131):
        got = matmul(weight, x[:count])
        assert (np.abs(got - matmul_reference(weight, x[:count])) <= matmul_bound(weight, x[:count])).all()
        assert got.tobytes() == alone[:count].tobytes(), count


@pytest.mark.parametrize("values", VALUES)
def test_activations_are_packed_in_parts_when_there_are_many(values, monkeypatch):
    weight, x = RowBlocks.from_dense(pruned(20, 33), values), tokens_of(210, 33)
    whole = matmul(weight, x)
    monkeypatch.setattr(row_blocks, "ROOM", 1)
    assert matmul(weight, x, threads=2).tobytes() == whole.tobytes()


def test_whole_numbers_are_multiplied_exactly():
    rng = np.random.default_rng(3)
    weight = rng.integers(-8, 9, (21, 70)).astype(np.float32)
    for count in (1, 5, 70):
        x = rng.integers(-8, 9, (count, 70)).astype(np.float32)
        for values in ("fp32", "bf16"):
            np.testing.assert_array_equal(matmul(RowBlocks.from_dense(weight, values), x), x @ weight.T)


@pytest.mark.parametrize("count", [1, 3, 16, 70])
def test_int8_sums_whole_numbers_and_rounds_only_with_the_scales(count):
    weight, x = pruned(23, 77, seed=5), tokens_of(count, 77)
    x[count // 2] = 0
    x[0] *= np.float32(1e4)
    step = np.abs(x).max(axis=1) * np.float32(1 / 127)
    over = np.divide(np.float32(1), step, out=np.zeros_like(step), where=step > 0)
    raw, scale = encode(weight, "int8")
    sums = np.rint(x * over[:, None]).astype(np.int64) @ raw.T.astype(np.int64)
    want = sums.astype(np.float32) * (scale * step[:, None])
    np.testing.assert_array_equal(matmul(RowBlocks.from_dense(weight, "int8"), x), want)


def test_int8_activations_are_half_a_step_off_at_most_and_next_to_nothing_is_nothing():
    x = tokens_of(6, 50)
    x[2] = 0
    x[3] *= np.float32(1e-38)
    seen = round_inputs(x, "int8-token")
    step = np.abs(x).max(axis=1, keepdims=True) / 127
    assert (np.abs(seen - x) <= step * 0.5001 + 127 * 2.0**-126).all()
    assert not seen[2:4].any()
    got = matmul(RowBlocks.from_dense(pruned(9, 50), "int8"), x)
    assert not got[2:4].any()
    assert got[4:].all()


def test_more_inputs_than_16_bits_count():
    weight = np.zeros((5, 70_000), np.float32)
    weight[:, [3, 65_535, 65_536, 69_999]] = 1
    made = RowBlocks.from_dense(weight, "bf16")
    assert made.index.dtype == np.int32
    x = np.zeros((4, 70_000), np.float32)
    x[1, 65_536], x[2, 3], x[3, 69_999] = 1, 2, 4
    np.testing.assert_array_equal(matmul(made, x), np.repeat([[0], [1], [2], [4]], 5, axis=1))
    np.testing.assert_array_equal(matmul(made, x[3]), np.full(5, 4))


def test_many_callers_at_once_do_not_share_what_they_pack():
    weight = RowBlocks.from_dense(pruned(64, 96))
    inputs = [tokens_of(40, 96, seed) for seed in range(12)]
    want = [matmul(weight, x).tobytes() for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda x: matmul(weight, x).tobytes(), inputs * 4))
    assert got == want * 4


def test_threads_share_the_stored_blocks_evenly():
    weight = RowBlocks.from_dense(np.tri(512, dtype=np.float32))
    for threads in (1, 2, 3, 40):
        bounds = row_blocks.strip_bounds(weight, threads)
        assert bounds[0] == 0
        assert bounds[-1] == 32
        assert all(a < b for a, b in pairwise(bounds))
        assert len(bounds) <= threads + 1
    shares = np.diff(weight.start[::4][row_blocks.strip_bounds(weight, 3)]) / weight.start[-1]
    assert np.abs(shares - 1 / 3).max() < 0.06


def test_squares_are_turned_and_corners_read_nothing_beside():
    @kernel
    def turn(x, y, rows, columns):
        square = load_corner(x, 0, 16, rows, columns) if rows < 16 else load_square(x, 0, 16)
        put_outputs(y, 0, 16, transpose(square), 1)

    x, y = np.arange(256, dtype=np.float32).reshape(16, 16), np.empty((16, 16), np.float32)
    turn(x, y, 16, 16)
    np.testing.assert_array_equal(y, x.T)
    turn(x, y, 5, 7)
    want = np.zeros((16, 16))
    want[:7, :5] = x[:5, :7].T
    np.testing.assert_array_equal(y, want)


def changed(array, place, number):
    out = _memory.aligned(array)
    out.reshape(-1)[place] = number
    return out


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("index", lambda a: changed(a, 3, 30), "columns are 0 to 29"),
        ("index", lambda a: a.astype(np.int32), "index has dtype int32: pass uint16"),
        ("index", lambda a: a[:-1].copy(), "index has shape"),
        ("value", lambda a: a[:-1].copy(), "value has shape"),
        ("value", lambda a: a.astype(np.float32), "value has dtype float32"),
        ("value", lambda a: changed(a, 0, a.reshape(-1)[0] + 1), "offset is not"),
        ("start", lambda a: a[:-1].copy(), "start has shape"),
        ("start", lambda a: changed(a, 0, 1), "start has to begin at 0"),
        ("start", lambda a: changed(a, 1, a[2] + 1), "never to fall"),
        ("start", lambda a: changed(a, -1, a[-1] + 1), "index has shape"),
        ("scale", lambda a: a[:-1].copy(), "scale has shape"),
        ("offset", lambda a: changed(a, 2, 1), "offset is not"),
        ("shape", lambda s: (s[0], 0), "at least 1"),
        ("values", lambda v: "fp16", "choose one of"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(field, change, message):
    good = RowBlocks.from_dense(pruned(19, 30, 0.5), "int8")
    with pytest.raises(KernelError, match=message):
        replace(good, **{field: change(getattr(good, field))})


def test_sums_that_could_overflow_are_refused():
    with pytest.raises(KernelError, match="overflow beyond 131072"):
        RowBlocks.from_dense(np.ones((1, 131_073), np.float32), "int8")
    assert RowBlocks.from_dense(np.ones((1, 131_073), np.float32), "bf16").stored == 4 * 131_074
    long = np.full((1, 131_072), -1, np.float32)  # the largest sum of all, of more than 30 bits
    np.testing.assert_allclose(matmul(RowBlocks.from_dense(long, "int8"), -long), [[-131_072]], rtol=1e-6)


def test_the_table_of_kernels_says_what_each_sees():
    rng = np.random.default_rng(0)
    seen = {KERNELS[n].name: KERNELS[n].make(rng, (8, 16, 1), 0.5)["weight"].sees for n in NAMES}
    assert seen == {"4x1": "fp32", "4x1-bf16": "bf16", "4x1-int8": "int8-token"}
