"""Every selection is exact: the number asked for, and never a kept score below a pruned one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench
from workbench.errors import ArgumentError
from workbench.prune._ranking import threshold_counts
from workbench.prune.masks import Pattern, lowest, n_of_m, select, spread
from workbench.testing import tiny_lm, tiny_tokens

SETTINGS = settings(max_examples=60, deadline=None)
SIDES = st.integers(1, 13)


@st.composite
def scored(draw, rows=SIDES, columns=SIDES):
    """Scores with many ties, and how many go."""
    shape = draw(rows), draw(columns)
    values = draw(st.lists(st.integers(0, 6), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    return torch.tensor(values, dtype=torch.float32).view(shape), draw(st.integers(0, len(values)))


def ordered(scores, mask):
    """Whether nothing kept scores lower than something pruned."""
    return not mask.any() or bool(mask.all()) or bool(scores[~mask].min() >= scores[mask].max())


@SETTINGS
@given(scored())
def test_matrix(case):
    scores, count = case
    mask = lowest(scores, count)
    assert int(mask.sum()) == count
    assert ordered(scores, mask)


@SETTINGS
@given(scored())
def test_row(case):
    scores, count = case
    mask = lowest(scores, count, "row")
    assert int(mask.sum()) == count
    per_row = mask.sum(1)
    assert int(per_row.max() - per_row.min()) <= 1
    assert all(ordered(s, m) for s, m in zip(scores, mask, strict=True))


@SETTINGS
@given(st.data())
def test_n_of_m(data):
    of = data.draw(st.integers(2, 8))
    keep = data.draw(st.integers(1, of - 1))
    scores, _ = data.draw(scored(columns=st.integers(1, 4).map(lambda n: n * of)))
    mask = n_of_m(scores, keep, of)
    assert torch.equal(mask, select(scores, 0, Pattern(keep=keep, of=of)))
    for s, m in zip(scores.reshape(-1, of), mask.reshape(-1, of), strict=True):
        assert int(m.sum()) == of - keep
        assert ordered(s, m)


@SETTINGS
@given(st.data())
def test_blocks(data):
    r, c = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 4))
    tall, wide = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    scores, _ = data.draw(scored(rows=st.just(r * tall), columns=st.just(c * wide)))
    blocks = data.draw(st.integers(0, tall * wide))
    mask = select(scores, blocks * r * c, Pattern(rows=r, columns=c))
    assert int(mask.sum()) == blocks * r * c
    sums = torch.tensor(
        [[scores[i : i + r, j : j + c].sum() for j in range(0, c * wide, c)] for i in range(0, r * tall, r)]
    )
    gone = torch.tensor(
        [[mask[i : i + r, j : j + c].all() for j in range(0, c * wide, c)] for i in range(0, r * tall, r)]
    )
    assert int(gone.sum()) == blocks
    assert ordered(sums, gone)


@SETTINGS
@given(st.integers(0, 1000), st.integers(1, 40))
def test_spread(total, parts):
    counts = spread(total, parts)
    assert counts.shape == (parts,)
    assert int(counts.sum()) == total
    assert int(counts.max() - counts.min()) <= 1


@SETTINGS
@given(st.data())
def test_threshold_of_many_matrices(data):
    """What lies below the threshold over all matrices, and what equals it, against one sort."""
    matrices = {(i, "w"): data.draw(scored())[0] * data.draw(st.floats(0.1, 10)) for i in range(3)}
    everything = np.sort(np.concatenate([m.flatten().numpy() for m in matrices.values()]))
    count = data.draw(st.integers(1, len(everything)))
    below, ties = threshold_counts(list(matrices), lambda i, p: matrices[i, p], count)
    edge = everything[count - 1]
    for key, values in matrices.items():
        assert below[key] == int((values < float(edge)).sum())
        assert ties[key] == int((values == float(edge)).sum())


@pytest.mark.parametrize("compare", ["matrix", "row"])
def test_transposed_scores(compare):
    """A Conv1D's scores are a transposed view."""
    scores = torch.rand(6, 5, generator=torch.Generator().manual_seed(0))
    wanted = lowest(scores, 13, compare)
    assert torch.equal(lowest(scores.T.contiguous().T, 13, compare), wanted)
    assert torch.equal(n_of_m(scores[:, :4].T.contiguous().T, 2, 4), n_of_m(scores[:, :4], 2, 4))


