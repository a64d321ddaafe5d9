"""A session: what is previewed is what is applied, undo, the journal, and the Python that does the same."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from tiny_lm import tiny_lm

import workbench
from workbench.architecture import matrix
from workbench.data import Tokens
from workbench.errors import ArgumentError, Cancelled, DataError
from workbench.jobs import Job, Progress
from workbench.session import Choice, Session, Stage
from workbench.session.sampling import greedy, running

SIZES = {"samples": 4, "seqlen": 64, "windows": 3}


@pytest.fixture(scope="module")
def lm():
    return tiny_lm()


@pytest.fixture
def session(lm):
    return Session(lm, **SIZES)


def zeros(model):
    arch = workbench.models.as_lm(model).architecture
    return [[int((matrix(m) == 0).sum()) for m in arch.linears(i).values()] for i in range(arch.num_layers)]


@pytest.mark.parametrize("method", ["magnitude", "wanda", "ria"])
def test_the_mask_previewed_is_the_mask_applied(session, method):
    session.choose(method=method, sparsity=0.4)
    frame = session.frame()
    pruned = session.prune(speed=False).pruned
    one_per_row = 1 / 32  # rounding to whole weights in a row
    np.testing.assert_allclose(frame.kept, pruned.report.kept(), atol=one_per_row)
    assert frame.removed_parameters == pytest.approx(pruned.report.zeroed, rel=0.005)
    arch = pruned.lm.architecture
    for layer in range(arch.num_layers):
        for column, module in enumerate(arch.linears(layer).values()):
            rows = pooled((matrix(module) != 0).float().numpy()).mean(axis=1)
            shown = frame.cells[layer, column].mean(axis=1) / 255
            np.testing.assert_allclose(shown, rows, atol=one_per_row + 1 / 255)
            agree = np.corrcoef(
                pooled((matrix(module) != 0).float().numpy()).ravel(), frame.cells[layer, column].ravel()
            )
            assert agree[0, 1] > 0.9


def pooled(mask, tile=16):
    rows, columns = (np.arange(n) * tile // n for n in mask.shape)
    sums, counts = np.zeros((tile, tile)), np.zeros((tile, tile))
    np.add.at(sums, (rows[:, None], columns), mask)
    np.add.at(counts, (rows[:, None], columns), 1)
    return sums / counts


@pytest.mark.parametrize(
    ("method", "repair"), [("flap", None), ("flap", "none"), ("wanda-sp", None), ("shortgpt", None)]
)
def test_the_units_previewed_are_the_units_removed(session, method, repair):
    session.choose(method=method, sparsity=0.3, repair=repair)
    frame = session.frame()
    pruned = session.prune(speed=False).pruned
    np.testing.assert_allclose(frame.kept, pruned.report.kept(), atol=1e-6)
    assert frame.removed_parameters == pruned.report.removed


def test_scores_are_computed_once(session):
    session.choose(method="wanda")
    assert not session.ready
    first = session.preview()
    session.choose(sparsity=0.7)
    assert session.ready
    assert session.preview() is first
    session.choose(pattern="2:4")
    assert not session.ready


def test_the_given_model_stays_as_it_is(lm, session):
    before = lm.fingerprint
    session.choose(method="wanda", sparsity=0.5)
    session.prune(speed=False)
    session.apply()
    assert lm.fingerprint == before
    assert session.dense.module is not lm.module, "a session's threads run modules of their own"
    shared = zip(session.dense.module.parameters(), lm.module.parameters(), strict=True)
    assert all(a.data_ptr() == b.data_ptr() for a, b in shared), "but no second copy of the weights"


def test_a_variant_holds_every_figure(session):
    session.choose(method="flap", sparsity=0.3)
    variant = session.prune()
    assert variant.name == "1: flap 30 %"
    assert variant.size.parameters < variant.dense_size.parameters
    assert variant.before.protocol["windows_hash"] == variant.after.protocol["windows_hash"]
    assert variant.speed.prefill.ratio > 0
    assert variant.samples.prompt == session.prompt
    assert "perplexity" in repr(variant)
    assert "<table" in variant.to_html()


def test_apply_undo_redo(session):
    session.choose(method="magnitude", sparsity=0.2)
    first = session.prune(speed=False)
    session.apply()
    assert session.applied is first
    session.choose(method="flap", sparsity=0.2)
    second = session.prune(speed=False)
    assert second.lineage == (first.lineage[0], session.choice)
    session.apply(second)
    assert session.undo() is first.pruned.lm
    assert session.undo() is session.dense
    assert not session.can_undo
    session.redo()
    session.redo()
    assert session.applied is second
    assert [e.action for e in session.journal].count("undo") == 2


def test_nothing_to_undo_says_so(session):
    with pytest.raises(ArgumentError, match="nothing to undo"):
        session.undo()
    with pytest.raises(ArgumentError, match="nothing to redo"):
        session.redo()
    with pytest.raises(ArgumentError, match="prune first"):
        session.apply()


def test_applying_anew_ends_redo(session):
    session.choose(method="magnitude")
    session.prune(speed=False)
    session.apply()
    session.undo()
    session.apply()
    assert not session.can_redo


@pytest.mark.parametrize(
    "choices",
    [
        [{"method": "magnitude", "sparsity": 0.35}],
        [{"method": "wanda", "sparsity": 0.5, "repair": "bias"}],
        [{"method": "wanda", "pattern": "2:4"}],
        [{"method": "wanda", "sparsity": 0.5, "propagate": True}],
        [{"method": "flap", "sparsity": 0.3, "units": "neuron"}],
        [{"method": "flap", "sparsity": 0.2}, {"method": "magnitude", "sparsity": 0.3}],
    ],
    ids=lambda c: "+".join(x["method"] + "-".join(map(str, x.values())) for x in c),
)
def test_the_printed_python_does_the_same(lm, session, choices):
    for i, choice in enumerate(choices):
        session.choose(**choice)
        expected = session.choice_to_python()
        variant = session.prune(speed=False)
        assert session.to_python(variant) == expected
        if i + 1 < len(choices):
            session.apply(variant)
    names = {"model": lm}
    exec(expected, names)
    assert names["pruned"].report.true_sparsity == variant.pruned.report.true_sparsity
    assert zeros(names["pruned"]) == zeros(variant.pruned)
    mine, theirs = variant.pruned.lm.module.state_dict(), names["pruned"].lm.module.state_dict()
    assert all(torch.equal(mine[k], theirs[k]) for k in mine | theirs)


def test_python_for_given_tokens(lm):
    drawn = workbench.calibration(lm, samples=4, seqlen=64, seed=3)
    assert "workbench.calibration(model, samples=4, seqlen=64, seed=3)" in Session(lm, drawn).choice_to_python()
    foreign = Tokens.of(np.arange(64).reshape(1, -1))
    assert "# tokens: the calibration tokens that were given" in Session(lm, foreign).choice_to_python()
    assert "calibration(model, 'some.txt', samples=4" in Session(lm, "some.txt", **SIZES).choice_to_python()


def test_bad_choices_are_refused_and_change_nothing(session):
    before = session.choice
    for wrong in (
        {"method": "wnda"},
        {"sparsity": 1.0},
        {"sparsity": -0.1},
        {"metod": "wanda"},
        {"pattern": "4:2"},
    ):
        with pytest.raises(ArgumentError):
            session.choose(**wrong)
    assert session.choice == before
    with pytest.raises(ArgumentError, match="did you mean 'wanda'"):
        session.choose(method="wnda")


def test_a_new_method_begins_with_its_own_stages(session):
    session.choose(method="wanda", repair="bias", sparsity=0.3)
    assert session.choose(method="flap") == Choice("flap", 0.3)


def test_a_pattern_fixes_the_sparsity(session):
    assert session.choose(method="wanda", sparsity=0.8, pattern="2:4").sparsity == 0.5


def test_cancelling_changes_nothing(lm, session):
    before, heard = lm.fingerprint, []
    progress = Progress(lambda step: (heard.append(step), progress.cancel() if len(heard) > 3 else None))
    with pytest.raises(Cancelled):
        session.prune(progress)
    assert lm.fingerprint == before
    assert session.variants == ()
    assert session.prune(speed=False).number == 1, "and the session goes on"


def test_what_waits_for_its_turn_can_be_cancelled(session):
    held = threading.Event()
    free = threading.Event()

    def hold(step):
        held.set()
        free.wait(10)

    first = Job(session.prune, listener=hold, speed=False)
    assert held.wait(10)
    second = Job(session.preview)
    second.cancel()
    with pytest.raises(Cancelled):
        second.result(5)
    free.set()
    assert first.result(60).number == 1


def test_stages_are_announced_with_what_they_found(session):
    steps = []
    session.prune(Progress(steps.append), speed=False)
    stages = [s.partial for s in steps if isinstance(s.partial, Stage)]
    assert [s.index for s in stages] == list(range(len(stages)))
    assert stages[-1].count == len(stages)
    assert any(type(s.partial).__name__ == "Quality" for s in steps)


def test_sample_and_export(session, tmp_path):
    session.choose(method="flap", sparsity=0.3)
    variant = session.prune(speed=False)
    said = session.sample("abc", 5)
    assert said.dense is not None
    assert said.pruned is not None
    saved = session.export(tmp_path / "out")
    back = workbench.load(saved.folder)
    assert workbench.size(back).parameters == variant.size.parameters


def test_greedy_is_the_likeliest_token_each_time(lm):
    text = greedy(lm, "ab", 6)
    ids = torch.tensor([lm.tokenizer("ab")["input_ids"]])
    with torch.no_grad():
        for _ in range(6):
            ids = torch.cat([ids, lm.module(ids).logits[:, -1:].argmax(-1)], 1)
    assert text == lm.tokenizer.decode(ids[0, 2:])
    with pytest.raises(DataError, match="no tokenizer"):
        greedy(workbench.wrap(lm.module), "ab", 1)
    with pytest.raises(DataError, match="no tokens"):
        greedy(lm, "", 1)


def test_running_ends_at_the_figure(lm):
    quality = workbench.perplexity(lm, workbench.evaluation(lm, seqlen=64, windows=5))
    points = running(quality)
    assert points.shape == (5, 4)
    np.testing.assert_allclose(points[-1], [quality.tokens, quality.perplexity, quality.low, quality.high], rtol=1e-9)
    assert np.isnan(points[0, 2:]).all()


def test_calibration_and_evaluation_must_differ(lm):
    text = workbench.load_text()
    with pytest.raises(DataError):
        Session(lm, text, text, **SIZES).tokens()
