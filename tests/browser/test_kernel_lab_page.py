"""The kernel lab: its page without a kernel, then in JupyterLab with real timings."""

from __future__ import annotations

from typing import Any

import kernel_lab_state
import pytest
from browser_host import ViewHost
from playwright.sync_api import expect
from workbench_widgets import KernelLab, view

import workbench

pytestmark = pytest.mark.browser

CHOICE = kernel_lab_state.CHOICE


@pytest.fixture
def shown(host: ViewHost) -> Any:
    """Mounts a lab with made-up traits; ``shown(extra, dark=True)``."""

    def mount(extra: dict[str, Any] | None = None, *, dark: bool = False) -> Any:
        state = {**kernel_lab_state.beginning(), **(extra or {})}
        return host.mount(state, esm=KernelLab._esm, css=KernelLab._css, dark=dark)

    return mount


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
