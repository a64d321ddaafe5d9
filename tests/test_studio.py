"""The pruning panel without a browser: traits in, traits out; pure functions of its JavaScript under node."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import workbench_widgets
from tiny_lm import tiny_lm
from workbench_widgets import PrunePanel, prune_panel, view
from workbench_widgets._base import STATIC, join_modules
from workbench_widgets._worker import Latest, Runner

import workbench
from workbench.errors import ArgumentError, ResourceError
from workbench.session import Session

SIZES = {"samples": 4, "seqlen": 64, "windows": 3}
ROOT = Path(__file__).parents[1]


def settled(studio, seconds=60):
    end = time.monotonic() + seconds
    while studio.busy:
        assert time.monotonic() < end, studio.job
        time.sleep(0.005)
    return studio


@pytest.fixture(scope="module")
def lm():
    return tiny_lm()


@pytest.fixture
def studio(lm):
    made = settled(prune_panel(lm, method="magnitude", **SIZES))
    yield made
    made.cancel()
    settled(made)


def test_it_opens_scored_and_drawn(studio):
    frame = studio.frame
    assert (frame["layers"], frame["sparsity"]) == (3, 0.5)
    assert len(studio.cells) == 3 * len(frame["names"]) * frame["tile"] ** 2
    assert len(studio.kept) == 3 * len(frame["names"]) * 4
    assert studio.job["state"] == "done"
    assert {m["name"] for m in studio.catalogue} == {m.name for m in workbench.methods()}
    families = [m["family"] for m in studio.catalogue]
    assert len(set(families)) == sum(a != b for a, b in zip(families, ["", *families], strict=False))


def test_the_slider_draws_what_the_library_says(studio):
    studio.set_state({"sparsity": 0.25, "request": 7})
    settled(studio)
    expected = studio.session.frame(0.25)
    assert studio.frame["request"] == 7
    assert studio.frame["removed"] == expected.removed_parameters
    assert studio.cells == np.ascontiguousarray(expected.cells).tobytes()
    np.testing.assert_array_equal(np.frombuffer(studio.kept, "<f4"), expected.kept.ravel())


def test_choosing_scores_anew_and_draws(studio):
    studio.set_state({"choice": {**studio.choice, "method": "wanda"}})
    settled(studio)
    assert studio.session.choice.method == "wanda"
    assert studio.session.ready


def test_pruning_fills_every_panel(studio):
    studio.prune()
    settled(studio)
    assert studio.error == {}
    assert studio.job["state"] == "done"
    assert len(studio.quality["before"]["curve"]) == len(studio.quality["after"]["curve"]) == 3
    assert studio.size["pruned"]["nonzero"] < studio.size["dense"]["nonzero"]
    assert studio.speed["prefill"]["ratio"] > 0
    assert studio.samples["prompt"] == studio.prompt
    assert [v["id"] for v in studio.variants] == [-1, 1]
    assert studio.selected == 1
    json.dumps(studio.state(), allow_nan=False)


def test_apply_undo_export_and_code(studio, tmp_path):
    sent = []
    studio.send = sent.append
    studio.prune()
    settled(studio)
    studio._heard(None, {"command": "apply"}, None)
    settled(studio)
    assert studio.history["current"] == "1: magnitude 50 %"
    studio._heard(None, {"command": "undo"}, None)
    assert studio.history == {"can_undo": False, "can_redo": True, "current": ""}
    studio._heard(None, {"command": "redo"}, None)
    studio._heard(None, {"command": "export", "folder": str(tmp_path / "out")}, None)
    settled(studio)
    assert studio.exported["folder"] == str(tmp_path / "out")
    assert (tmp_path / "out" / "config.json").is_file()
    studio._heard(None, {"command": "code"}, None)
    variant = studio.session.variants[0]
    studio.set_state({"sparsity": 0.2})
    studio._heard(None, {"command": "code"}, None)
    assert sent == [{"code": studio.session.to_python(variant)}, {"code": studio.session.choice_to_python()}]


def test_errors_reach_the_screen(studio, tmp_path):
    for wrong in ({"command": "undo"}, {"command": "apply"}, {"command": "export", "folder": " "}):
        studio._heard(None, wrong, None)
        assert studio.error["text"], wrong
        studio.error = {}
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    studio.prune()
    settled(studio)
    studio.export(tmp_path / "full")
    settled(studio)
    assert "holds something already" in studio.error["text"]
    assert studio.job["state"] == "failed"


def test_picking_a_variant_shows_its_figures_also_after_cancelling(studio):
    for sparsity in (0.5, 0.9):
        studio.set_state({"sparsity": sparsity})
        studio.prune()
        settled(studio)
    second = studio.quality["after"]["perplexity"]
    studio.set_state({"selected": 1})
    assert studio.quality["after"]["perplexity"] != second
    shown = studio.quality
    studio.prune()
    studio.cancel()
    settled(studio)
    assert studio.quality == shown


def test_a_second_command_waits_for_the_first(studio):
    studio.prune()
    with pytest.raises(ArgumentError, match="busy"):
        studio.prune()
    studio.cancel()
    settled(studio)


def test_cancel_ends_within_a_second_and_changes_nothing(studio):
    studio.prune()
    studio.cancel()
    start = time.monotonic()
    settled(studio)
    assert time.monotonic() - start < 1
    assert studio.job["state"] == "cancelled"
    assert studio.session.variants == ()


def test_calls_from_the_front_end_return_at_once(studio):
    start = time.monotonic()
    studio._heard(None, {"command": "prune"}, None)
    assert time.monotonic() - start < 0.3


def test_without_a_kernel_there_is_a_picture(studio):
    studio.prune()
    settled(studio)
    data, _ = studio._repr_mimebundle_()
    assert "data:image/png;base64" in data["text/html"]
    assert "<script" not in data["text/html"]
    assert data["text/plain"] == "Pruning: memory, magnitude 50 %"
    assert "application/vnd.jupyter.widget-view+json" in data


def test_a_notebook_keeps_the_static_form_and_it_follows(studio, monkeypatch):
    shown, later = [], []
    monkeypatch.setattr("IPython.display.display", lambda data, **how: shown.append((data, how)))
    monkeypatch.setattr("IPython.display.update_display", lambda data, **how: later.append((data, how)))
    studio._ipython_display_()
    (view, _), (static, how) = shown
    assert list(view) == ["application/vnd.jupyter.widget-view+json"], "readers without a kernel see one thing, not two"
    assert sorted(static) == ["text/html", "text/plain"]
    assert f"wb-static-{studio.twin}" in static["text/html"]
    assert "twin" not in studio.state(), "a saved page has none"
    studio.prune()
    settled(studio)
    end = time.monotonic() + 20
    while not later and time.monotonic() < end:
        time.sleep(0.01)
    data, again = later[-1]
    assert again["display_id"] == how["display_id"] == studio.twin
    assert "1: magnitude 50 %" in data["text/html"]
    assert "1: magnitude 50 %" not in static["text/html"]


def test_the_first_mask_comes_into_the_notebook_without_a_job(lm, monkeypatch):
    later = []
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: None)
    monkeypatch.setattr("IPython.display.update_display", lambda data, **how: later.append((data["text/html"], how)))
    session = Session(lm, **SIZES)
    session.preview()
    with closing(workbench.studio(session)) as joined:
        joined._ipython_display_()
        end = time.monotonic() + 20
        while not any("data:image/png" in html for html, _ in later) and time.monotonic() < end:
            time.sleep(0.01)
        assert "data:image/png" in later[-1][0]
        assert later[-1][1]["display_id"] == joined.twin


def test_the_page_holds_everything(studio, tmp_path):
    page = studio.to_html(tmp_path / "studio.html")
    assert page == (tmp_path / "studio.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert "https://" not in page
    with pytest.raises(ResourceError, match="cannot write"):
        studio.to_html(tmp_path / "no" / "such.html")


def test_modules_are_joined_into_one():
    joined = join_modules("maths.js", "dom.js", "primitives.js", "picture.js")
    assert "import " not in joined
    assert "export " not in joined
    assert PrunePanel._esm.count("export default") == 1
    assert PrunePanel._esm.count("export ") == 1
    for cls in (v for v in vars(workbench_widgets).values() if isinstance(v, type)):
        found = re.findall(r"^(?:async )?(?:function|class|const|let) (\w+|\[[^\]]*\])", cls._esm, re.MULTILINE)
        names = [name for one in found for name in re.findall(r"\w+", one)]
        assert {n for n in names if names.count(n) > 1} == set(), f"{cls.__name__}: modules share one scope"
    for name in STATIC.glob("*.js"):
        assert len(name.read_text(encoding="utf-8").splitlines()) <= 300, name.name


def test_latest_wins():
    done, go = [], __import__("threading").Event()
    latest = Latest(lambda x: (go.wait(5), done.append(x)), pytest.fail)
    for i in range(10):
        latest.ask(i)
    go.set()
    end = time.monotonic() + 5
    while latest.busy and time.monotonic() < end:
        time.sleep(0.001)
    assert done[-1] == 9
    assert len(done) <= 3


def test_an_error_while_drawing_is_told():
    told = []
    latest = Latest(lambda _: 1 / 0, told.append)
    latest.ask(1)
    end = time.monotonic() + 5
    while not told and time.monotonic() < end:
        time.sleep(0.001)
    assert isinstance(told[0], ZeroDivisionError)
    assert not latest.busy


def test_reports_come_ten_times_a_second_at_most():
    told = []
    runner = Runner(told.append, lambda *_: None, pytest.fail)

    def work(progress):
        for i in range(300):
            progress.step("work", i, 1000)
            time.sleep(0.001)

    runner.run("prune", "Pruning", work, lambda _: None)
    while runner.kind:
        time.sleep(0.005)
    assert len(told) <= 2 + 10
    assert told[-1]["state"] == "done"


def test_view_shows_results_and_nothing_else(lm):
    quality = workbench.perplexity(lm, workbench.evaluation(lm, seqlen=64, windows=2))
    assert view(quality) is quality
    with pytest.raises(ArgumentError, match="pass a result"):
        view(3)


def test_the_javascript_under_node():
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    tests = sorted(map(str, (ROOT / "widgets" / "tests-js").glob("*.test.mjs")))
    ran = subprocess.run([node, "--test", *tests], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
