"""What a preview shows is what pruning keeps."""

import numpy as np
import pytest

import workbench
from workbench.errors import ArgumentError
from workbench.prune import registry
from workbench.prune.preview import preview
from workbench.testing import tiny_lm, tiny_tokens

TOKENS = tiny_tokens()
SPARSITIES = (0.0, 0.1, 0.33, 0.5, 0.7)
STEP = 1 / 255
WEIGHTS = sorted(n for n, c in registry().items() if c.family == "weights")
CHANNELS = sorted(n for n, c in registry().items() if c.family == "channels")
LAYERS = sorted(n for n, c in registry().items() if c.family == "layers")


def agree(lm, method, tolerance, tile=16, sparsities=SPARSITIES, **options):
    """Frames against real runs; returns how far apart they were."""
    shown = preview(lm, method, calibration=TOKENS, tile=tile, **options)
    assert shown.layers == 4
    assert shown.modules == lm.architecture.linear_names
    worst = 0.0
    for sparsity in sparsities:
        frame = shown.at(sparsity)
        report = workbench.prune(lm, method, sparsity, calibration=TOKENS, propagate=False, **options).report
        assert frame.kept.dtype == np.float32
        assert frame.cells.dtype == np.uint8
        assert frame.cells.shape == (*frame.kept.shape, tile, tile)
        assert frame.total_parameters == report.base
        worst = max(worst, float(np.abs(frame.kept - report.kept()).max()))
        assert worst <= tolerance, (sparsity, worst)
    return shown


