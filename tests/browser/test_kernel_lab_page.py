"""The kernel lab: its page without a kernel, then in JupyterLab with real timings."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import kernel_lab_state
import nbformat
import pytest
from browser_host import ViewHost
from browser_lab import RUN_ALL
from playwright.sync_api import expect
from workbench_widgets import KernelLab, view

import workbench

pytestmark = pytest.mark.browser

QUICK = """import workbench
lab = workbench.kernel_lab(shape=(96, 64), formats=("16x1", "bitmap"), tokens=(1, 4), repeats=3)
lab"""
CHOICE = kernel_lab_state.CHOICE


@pytest.fixture
def shown(host: ViewHost) -> Any:
    """Mounts a lab with made-up traits; ``shown(extra, dark=True)``."""

    def mount(extra: dict[str, Any] | None = None, *, dark: bool = False) -> Any:
        state = {**kernel_lab_state.beginning(), **(extra or {})}
        return host.mount(state, esm=KernelLab._esm, css=KernelLab._css, dark=dark)

    yield mount


def button(page: Any, name: str) -> Any:
    return page.locator(".wb-lab").get_by_role("button", name=name, exact=True)


def test_the_pattern_is_drawn_weight_by_weight(shown):
    page = shown()
    colours = page.evaluate(
        """() => { const c = document.querySelector(".wb-lab-image");
        const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        return [c.width, c.height, [...new Set(Array.from({ length: d.length / 4 }, (_, i) => d[4 * i]))].sort()]; }"""
    )
    assert colours == [190, 190, [0, 254]], "cells have sharp edges"
    page.locator(".wb-lab-image").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".wb-step[aria-label='Pattern'] .wb-readout").inner_text().startswith("output 0, input 1: ")
    assert page.get_by_role("img", name="Density of the whole matrix 1536 × 576: 20.0 % kept").is_visible()
    assert page.get_by_text("Press Run").is_visible()


def test_bars_stand_in_order_with_break_even_and_intervals(shown):
    page = shown(kernel_lab_state.timed())
    bars = page.locator(".wb-lab-bar[data-name]")
    assert bars.first.get_attribute("data-name") == "16x1-int8"
    assert bars.last.get_attribute("data-name") == "torch-csr"
    assert bars.first.locator(".wb-lab-value").first.inner_text().startswith("14.2×")
    width = bars.first.locator(".wb-lab-main").first.bounding_box()["width"]
    track = bars.first.locator(".wb-lab-track").first.bounding_box()
    one = bars.first.locator(".wb-lab-one").bounding_box()
    assert (one["x"] - track["x"]) * 14.2 == pytest.approx(width, rel=0.03), "one scale for bars and the line at 1"
    assert bars.locator(".wb-lab-whisker").count() == len(kernel_lab_state.SPEED) - 1


def test_a_kernel_is_walked_to_by_keys_and_lights_up_everywhere(shown):
    page = shown(kernel_lab_state.timed())
    page.locator(".wb-lab-bars").focus()
    page.keyboard.press("ArrowDown")
    readout = page.locator(".wb-lab-readout")
    assert readout.get_attribute("aria-live") == "polite"
    assert readout.inner_text().startswith("16x1-bf16, 1 token: 12.9×")
    assert page.locator(".wb-lab-mark.wb-lab-picked[data-name='16x1-bf16']").count() == 2, "at both numbers of tokens"
    page.keyboard.press("End")
    assert readout.inner_text().startswith("torch-csr, 1 token: 0.800×")
    page.locator(".wb-lab svg[tabindex='0']").focus()
    page.keyboard.press("Home")
    assert readout.inner_text().startswith("16x1-int8")
    assert page.evaluate("window.watch.leaked") == []
    page.get_by_role("radio", name="16", exact=True).check()
    assert readout.inner_text().startswith("16x1-int8, 16 tokens")


def test_the_table_and_the_roofline_say_what_the_bars_show(shown):
    page = shown(kernel_lab_state.timed())
    page.get_by_text("All figures as a table").click()
    table = page.get_by_role("table", name="All figures at 1 token")
    assert table.get_by_role("row").count() == len(kernel_lab_state.SPEED) + 1
    assert "14.2×" in table.get_by_role("row").nth(1).inner_text()
    assert page.get_by_role("img", name="Roofline: ").is_visible()
    assert page.get_by_role(
        "img", name="Faster than torch fp32: 16x1 always; csr-panels from 59 %; csr never"
    ).is_visible()
    page.get_by_role("radio", name="16", exact=True).check()
    assert page.get_by_text("Not looked for at this number of tokens.").is_visible()


def test_choices_are_sent_whole(shown, host):
    page = shown()
    page.get_by_label("Where zeros are").select_option("2:4")
    assert host.saved[-1] == {"choice": {**CHOICE, "pattern": "2:4"}}
    assert page.get_by_role("slider", name="Sparsity").is_disabled()
    assert page.get_by_role("slider", name="Sparsity").input_value() == "50"
    page.get_by_role("group", name="Stored as").get_by_label("int8").check()
    assert host.saved[-1]["choice"]["values"] == ["fp32", "int8"]
    page.get_by_label("As large as").select_option("Llama-3.1-8B, query")
    assert (host.saved[-1]["choice"]["rows"], host.saved[-1]["choice"]["columns"]) == (4096, 4096)
    page.get_by_label("all that suit the pattern").uncheck()
    assert host.saved[-1]["choice"]["formats"] == kernel_lab_state.SUITS[1:]
    page.get_by_label("csr-panels").uncheck()
    assert "csr-panels" not in host.saved[-1]["choice"]["formats"]
    page.get_by_label("Matrix", exact=True).focus()
    page.get_by_label("Matrix", exact=True).select_option("1: wanda 50 %")
    assert host.saved[-1]["choice"]["model"] == "1: wanda 50 %"
    assert {"command": "models"} in host.sent


def test_the_last_box_cannot_be_cleared(shown):
    page = shown()
    assert page.get_by_role("group", name="Stored as").get_by_label("fp32").is_disabled()


def test_the_slider_sends_one_request_at_a_time_and_run_takes_the_last(shown, host):
    page = shown()
    page.get_by_role("slider", name="Sparsity").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert [(s["choice"]["sparsity"], s["request"]) for s in host.saved] == [(0.81, 1)]
    host.receive(**kernel_lab_state.pattern(0.81, 1))
    assert [(s["choice"]["sparsity"], s["request"]) for s in host.saved] == [(0.81, 1), (0.84, 2)]
    page.keyboard.press("ArrowRight")
    button(page, "Run").click()
    assert host.saved[-1]["choice"]["sparsity"] == 0.85
    assert host.sent == [{"command": "run"}]


def test_while_it_runs_only_cancel_works(shown, host):
    running = {"kind": "time", "state": "running", "text": "Time kernels: round 3 of 27", "fraction": 0.7}
    page = shown({**kernel_lab_state.timed(), "job": running})
    for control in (button(page, "Run"), page.get_by_role("slider"), page.get_by_label("Threads")):
        assert control.is_disabled()
    assert page.get_by_role("progressbar").get_attribute("value") == "0.7"
    button(page, "Cancel").click()
    assert host.sent == [{"command": "cancel"}]


def test_instructions_are_asked_for_when_the_disclosure_is_open(shown, host):
    page = shown(kernel_lab_state.timed())
    assert host.sent == []
    page.get_by_text("Vector instructions in the kernel's inner loop").click()
    wanted = {"format": "16x1", "values": "int8", "tokens": 1}
    expect(page.get_by_text("reading what was compiled")).to_be_visible()
    assert host.sent == [{"command": "instructions", **wanted}]
    host.receive(listing={**wanted, "counts": [["vfmadd231ps", 16], ["vmovups", 8]], "note": ""})
    table = page.get_by_role("table", name="16x1-int8 at 1 token, compiled for this processor")
    assert table.get_by_role("row").first.inner_text().split() == ["vfmadd231ps", "16"]


def test_a_finished_result_has_no_controls(shown):
    page = shown({**kernel_lab_state.timed(), "controls": False})
    assert page.locator(".wb-lab-bar[data-name]").count() == len(kernel_lab_state.SPEED)
    for name in ("Run", "Cancel", "Copy as Python"):
        assert button(page, name).count() == 0
    assert page.get_by_role("slider").count() == 0


def test_an_exported_page_shows_the_figures_without_kernel_or_network(page, tmp_path):
    timings = workbench.time_kernels((48, 32), pattern="16x1", formats="16x1", tokens=1, repeats=2)
    view(timings).to_html(tmp_path / "kernels.html")
    page.goto((tmp_path / "kernels.html").as_uri())
    expect(page.locator(".wb-lab-bar[data-name='16x1']")).to_be_visible()
    page.get_by_text("Vector instructions in the kernel's inner loop").click()
    expect(page.locator(".wb-lab-listing")).to_contain_text("run the notebook to see them")
    assert page.get_by_role("img", name="Roofline").is_visible()


def test_everything_is_reached_by_keyboard(shown, host):
    page = shown(kernel_lab_state.timed())
    seen: list[str] = []
    page.get_by_label("Matrix", exact=True).focus()
    for _ in range(45):
        seen.append(page.evaluate("document.activeElement.textContent || document.activeElement.outerHTML"))
        page.keyboard.press("Tab")
    reached = (
        "wb-slider", 'type="number"', 'type="checkbox"', 'type="radio"', "Run", "wb-lab-bars", "All figures",
        "Vector instr", "Copy as Python",
    )  # fmt: skip
    assert [name for name in reached if not any(name in s for s in seen)] == []
    button(page, "Run").focus()
    page.keyboard.press("Enter")
    assert {"command": "run"} in host.sent


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 800, 480])
def test_no_accessibility_violation_at_any_width(shown, host, picture, dark, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    host.page.set_viewport_size({"width": width, "height": 900})
    page = shown(kernel_lab_state.timed(), dark=dark)
    page.get_by_text("All figures as a table").click()
    page.get_by_text("Vector instructions in the kernel's inner loop").click()
    counts = [["vfmadd231ps", 16], ["vmovups", 8]]
    host.receive(listing={"format": "16x1", "values": "int8", "tokens": 1, "counts": counts, "note": ""})
    host.receive(error={"id": 1, "text": "0 x 48: whole numbers"})
    found = axe.run(page, context=".wb-lab").response["violations"]
    assert not [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing sticks out"
    button(page, "Dismiss").click()
    picture(page, f"kernel-lab-{width}-{'dark' if dark else 'light'}")


def test_in_jupyterlab_it_times_streams_and_stops(lab: Any, page: Any, picture: Any, tmp_path: Path) -> None:
    source = tmp_path / "kernels.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(QUICK)]), source)
    page.set_viewport_size({"width": 1280, "height": 1900})
    with lab.notebook(page, source):
        assert page.evaluate(RUN_ALL) is True
        shown, run = page.locator(".wb-lab"), page.locator(".wb-step-run")
        expect(shown).to_have_attribute("data-frame", "0", timeout=60_000)
        page.get_by_label("Inputs (columns)").fill("128")
        page.get_by_label("Inputs (columns)").press("Tab")
        expect(shown.locator(".wb-note")).to_contain_text("96 × 128")
        slider = page.get_by_role("slider", name="Sparsity")
        slider.focus()
        page.keyboard.press("ArrowRight")
        expect(shown.locator(".wb-model")).to_contain_text("81 % zero")
        button(page, "Run").focus()
        page.keyboard.press("Enter")
        expect(page.locator(".wb-lab-bar[data-name='16x1']")).to_be_visible(timeout=60_000)
        expect(page.locator(".wb-step-read")).to_have_attribute("data-complete", "true", timeout=60_000)
        expect(run).to_have_attribute("aria-busy", "false")
        shown.get_by_text("Vector instructions in the kernel's inner loop").click()
        expect(shown.locator(".wb-lab-listing")).to_contain_text("at 1 token", timeout=20_000)
        picture(shown, "kernel-lab-jupyter-done")
        cancel_a_long_run(page, run)
        button(page, "Copy as Python").click()
        expect(page.get_by_role("region", name="Python that does the same")).to_contain_text(
            "(96, 128), pattern='16x1'"
        )
        page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
        expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "false", timeout=20_000)
        expect(page.locator("#jupyterlab-splash")).to_have_count(0, timeout=20_000)
        picture(shown, "kernel-lab-jupyter-dark")


def cancel_a_long_run(page: Any, run: Any) -> None:
    page.get_by_label("Rounds").fill("9999")
    page.get_by_label("Rounds").press("Tab")
    button(page, "Run").click()
    expect(page.locator(".wb-step-read")).to_have_attribute("data-complete", "false", timeout=30_000)
    expect(page.locator(".wb-step-read")).to_have_attribute("data-rows", re.compile("[1-9]"), timeout=30_000)
    start = time.monotonic()
    button(page, "Cancel").click()
    expect(run).to_contain_text("Cancelled: figures show what was timed so far", timeout=5000)
    assert time.monotonic() - start < 2, "cancelling takes a second at most, and the page a little"
    expect(page.locator(".wb-lab-bar[data-name='bitmap']")).to_be_visible()
