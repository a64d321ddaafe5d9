"""Every view in one notebook in JupyterLab, worked by hand there; saved, and opened again without a kernel."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser_host import guarded
from browser_lab import RUN_ALL, TOKEN
from playwright.sync_api import expect

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "notebooks" / "tutorials" / "01_prune_a_real_model.ipynb"
ERRORS = ", ".join(f".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.{m}']" for m in ("error", "stderr"))
CELLS = (
    f"""import sys
sys.path.append({str(ROOT / "tests")!r})
import lens_studies, theatre_traces, workbench
from tiny_lm import tiny_lm
workbench.studio(tiny_lm(30), method="magnitude", samples=4, seqlen=64, windows=6)""",
    'workbench.lens(lens_studies.study(), panel="map", head=(1, 3))',
    "workbench.theatre(theatre_traces.speculative(), frame=3)",
    'workbench.kernel_lab(shape=(96, 64), formats=("16x1", "bitmap"), tokens=(1, 4), repeats=3)',
    'workbench.predict("How much faster?", low=0, high=9)',
)
THEME = "(t) => window.jupyterapp.commands.execute('apputils:change-theme', { theme: `JupyterLab ${t}` })"
BURSTS = 8  # of ten moves each, within a second
STORM = """async (slider) => {
  const move = (value) => { slider.value = value; slider.dispatchEvent(new Event("input", { bubbles: true })); };
  for (let burst = 0; burst < 8; burst++) {
    for (let i = 0; i < 10; i++) move(20 + 5 * i + burst);
    if (burst === 7) move(37);
    await new Promise((f) => setTimeout(f, burst === 7 ? 0 : 60));
  }
  return Number(slider.closest(".wb-prune").dataset.frame);
}"""
SAVE = """async () => {
  await window.jupyterapp.commands.execute("docmanager:save");
  return window.jupyterapp.shell.currentWidget.context.model.dirty;
}"""
# As "No Kernel" in the dialog does.
OPEN = """async (path) => {
  await window.jupyterapp.restored;
  const kernelPreference = { shouldStart: false, canStart: false, autoStartDefault: false };
  await window.jupyterapp.commands.execute("docmanager:open", { path, factory: "Notebook", kernelPreference });
}"""


def wait_for_idle(page: Any, seconds: float) -> None:
    expect(page.locator(".wb-prune .wb-step-prune")).to_have_attribute("aria-busy", "false", timeout=seconds * 1000)


def move_slider(page: Any, steps: int) -> list[float]:
    """Press an arrow key step by step, each after the picture of the one before; milliseconds of each."""
    slider = page.locator(".wb-prune").get_by_role("slider", name="Sparsity")
    slider.focus()
    for _ in range(steps):
        before = int(page.locator(".wb-prune").get_attribute("data-frame"))
        page.keyboard.press("ArrowLeft")
        expect(page.locator(".wb-prune")).to_have_attribute("data-frame", str(before + 1), timeout=5000)
    return [float(x) for x in page.locator(".wb-prune").get_attribute("data-latency").split()][-steps:]


def work_through(page: Any, picture: Callable[..., None], name: str, *, seconds: float) -> list[float]:
    """What a user does: look, move the slider, prune, read, prune again, cancel, apply, copy the code."""
    studio = page.locator(".wb-prune")
    studio.scroll_into_view_if_needed()
    wait_for_idle(page, seconds)
    expect(studio).to_have_attribute("data-frame", "0", timeout=seconds * 1000)
    picture(studio, f"{name}-1-opened")
    latencies = move_slider(page, 10)
    expect(studio.locator(".wb-note")).to_contain_text("weights would go (4")
    picture(studio, f"{name}-2-slider")
    button(page, "Prune").click()
    expect(button(page, "Cancel")).to_be_enabled(timeout=5000)
    expect(studio.locator(".wb-chart")).to_be_visible(timeout=seconds * 1000)
    picture(studio, f"{name}-3-pruning")
    expect(studio.get_by_role("radio")).to_have_count(1, timeout=seconds * 1000)
    wait_for_idle(page, seconds)
    expect(studio.locator(".wb-step-compare")).to_contain_text("zeroed, still stored")
    expect(studio.locator(".wb-said").last).to_contain_text("The capital of France is")
    picture(studio, f"{name}-4-pruned")
    button(page, "Prune").click()
    expect(button(page, "Cancel")).to_be_enabled(timeout=5000)
    start = time.monotonic()
    button(page, "Cancel").click()
    expect(studio.locator(".wb-progress-text")).to_contain_text("Cancelled: nothing was changed", timeout=5000)
    assert time.monotonic() - start < 2, "cancelling takes a second at most, and the page a little"
    picture(studio, f"{name}-5-cancelled")
    button(page, "Apply").click()
    expect(page.locator(".wb-joined > .wb-top")).to_contain_text("Prune on 1:")
    button(page, "Copy as Python").click()
    expect(studio.get_by_role("region", name="Python that does the same")).to_contain_text("workbench.prune(model")
    picture(studio, f"{name}-6-applied")
    page.evaluate(THEME, "Dark")
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "false", timeout=20_000)
    picture(studio, f"{name}-7-dark")
    page.evaluate(THEME, "Light")
    assert page.get_by_role("alert").filter(has_text="Error").count() == 0
    return latencies


def button(page: Any, name: str) -> Any:
    return page.locator(".wb-prune").get_by_role("button", name=name, exact=True)


def run_all(page: Any) -> None:
    assert page.evaluate(RUN_ALL) is True, page.locator(ERRORS).all_text_contents()
    assert page.locator(ERRORS).all_text_contents() == []


@pytest.fixture(scope="module")
def views(lab: Any, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page with the notebook of all views, run; its kernel is still there."""
    source = tmp_path_factory.mktemp("views") / "views.ipynb"
    cells = [nbformat.v4.new_code_cell(text) for text in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), source)
    with guarded(browser, viewport={"width": 1280, "height": 4800}) as page:
        page.messages = []  # how many bytes each had that came from the server
        page.on("websocket", lambda s: s.on("framereceived", lambda message: page.messages.append(len(message))))
        with lab.notebook(page, source):
            run_all(page)
            yield page


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_the_studio_of_a_tiny_model(views: Any, picture: Any) -> None:
    work_through(views, picture, "tiny", seconds=240)  # some seconds of work, on a machine that may be busy