def test_distinct_scores_have_one_answer():
    scores = torch.tensor([[5.0, 1.0, 4.0, 2.0], [0.5, 6.0, 0.25, 7.0]])
    assert lowest(scores, 3).tolist() == [[False, True, False, False], [True, False, True, False]]
    assert lowest(scores, 2, "row").tolist() == [[False, True, False, False], [False, False, True, False]]
    assert n_of_m(scores, 2, 4).tolist() == [[False, True, False, True], [True, False, True, False]]
    blocks = select(scores, 4, Pattern(rows=2, columns=2))
    assert blocks.tolist() == [[True, True, False, False]] * 2


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (None, (0, 0, 1, 1)),
        ("2:4", (2, 4, 1, 1)),
        ("1:2", (1, 2, 1, 1)),
        ("16x1", (0, 0, 16, 1)),
        ("32x8", (0, 0, 32, 8)),
    ],
)
def test_parse(text, fields):
    pattern = Pattern.parse(text)
    assert (pattern.keep, pattern.of, pattern.rows, pattern.columns) == fields
    assert Pattern.parse(pattern) is pattern
    assert Pattern.parse(None if text is None else str(pattern)) == pattern
    assert pattern.sparsity == (None if not fields[1] else 1 - fields[0] / fields[1])


@pytest.mark.parametrize("text", ["4:4", "0:4", "5:4"])
def test_impossible_n_of_m(text):
    with pytest.raises(
        ArgumentError, match=rf"pattern='{text}': N:M keeps N of every M weights, so 0 < N < M, e\.g\. 2:4"
    ):
        Pattern.parse(text)


@pytest.mark.parametrize("text", ["0x4", "4x0"])
def test_impossible_block(text):
    with pytest.raises(ArgumentError, match=rf"pattern='{text}': a block has at least one row and one column"):
        Pattern.parse(text)


@pytest.mark.parametrize("text", ["", "2/4", "24", "2:", ":4", "x", "-2:4", "2.0:4", "unstructred"])
def test_unreadable(text):
    with pytest.raises(ArgumentError, match="want N:M such as '2:4', a block such as '16x1', or None"):
        Pattern.parse(text)


def test_patterns_that_do_not_divide():
    Pattern.parse("3:8").check((5, 16), "q_proj")
    with pytest.raises(ArgumentError, match="pattern=3:8: q_proj has 20 inputs, which 8 does not divide"):
        Pattern.parse("3:8").check((5, 20), "q_proj")
    with pytest.raises(ArgumentError, match="pattern=4x1: q_proj is 6 x 20, which such blocks do not tile"):
        Pattern.parse("4x1").check((6, 20), "q_proj")
    with pytest.raises(ArgumentError, match="pattern=2x3: q_proj is 6 x 20"):
        Pattern.parse("2x3").check((6, 20), "q_proj")


@pytest.mark.parametrize(("method", "pattern"), [("magnitude", "5:7"), ("sparsegpt", "3:9"), ("wanda", "7x1")])
def test_prune_checks_the_pattern_first(method, pattern):
    """Before anything is computed, and naming the weight."""
    lm = tiny_lm()
    with pytest.raises(ArgumentError, match=rf"pattern={pattern}: self_attn\.q_proj"):
        workbench.prune(lm, method, pattern=pattern, calibration=tiny_tokens())


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("pattern", ["2:4", "1:8"])
def test_every_group_of_a_pruned_model(method, pattern):
    form = Pattern.parse(pattern)
    pruned = workbench.prune(tiny_lm(), method, pattern=pattern, calibration=tiny_tokens())
    for mask in pruned.masks().values():
        groups = mask.reshape(mask.shape[0], -1, form.of).sum(2)
        assert (groups == form.of - form.keep).all()


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
def test_blocks_of_a_pruned_model(method):
    """Whole blocks go, and the budget is met to within one block over the whole model."""
    pruned = workbench.prune(tiny_lm(), method, 0.3, pattern="8x4", calibration=tiny_tokens())
    for mask in pruned.masks().values():
        tiles = mask.reshape(mask.shape[0] // 8, 8, -1, 4).sum((1, 3))
        assert np.isin(tiles, [0, 32]).all()
    report = pruned.report
    assert abs(report.zeroed - 0.3 * report.base) <= 32