def cell_means(lm, cells):
    """Share kept of each matrix from its cells, each with its number of weights: ``[layers, matrices]``."""
    out = np.zeros(cells.shape[:2])
    tile = cells.shape[-1]
    for layer in range(out.shape[0]):
        for column, module in enumerate(lm.architecture.linears(layer).values()):
            shape = module.weight.shape[::-1] if type(module).__name__ == "Conv1D" else module.weight.shape
            rows, columns = (np.bincount(np.arange(n) * tile // n, minlength=tile) for n in shape)
            size = np.outer(rows, columns)
            out[layer, column] = (cells[layer, column] / 255 * size).sum() / size.sum()
    return out


@pytest.mark.parametrize("allocation", ["uniform", "global", "owl"])
@pytest.mark.parametrize("method", WEIGHTS)
def test_weights(method, allocation):
    agree(tiny_lm(), method, 2 * STEP, allocation=allocation)


@pytest.mark.parametrize("tile", [3, 5, 16, 24])
def test_cells_that_do_not_divide_the_matrix(tile):
    """Also cells without weights: 24 along a side of 16 rows."""
    for options in ({"allocation": "global"}, {"allocation": "uniform"}):
        shown = agree(tiny_lm(), "wanda", 2 * STEP, tile=tile, sparsities=(0.3, 0.6), **options)
        for sparsity in (0.3, 0.6):
            frame = shown.at(sparsity)  # rows of 32 lose whole weights
            assert np.abs(cell_means(tiny_lm(), frame.cells) - frame.kept).max() <= 1 / 32


@pytest.mark.parametrize("pattern", ["2:4", "1:8"])
@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
def test_patterns(method, pattern):
    lm = tiny_lm()
    shown = preview(lm, method, calibration=TOKENS, pattern=pattern)
    report = workbench.prune(lm, method, pattern=pattern, calibration=TOKENS, propagate=False).report
    fixed = {"2:4": 0.5, "1:8": 0.875}[pattern]
    frame = shown.at(fixed)
    assert np.abs(frame.kept - report.kept()).max() <= 1e-6
    assert np.abs(cell_means(lm, frame.cells) - frame.kept).max() <= STEP
    assert (shown.at(0.0).cells == 255).all()


@pytest.mark.parametrize("method", ["magnitude", "wanda"])
def test_blocks(method):
    """To half a block of the smallest matrix either way, 32 of its 512 weights."""
    agree(tiny_lm(), method, 32 / 512 + STEP, pattern="8x4")


@pytest.mark.parametrize("allocation", ["uniform", "global", "standardised"])
@pytest.mark.parametrize("method", CHANNELS)
def test_channels(method, allocation):
    shown = agree(tiny_lm(), method, 1e-6, allocation=allocation)
    for sparsity in SPARSITIES:
        frame = shown.at(sparsity)
        assert np.abs(cell_means(tiny_lm(), frame.cells) - frame.kept).max() <= STEP


@pytest.mark.parametrize("family", ["gpt2", "phi3", "olmo2"])
@pytest.mark.parametrize("method", ["flap", "wanda", "shortgpt"])
def test_other_families(family, method):
    agree(tiny_lm(family), method, 2 * STEP, sparsities=(0.3,))


@pytest.mark.parametrize("units", ["neuron", "kv_group"])
def test_one_kind_of_unit(units):
    agree(tiny_lm(), "wanda-sp", 1e-6, sparsities=(0.1, 0.2), units=units)


@pytest.mark.parametrize("method", LAYERS)
def test_layers(method):
    lm = tiny_lm()
    shown = agree(lm, method, 0.0)
    frame = shown.at(0.5)
    gone = frame.kept.max(1) == 0
    assert gone.sum() == 2
    assert (frame.cells[gone] == 0).all()
    assert (frame.cells[~gone] == 255).all()
    assert frame.removed_parameters == 2 * lm.architecture.layer_parameters(0)


@pytest.mark.parametrize(("method", "furthest"), [("magnitude", 0.05), ("wanda", 1 / 8)])
def test_cells_are_where_the_weights_go(method, furthest):
    """Cell by cell against the real mask: to a level and a bin of scores, by row to one of a cell's 8 columns."""
    lm = tiny_lm()
    frame = preview(lm, method, calibration=TOKENS, tile=4).at(0.5)
    masks = workbench.prune(lm, method, 0.5, calibration=TOKENS, propagate=False).masks()
    for (layer, name), mask in masks.items():
        rows, columns = mask.shape
        kept = 1 - mask.reshape(4, rows // 4, 4, columns // 4).mean((1, 3))
        got = frame.cells[layer, lm.architecture.linear_names.index(name)] / 255
        assert np.abs(got - kept).max() <= furthest
        assert np.abs(got - kept).mean() <= 1 / 32


@pytest.mark.parametrize("method", ["magnitude", "flap", "shortgpt"])
def test_more_goes_with_more_sparsity(method):
    shown = preview(tiny_lm(), method, calibration=TOKENS)
    gone = [shown.at(s).removed_parameters for s in np.linspace(0, 0.9, 30)]
    assert gone == sorted(gone)
    assert gone[0] == 0
    frame = shown.at(0.0)
    assert (frame.cells == 255).all()
    assert (frame.kept == 1).all()


@pytest.mark.parametrize("method", ["wanda", "flap", "shortened-llama"])
def test_the_model_is_not_touched(method):
    lm = tiny_lm()
    before = lm.fingerprint
    preview(lm, method, calibration=TOKENS).at(0.5)
    assert lm.fingerprint == before


def test_beyond_what_can_go():
    """A slider may ask for more than pruning allows: the most that can go is shown."""
    frame = preview(tiny_lm(), "wanda-sp", calibration=TOKENS).at(0.99)
    assert frame.removed_parameters < frame.total_parameters
    assert (frame.kept > 0).all()
    frame = preview(tiny_lm(), "magnitude", of="all").at(0.95)
    assert (frame.kept == 0).all()


@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.0, float("nan")])
def test_a_wrong_sparsity(sparsity):
    with pytest.raises(ArgumentError, match=r"want a fraction in \[0, 1\)"):
        preview(tiny_lm(), "magnitude").at(sparsity)


def test_a_rule_for_units_is_refused():
    with pytest.raises(ArgumentError, match="allocation='standardised' cannot be previewed for weights"):
        preview(tiny_lm(), "magnitude", allocation="standardised")