@pytest.mark.browser
def test_a_storm_of_slider_moves_ends_at_the_last_and_leaves_no_queue(views: Any) -> None:
    studio = views.locator(".wb-prune")
    wait_for_idle(views, 60)
    before = int(studio.get_attribute("data-frame"))
    views.messages.clear()
    at_the_end = studio.get_by_role("slider", name="Sparsity").evaluate(STORM)
    expect(studio.locator(".wb-note")).to_contain_text("would go (37.0 %)")
    frames = int(studio.get_attribute("data-frame"))
    assert frames - at_the_end <= 2, "one that was on its way, and the last"
    assert frames - before <= 2 * BURSTS, "of eighty moves those are drawn that there was time for"
    assert 0 < max(views.messages) < 300_000, "bytes"


@pytest.mark.browser
def test_the_lens_asks_the_kernel_for_tiles(views: Any, picture: Any) -> None:
    lens = views.locator(".wb-ln")
    canvas = lens.locator(".wb-ln-map")
    expect(canvas).to_have_attribute("data-tiles", "6", timeout=60_000)
    lens.get_by_label("Blocks of a pattern").select_option("3")
    expect(canvas).to_have_attribute("data-veil", "7|3", timeout=20_000)
    lens.get_by_role("tab", name="Text").click()
    expect(lens.locator(".wb-ln-panel[data-exact]")).to_have_attribute("data-exact", "true", timeout=20_000)
    picture(lens, "lens-jupyter")


@pytest.mark.browser
def test_the_theatre_is_scrubbed(views: Any, picture: Any) -> None:
    theatre = views.locator(".wb-th")
    expect(theatre).to_have_attribute("data-position", "3", timeout=60_000)
    theatre.get_by_role("slider", name="Step").focus()
    views.keyboard.press("ArrowRight")
    expect(theatre).to_have_attribute("data-position", "4")
    views.keyboard.press("End")
    expect(theatre).to_have_attribute("data-position", "24")
    picture(theatre, "theatre-jupyter")


