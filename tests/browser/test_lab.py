"""The studio in JupyterLab: open, run, move the slider, prune, cancel; and nothing leaves this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser_lab import RUN_ALL
from playwright.sync_api import expect

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "notebooks" / "tutorials" / "01_prune_a_real_model.ipynb"
ERRORS = ", ".join(f".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.{m}']" for m in ("error", "stderr"))
TINY = f"""import sys
sys.path.append({str(ROOT / "tests")!r})
import workbench
from tiny_lm import tiny_lm
studio = workbench.studio(tiny_lm(30), method="magnitude", samples=4, seqlen=64, windows=6)
studio"""


def wait_for_idle(page: Any, seconds: float) -> None:
    expect(page.locator(".wb-step-prune")).to_have_attribute("aria-busy", "false", timeout=seconds * 1000)


def move_slider(page: Any, steps: int) -> list[float]:
    """Press an arrow key step by step, each after the picture of the one before; milliseconds of each."""
    slider = page.get_by_role("slider", name="Sparsity")
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
    expect(page.locator(".wb-note")).to_contain_text("weights would go (4")
    picture(studio, f"{name}-2-slider")
    button(page, "Prune").click()
    expect(button(page, "Cancel")).to_be_enabled(timeout=5000)
    expect(page.locator(".wb-chart")).to_be_visible(timeout=seconds * 1000)
    picture(studio, f"{name}-3-pruning")
    expect(page.get_by_role("radio")).to_have_count(1, timeout=seconds * 1000)
    wait_for_idle(page, seconds)
    expect(page.locator(".wb-step-compare")).to_contain_text("zeroed, still stored")
    expect(page.locator(".wb-said").last).to_contain_text("The capital of France is")
    picture(studio, f"{name}-4-pruned")
    button(page, "Prune").click()
    expect(button(page, "Cancel")).to_be_enabled(timeout=5000)
    start = time.monotonic()
    button(page, "Cancel").click()
    expect(page.locator(".wb-progress-text")).to_contain_text("Cancelled: nothing was changed", timeout=5000)
    assert time.monotonic() - start < 2, "cancelling takes a second at most, and the page a little"
    picture(studio, f"{name}-5-cancelled")
    button(page, "Apply").click()
    expect(page.locator(".wb-top")).to_contain_text("Prune starts from 1:")
    button(page, "Copy as Python").click()
    expect(page.get_by_role("region", name="Python that does the same")).to_contain_text("workbench.prune(model")
    picture(studio, f"{name}-6-applied")
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "false", timeout=20_000)
    picture(studio, f"{name}-7-dark")
    assert page.get_by_role("alert").filter(has_text="Error").count() == 0
    return latencies


def button(page: Any, name: str) -> Any:
    return page.locator(".wb-prune").get_by_role("button", name=name, exact=True)


def run_all(page: Any) -> None:
    assert page.evaluate(RUN_ALL) is True, page.locator(ERRORS).all_text_contents()
    assert page.locator(ERRORS).all_text_contents() == []


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_the_studio_of_a_tiny_model(lab: Any, page: Any, picture: Any, tmp_path: Path) -> None:
    source = tmp_path / "tiny.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(TINY)]), source)
    with lab.notebook(page, source):
        run_all(page)
        work_through(page, picture, "tiny", seconds=240)  # some seconds of work, on a machine that may be busy


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
