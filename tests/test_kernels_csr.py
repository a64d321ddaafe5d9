"""Unstructured formats: CSR, CSR in panels, constant fan-in; round trips, refusals and the battery of checks."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workbench_kernels import KERNELS, KernelError, check_kernel
from workbench_kernels._tokens import plan, tiles
from workbench_kernels._unstructured import balanced
from workbench_kernels.formats import CSR, Condensed, PanelCSR
from workbench_kernels.formats._base import decode, encode, to_bf16
from workbench_kernels.formats.csr_panels import part
from workbench_kernels.matmul import matmul

VALUES = ("fp32", "bf16", "int8")
KINDS = (CSR, PanelCSR, Condensed)
NAMES = [kind.kind if values == "fp32" else f"{kind.kind}-{values}" for kind in KINDS for values in VALUES]


def sparse(seed, rows, inputs, density):
    rng = np.random.default_rng(seed)
    return np.where(rng.random((rows, inputs)) < density, rng.standard_normal((rows, inputs)), 0).astype(np.float32)


def small(kind, weight, values):
    """A format with blocks and panels so small that tiny matrices have several."""
    if kind is PanelCSR:
        return kind.from_dense(weight, values, height=5, width=7)
    return kind.from_dense(weight, values, **({"pad": True} if kind is Condensed else {}))


@pytest.mark.parametrize("name", NAMES)
def test_battery(name):
    check_kernel(name)


def test_all_are_registered():
    assert set(NAMES) <= set(KERNELS)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.sampled_from(KINDS),
    st.sampled_from(VALUES),
)
def test_round_trip(seed, rows, inputs, density, kind, values):
    weight = sparse(seed, rows, inputs, density)
    kept = small(kind, weight, values)
    raw, scale = encode(weight, values)
    np.testing.assert_array_equal(kept.to_dense(), decode(raw, values, scale))
    assert kept.shape == (rows, inputs)
    assert kept.stored >= np.count_nonzero(weight)
    if kind is CSR:
        assert kept.stored == np.count_nonzero(weight)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 70),
    st.sampled_from(KINDS),
    st.sampled_from(VALUES),
)
def test_an_output_is_the_same_alone_and_together(seed, rows, inputs, tokens, kind, values):
    kept = small(kind, sparse(seed, rows, inputs, 0.4), values)
    x = np.random.default_rng(seed).standard_normal((tokens, inputs)).astype(np.float32)
    together = matmul(kept, x, threads=2)
    for t in (0, tokens // 2, tokens - 1):
        np.testing.assert_array_equal(together[t], matmul(kept, x[t]))
    np.testing.assert_array_equal(together[:5], matmul(kept, np.ascontiguousarray(x[:5])))


@pytest.mark.parametrize("kind", KINDS)
def test_more_columns_than_sixteen_bits_name(kind):
    weight = np.zeros((3, 70000), np.float32)
    weight[0, 69999] = weight[2, 5] = 2
    kept = kind.from_dense(weight)
    x = np.zeros((5, 70000), np.float32)
    x[:, 69999], x[:, 5] = np.arange(5), 1
    want = np.stack([2 * np.arange(5), np.zeros(5), np.full(5, 2)], axis=1)
    np.testing.assert_array_equal(matmul(kept, x), want)
    np.testing.assert_array_equal(matmul(kept, x[3]), want[3])
    if kind is not PanelCSR:
        assert kept.index.dtype == np.uint32


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [1, 40])
def test_infinity_reaches_only_rows_that_read_it(kind, tokens):
    weight = np.zeros((20, 33), np.float32)
    weight[:, 3] = weight[4, 0] = 1
    weight[:, 32] = -1
    kept = kind.from_dense(weight, "bf16", **({"pad": True} if kind is Condensed else {}))
    x = np.ones((tokens, 33), np.float32)
    x[:, 0] = np.inf
    y = matmul(kept, x)
    assert np.isinf(y[:, 4]).all()
    assert np.isfinite(np.delete(y, 4, axis=1)).all()


def test_panels_pad_with_a_column_of_the_row():
    weight = np.zeros((2, 300), np.float32)
    weight[1, [3, 7, 299]] = 1
    kept = PanelCSR.from_dense(weight, "bf16", width=150)
    assert kept.index.tolist() == [3, 7, 7, 7, 149, 149, 149, 149]
    one = int(to_bf16(np.ones(1, np.float32))[0])
    assert kept.value.tolist() == [one, one, 0, 0, one, 0, 0, 0]
    assert kept.run.tolist() == [[4, 1], [4, 1]]
    assert kept.sees == "bf16"


def test_rows_of_a_panel_are_sorted_by_length():
    weight = np.zeros((4, 8), np.float32)
    weight[0, 0] = weight[1, :5] = weight[3, 2:8] = 1
    kept = PanelCSR.from_dense(weight)
    assert kept.row.tolist() == [1, 3, 0]
    assert kept.run.tolist() == [[8, 2], [4, 1]]
    assert (kept.height, kept.width) == (4, 8)


def test_condensed_wants_one_fan_in():
    weight = np.zeros((5, 6), np.float32)
    weight[1, :2] = weight[4, 3:6] = 1
    with pytest.raises(KernelError, match=r"2 to 3 weights, .* pass pad=True .* or use CSR"):
        Condensed.from_dense(weight)
    padded = Condensed.from_dense(weight, pad=True)
    assert padded.fan_in == 3
    assert padded.row.tolist() == [1, 4]
    assert padded.index[0, :, :2].T.tolist() == [[0, 1, 1], [3, 4, 5]]
    np.testing.assert_array_equal(padded.to_dense(), weight)


@pytest.mark.parametrize("kind", KINDS)
def test_formats_refuse(kind):
    with pytest.raises(KernelError, match=f"{kind.__name__} has no option size"):
        kind.from_dense(np.ones((2, 2), np.float32), size=3)
    with pytest.raises(KernelError, match="not finite"):
        kind.from_dense(np.full((2, 2), np.nan, np.float32))
    kept = kind.from_dense(np.ones((3, 4), np.float32))
    changes = [({"scale": np.ones(3, np.float32)}, "scale"), ({"value": kept.value[:-1]}, "value")]
    changes += [
        ({"index": kept.index.astype(np.int64)}, "index"),
        ({"index": kept.index + kept.index.dtype.type(1)}, r"0\.\.3|is 4"),
    ]
    for change, message in changes:
        with pytest.raises(KernelError, match=message):
            dataclasses.replace(kept, **change)


@pytest.mark.parametrize("start", [[0, 2, 1, 3], [1, 1, 2, 3], [0, 1, 2, 4], [0, -1, 2, 3]])
def test_csr_refuses_wrong_starts(start):
    kept = CSR.from_dense(np.eye(3, dtype=np.float32))
    with pytest.raises(KernelError, match="start must begin with 0, never fall and end with 3"):
        dataclasses.replace(kept, start=np.array(start))
    with pytest.raises(KernelError, match=r"start has shape \(2,\)"):
        dataclasses.replace(kept, start=np.array([0, 3]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 0}, "height=0"),
        ({"width": 257}, "width=257"),
        ({"group": np.zeros((3, 3), np.int64)}, r"group\[:, 0\] must .* end with 3"),
        ({"group": np.array([[0, 0, 0], [2, 2, 8], [3, 3, 16]])}, r"group\[:, 2\] does not agree"),
        ({"run": np.array([[8, 1], [8, 1], [4, 1]], np.int32)}, r"group\[:, 2\] does not agree"),
        ({"run": np.array([[8, 1], [0, 1], [4, 1]], np.int32)}, "at least 1"),
        ({"run": np.array([[8, 1], [3, 1], [5, 1]], np.int32)}, "multiples of 4"),
        ({"row": np.array([0, 1, 1], np.uint16)}, r"row\[2\] is 1"),
        ({"index": np.array([*range(8), 0, 8, 1, 1, 0, 1, 1, 1], np.uint8)}, r"index\[9\] is 8"),
    ],
)
def test_panels_refuse(change, message):
    weight = np.ones((3, 8), np.float32)
    weight[1:, 2:] = 0  # rows 0 and 1 form a block, row 2 another
    kept = PanelCSR.from_dense(weight, height=2)
    with pytest.raises(KernelError, match=message):
        dataclasses.replace(kept, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row": np.array([0, 0], np.int32)}, "ascending"),
        ({"row": np.array([0, 9], np.int32)}, r"row has .* 0\.\.2"),
        ({"row": np.array([-1, 2], np.int32)}, r"row has .* 0\.\.2"),
        ({"fan_in": 2}, "index has shape"),
    ],
)
def test_condensed_refuses(change, message):
    weight = np.ones((3, 4), np.float32)
    weight[1] = 0
    with pytest.raises(KernelError, match=message):
        dataclasses.replace(Condensed.from_dense(weight), **change)


def test_what_was_checked_cannot_be_changed():
    index = np.array([0, 1, 2], np.uint16)
    kept = CSR((3, 3), "fp32", np.arange(4), index, np.ones(3, np.float32), np.empty(0, np.float32))
    index[0] = 9
    assert kept.index.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="read-only"):
        kept.index[0] = 9


def test_tiles_hold_tokens_side_by_side():
    x = np.arange(20 * 18, dtype=np.float32).reshape(20, 18)
    packed = tiles(x, 0, 2, 1, "fp32", 1).reshape(2, 32, 16)
    want = np.zeros((2, 32, 16), np.float32)
    want[0, :18], want[1, :18, :4] = x[:16].T, x[16:].T
    np.testing.assert_array_equal(packed, want)


def test_work_is_split():
    assert balanced(np.array([9, 1, 1, 1, 8]), 2) == [0, 2, 5]
    assert balanced(np.array([0, 0, 0]), 8) == [0, 1, 2, 3]
    assert balanced(np.array([5]), 4) == [0, 1]
    assert plan(150, 4) == [(0, 2, 4), (128, 1, 2)]
    assert plan(3, 4, 2) == [(0, 1, 2)]
    assert (part(576, 256), part(5, 256), part(257, 256)) == (192, 5, 129)