@pytest.mark.browser
def test_the_kernel_lab_times_streams_and_stops(views: Any, picture: Any) -> None:
    shown = views.locator(".wb-lab")
    expect(shown).to_have_attribute("data-frame", "0", timeout=60_000)
    shown.get_by_label("Inputs (columns)").fill("128")
    shown.get_by_label("Inputs (columns)").press("Tab")
    expect(shown.locator(".wb-note")).to_contain_text("96 × 128")
    shown.get_by_role("slider", name="Sparsity").focus()
    views.keyboard.press("ArrowRight")
    expect(shown.locator(".wb-model")).to_contain_text("81 % zero")
    shown.get_by_role("button", name="Run", exact=True).focus()
    views.keyboard.press("Enter")
    expect(shown.locator(".wb-lab-bar[data-name='16x1']")).to_be_visible(timeout=60_000)
    expect(shown.locator(".wb-step-read")).to_have_attribute("data-complete", "true", timeout=60_000)
    expect(shown.locator(".wb-step-run")).to_have_attribute("aria-busy", "false")
    shown.get_by_text("Vector instructions in the kernel's inner loop").click()
    expect(shown.locator(".wb-lab-listing")).to_contain_text("at 1 token", timeout=20_000)
    picture(shown, "kernel-lab-jupyter-done")
    cancel_a_long_run(shown)
    shown.get_by_role("button", name="Copy as Python").click()
    expect(shown.get_by_role("region", name="Python that does the same")).to_contain_text("(96, 128), pattern='16x1'")


def cancel_a_long_run(shown: Any) -> None:
    shown.get_by_label("Rounds").fill("9999")
    shown.get_by_label("Rounds").press("Tab")
    shown.get_by_role("button", name="Run", exact=True).click()
    expect(shown.locator(".wb-step-read")).to_have_attribute("data-complete", "false", timeout=30_000)
    expect(shown.locator(".wb-step-read")).to_have_attribute("data-rows", re.compile("[1-9]"), timeout=30_000)
    shown.get_by_role("button", name="Cancel", exact=True).click()
    expect(shown.locator(".wb-step-run")).to_contain_text("Cancelled: figures show what was timed so far", timeout=5000)
    expect(shown.locator(".wb-lab-bar[data-name='bitmap']")).to_be_visible()


@pytest.mark.browser
def test_a_saved_notebook_shows_pictures_without_a_kernel(lab: Any, page: Any, views: Any, picture: Any) -> None:
    static = ["down_proj", "What smaller KV caches keep", "corrected by the target", "% zero", "Your guess: none"]
    assert views.locator("[class^=wb-static]:visible").count() == 0, "the views stand there themselves"
    expect(views.locator("[class^=wb-static]").first).to_contain_text(static[0], timeout=30_000)  # drawn after scoring
    assert views.evaluate(SAVE) is False
    shutil.copy(lab.root / "views.ipynb", lab.root / "saved.ipynb")
    page.set_viewport_size({"width": 1280, "height": 4800})
    page.forgiven.append("reading 'kernel'")  # JupyterLab's own, where a notebook has none
    page.goto(f"{lab.base}/lab?token={TOKEN}", wait_until="domcontentloaded")
    page.wait_for_function("window.jupyterapp !== undefined")
    page.evaluate(OPEN, "saved.ipynb")
    pictures = page.locator("[class^=wb-static]:visible")
    expect(pictures).to_have_count(len(CELLS), timeout=30_000)
    for shown, words in zip(pictures.all(), static, strict=True):
        expect(shown).to_contain_text(words)
    assert page.get_by_text(re.compile("Error displaying widget|Loading widget")).filter(visible=True).count() == 0
    assert [s["path"] for s in lab.api("GET", "/api/sessions")] == ["views.ipynb"], "no kernel was started"
    picture(page, "saved-without-a-kernel")


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_first_tutorial(lab: Any, page: Any, picture: Any, record_property: Any) -> None:
    start = time.monotonic()
    page.set_default_timeout(900_000)
    with lab.notebook(page, TUTORIAL):
        run_all(page)
        latencies = work_through(page, picture, "tutorial", seconds=600)
    record_property("slider_ms", latencies)
    record_property("seconds", time.monotonic() - start)
    assert latencies, "every move of the slider is drawn, and how long it took is kept with the test's record"
