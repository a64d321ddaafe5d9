"""The kernel lab without a browser: a choice in, a pattern and timings out, in a thread that can be stopped."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_lm import tiny_lm
from workbench_widgets import KernelLab, view
from workbench_widgets._kernel_choice import KernelChoice, mask_of, named_models
from workbench_widgets._kernel_state import figures, in_parts

import workbench
from workbench.errors import ArgumentError
from workbench.execute.patterns import picture
from workbench.jobs import Progress, Step
from workbench.session import Stage

QUICK: dict[str, Any] = {"formats": ("16x1",), "tokens": (1, 4), "repeats": 2}


def settled(lab: KernelLab, seconds: float = 60) -> KernelLab:
    end = time.monotonic() + seconds
    while lab.busy:
        assert time.monotonic() < end, lab.job
        time.sleep(0.005)
    return lab


def until(true: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture(scope="module")
def lm() -> Any:
    return tiny_lm()


@pytest.fixture(scope="module")
def timed() -> Any:
    return workbench.time_kernels((64, 48), pattern="16x1", sparsity=0.75, **QUICK)


@pytest.fixture
def lab() -> Any:
    made = settled(workbench.kernel_lab(shape=(64, 48), sparsity=0.75, **QUICK))
    yield made
    made.cancel()
    settled(made)


def test_it_opens_with_the_pattern_that_will_be_timed(lab: KernelLab) -> None:
    mask = mask_of(KernelChoice(rows=64, columns=48, sparsity=0.75), {})
    assert (lab.frame["rows"], lab.frame["columns"], lab.frame["pattern"]) == (64, 48, "16x1")
    assert lab.frame["zeros"] == pytest.approx(0.75, abs=0.01)
    assert {"dense", "16x1", "bitmap"} <= set(lab.frame["suits"])
    assert "bsr16" not in lab.frame["suits"]
    assert lab.whole == picture(mask).tobytes()
    assert lab.corner == (np.uint8(255) * mask[:64, :64]).tobytes()
    assert (lab.job["state"], lab.error, lab.result) == ("idle", {}, None)
    assert {"16x1", "csr", "bitmap"} <= set(lab.options["formats"])
    assert lab.options["models"] == []
    assert "data:image/png" in lab.static_html(), "a reader without a kernel sees the pattern"
    assert "64 x 48" in lab.static_text()


def test_the_slider_draws_and_answers_its_request(lab: KernelLab) -> None:
    lab.set_state({"choice": {**lab.choice, "sparsity": 0.25}, "request": 7})
    settled(lab)
    assert lab.frame["request"] == 7
    assert lab.frame["zeros"] == pytest.approx(0.25, abs=0.01)


def test_running_streams_figures_and_ends_with_a_result(lab: KernelLab) -> None:
    told: list[dict[str, Any]] = []
    lab.observe(lambda change: told.append(change["new"]), "job")
    lab._heard(None, {"command": "run"}, None)
    assert lab.busy
    settled(lab)
    assert (lab.error, lab.job["state"]) == ({}, "done")
    fractions = [job["fraction"] for job in told]
    assert fractions == sorted(fractions)
    assert any("compile and check" in job["text"] for job in told)
    assert isinstance(lab.result, workbench.execute.KernelTimings)
    assert lab.timings["complete"]
    assert lab.timings["tokens"] == [1, 4]
    names = {row["name"] for row in lab.timings["rows"]}
    assert {"torch", "torch-bf16", "dense", "16x1"} <= names
    assert lab.timings["roof"]["fp32"] > 0
    assert "2 interleaved rounds" in lab.timings["protocol"]
    assert lab.result.picture.tobytes() == lab.whole, "the pattern that was seen is the pattern that was timed"
    json.dumps(lab.state(), allow_nan=False)
    assert "<svg" in lab.static_html()
    assert "fastest at" in lab.static_text()


def test_cancelling_is_prompt_and_keeps_what_was_timed(lab: KernelLab) -> None:
    lab.choose(repeats=100_000)
    lab.run()
    until(lambda: lab.timings.get("rows"))
    start = time.monotonic()
    lab._heard(None, {"command": "cancel"}, None)
    assert lab.job["state"] == "cancelling"
    settled(lab)
    assert time.monotonic() - start < 2
    assert lab.job["state"] == "cancelled"
    assert "what was timed so far" in lab.job["text"]
    assert lab.result is not None
    assert not lab.timings["complete"]
    assert lab.timings["protocol"].startswith("up to 100000")
    settled(lab)


def test_what_was_there_comes_back_when_nothing_new_was_timed(lab: KernelLab, timed: Any) -> None:
    lab.result = timed
    lab._untimed()
    assert lab.timings == figures(timed, complete=True)


def test_errors_are_shown_not_raised(lab: KernelLab) -> None:
    lab.set_state({"choice": {**lab.choice, "rows": 0}, "request": 3})
    assert "0 x 48" in lab.error["text"]
    assert lab.frame["request"] == 3, "the front end is answered, or its slider would wait for ever"
    lab.set_state({"choice": {**lab.choice, "rows": 64}})
    assert lab.error == {}
    lab.set_state({"choice": {**lab.choice, "pattern": "16y1"}})
    settled(lab)
    assert "want N:M" in lab.error["text"]
    lab.set_state({"choice": {**lab.choice, "pattern": "16x1", "formats": ["bitmp"]}})
    lab._heard(None, {"command": "run"}, None)
    settled(lab)
    assert "did you mean 'bitmap'" in lab.error["text"]
    assert lab.job["state"] == "failed"
    with pytest.raises(ArgumentError, match="unknown setting 'sparsty': did you mean 'sparsity'"):
        lab.choose(sparsty=0.5)


def test_one_run_at_a_time(lab: KernelLab) -> None:
    lab.choose(repeats=100_000)
    lab.run()
    with pytest.raises(ArgumentError, match="busy"):
        lab.run()
    lab._heard(None, {"command": "run"}, None)
    assert "busy" in lab.error["text"]
    lab.cancel()
    settled(lab)
    assert lab.job["text"].startswith("Cancelled")


def test_labs_take_turns_and_waiting_can_be_cancelled(lab: KernelLab) -> None:
    other = settled(workbench.kernel_lab(shape=(32, 32), **QUICK))
    lab.choose(repeats=100_000)
    lab.run()
    until(lambda: lab.timings.get("rows"))
    other.run()
    time.sleep(0.2)
    assert other.busy
    assert not other.timings, "what runs at the same time would be timed too"
    other.cancel()
    settled(other, 2)
    assert other.job["text"] == "Cancelled: nothing was timed"
    lab.cancel()


def test_a_layer_of_a_pruned_model_brings_its_own_zeros(lm: Any) -> None:
    pruned = workbench.prune(lm, "magnitude", 0.5, pattern="2:4")
    lab = settled(workbench.kernel_lab({"dense": lm, "2:4": pruned}, "layers.1.mlp.up_proj", tokens=2, repeats=1))
    assert (lab.choice["model"], lab.frame["pattern"], lab.frame["zeros"]) == ("2:4", "2:4", 0.5)
    assert "layers.2.mlp.down_proj" in lab.options["layers"]
    lab.set_state({"choice": {**lab.choice, "model": "dense"}})
    settled(lab)
    assert (lab.frame["pattern"], lab.choice["layer"]) == ("dense", "layers.1.mlp.up_proj")
    lab.set_state({"choice": {**lab.choice, "model": "2:4", "layer": ""}})
    settled(lab)
    assert lab.choice["layer"] == lab.options["layers"][0]
    assert "model, 'layers.0" in lab.to_python()
    lab.set_state({"choice": {**lab.choice, "model": "gone"}})
    settled(lab)
    assert "unknown model 'gone'" in lab.error["text"]


def test_a_session_offers_its_variants_as_they_are_made(lm: Any) -> None:
    session = workbench.Session(lm, samples=4, seqlen=64, windows=2)
    lab = settled(workbench.kernel_lab(session))
    assert lab.options["models"] == ["dense"]
    session.choose(method="magnitude", sparsity=0.5)
    variant = session.prune()
    lab._heard(None, {"command": "models"}, None)
    assert lab.options["models"] == ["dense", variant.name]
    mask = mask_of(KernelChoice(model=variant.name, layer="layers.0.mlp.up_proj"), named_models(session))
    assert np.count_nonzero(mask) < mask.size
    assert list(named_models(lm)) == ["memory"]


def test_python_does_the_same(lab: KernelLab) -> None:
    sent: list[Any] = []
    lab.send = sent.append
    lab._heard(None, {"command": "code"}, None)
    assert sent == [{"code": lab.to_python()}]
    scope: dict[str, Any] = {}
    exec(lab.to_python(), scope)
    assert scope["timings"].shape == (64, 48)
    assert scope["timings"].repeats == 2
    assert "sparsity" not in KernelChoice(pattern="2:4").python()


def test_a_finished_result_is_a_view_without_controls(timed: Any) -> None:
    shown = view(timed)
    assert isinstance(shown, KernelLab)
    assert (shown.controls, shown.result, shown.busy) == (False, timed, False)
    assert shown.whole == timed.picture.tobytes()
    assert len(shown.timings["rows"]) == len(timed.rows)
    assert shown.static_html() == timed.to_html()
    page = shown.to_html()
    assert "<script" in page
    assert "https://" not in page.replace("https://www.w3.org", "")


def test_wrong_arguments() -> None:
    with pytest.raises(ArgumentError, match="two whole numbers"):
        workbench.kernel_lab(shape=(3,))
    with pytest.raises(ArgumentError, match="at most 67,108,864 weights"):
        workbench.kernel_lab(shape=(1 << 20, 1 << 20))
    with pytest.raises(ArgumentError, match="without a model"):
        workbench.kernel_lab(layer="head")
    with pytest.raises(ArgumentError, match="is not a model"):
        workbench.kernel_lab({"a": 3})
    with pytest.raises(ArgumentError, match="unknown setting 'tokns'"):
        workbench.kernel_lab(tokns=3)


def test_steps_become_parts_of_one_bar() -> None:
    heard: list[Step] = []

    def work(progress: Progress) -> int:
        for what in ("measure the machine", "convert", "convert", "something else", "time kernels"):
            progress.step(what, 1, 2)
        return 5

    assert in_parts(work, balanced=False)(Progress(heard.append)) == 5
    stages = [step.partial for step in heard if isinstance(step.partial, Stage)]
    assert [(s.index, s.count) for s in stages] == [(0, 3), (1, 3), (2, 3)]
    assert [step.what for step in heard if step.partial is None] == ["figure", "format", "format", "round"]
    assert in_parts(lambda progress: progress.listener and 1, balanced=True)(Progress()) == 1


def test_the_instructions_of_a_kernel_are_listed_when_asked_for(lab: KernelLab) -> None:
    lab._heard(None, {"command": "instructions", "format": "16x1", "values": "fp32", "tokens": 4}, None)
    settled(lab)
    assert (lab.listing["format"], lab.listing["tokens"], lab.error) == ("16x1", 4, {})
    assert any(name.startswith(("vfmadd", "vmul", "fm", "mul")) and n > 0 for name, n in lab.listing["counts"])
    lab._heard(None, {"command": "instructions", "format": "torch", "values": "fp32", "tokens": 4}, None)
    settled(lab)
    assert "torch's own" in lab.listing["note"]


def test_the_modules_make_one_module(tmp_path: Path) -> None:
    assert KernelLab._esm.count("export ") == 1
    assert "import {" not in KernelLab._esm
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    path = tmp_path / "lab.mjs"
    path.write_text(KernelLab._esm, encoding="utf-8")
    ran = subprocess.run([node, "--check", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
