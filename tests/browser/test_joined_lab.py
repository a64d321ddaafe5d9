"""The joined studio in JupyterLab as it is used: prune, execute, attend, decode, compare, export, restart, go on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser_lab import RUN_ALL, Lab
from playwright.sync_api import expect

sys.path.append(str(Path(__file__).parents[1]))
import workbench

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
CELLS = (
    """import torch
torch.set_num_threads(1)
import workbench
bench = workbench.open("bench", workbench.load("tiny"), samples=4, seqlen=64, windows=3)
studio = workbench.studio(bench, method="magnitude")""",
    "studio",
)
BUSY = "() => { const bar = document.querySelector('.wb-joined .wb-busy progress'); return Boolean(bar?.hidden); }"
RESTART = "async () => { await window.jupyterapp.shell.currentWidget.context.sessionContext.restartKernel(); }"
THEME = "(t) => window.jupyterapp.commands.execute('apputils:change-theme', { theme: `JupyterLab ${t}` })"
expect.set_options(timeout=20_000)
TEXT = "the cat sat on the mat. " * 6


class Shown:
    """The studio on a page, and what a user does with it."""

    def __init__(self, page: Any, axe: Any, picture: Any) -> None:
        self.page, self.axe, self.picture = page, axe, picture
        self.root = page.locator(".wb-joined")

    def idle(self) -> None:
        self.page.wait_for_function(BUSY, timeout=60_000)

    def button(self, name: str) -> Any:
        return self.root.get_by_role("button", name=name, exact=True)

    def work(self, name: str) -> None:
        """Press a button and wait for its job, which ends well."""
        self.root.locator(".wb-busy-text").evaluate("(e) => { e.textContent = ''; }")  # what the last one said
        self.button(name).click()
        expect(self.root.locator(".wb-busy-text")).to_contain_text("Done (", timeout=60_000)
        self.idle()
        assert self.root.locator(".wb-error:visible").count() == 0

    def tab(self, name: str) -> Any:
        self.root.get_by_role("tab", name=name, exact=True).click()
        panel = self.root.get_by_role("tabpanel", name=name, exact=True)
        expect(panel.locator(".wb-studio").first).to_be_visible()
        return panel

    def check(self, name: str) -> None:
        """Nothing that a screen reader stumbles over, nothing that sticks out; a picture to look at."""
        self.axe(self.page, ".wb-joined", name)
        wide = self.root.evaluate(
            "(e) => [...e.querySelectorAll('*')].filter((x) => x.checkVisibility() && "
            "!x.closest('svg, .wb-scroll, .wb-visually-hidden, .wb-code, .wb-menu, [class*=scroll]') && "
            "x.getBoundingClientRect().right > e.getBoundingClientRect().right + 1).map((x) => x.className)"
        )
        assert wide == [], name
        self.picture(self.root, f"joined-{name}")


@pytest.fixture
def notebook(lab: Lab, tmp_path: Path) -> Path:
    """A notebook beside a tiny model in a folder."""
    from test_session_kept import compilable

    if not (lab.root / "tiny").exists():
        workbench.save(compilable(), lab.root / "tiny")
    source = tmp_path / "joined.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS]), source)
    return source


@pytest.fixture
def shown(lab: Lab, page: Any, notebook: Path, axe: Any, picture: Any) -> Iterator[Shown]:
    with lab.notebook(page, notebook):
        assert page.evaluate(RUN_ALL) is True, page.locator(".jp-OutputArea-output").all_text_contents()
        studio = Shown(page, axe, picture)
        expect(studio.root.locator(".wb-canvas")).to_be_visible(timeout=30_000)
        studio.idle()
        yield studio


def test_the_whole_loop(shown: Shown, lab: Lab, record_property: Any) -> None:
    page, root = shown.page, shown.root
    root.get_by_role("slider", name="Sparsity").focus()
    prune = root.locator(".wb-prune")
    expect(prune).to_have_attribute("data-frame", "0", timeout=30_000)
    for _ in range(5):
        before = int(prune.get_attribute("data-frame"))
        page.keyboard.press("ArrowLeft")
        expect(prune).to_have_attribute("data-frame", str(before + 1))
    record_property("slider_ms", prune.get_attribute("data-latency"))
    shown.work("Prune")
    chooser = root.get_by_label("Variant", exact=True)
    expect(chooser.locator("option:checked")).to_have_text("1: magnitude 45 %")
    shown.check("prune")

    root.get_by_role("tab", name="Prune").focus()
    page.keyboard.press("ArrowRight")
    execute = root.get_by_role("tabpanel", name="Execute")
    expect(root.get_by_role("tab", name="Execute")).to_be_focused()
    expect(execute.get_by_label("Matrix", exact=True).locator("option:checked")).to_have_text(
        "a layer of 1: magnitude 45 %"
    )
    shown.work("Run")
    expect(execute.locator(".wb-lab-bars")).to_be_visible()
    shown.work("Compile")
    expect(chooser.locator("option:checked")).to_have_text("2: magnitude 45 % + compiled auto-fp32")
    shown.check("execute")

    attend = shown.tab("Attend")
    attend.get_by_label("Text").first.fill(TEXT)
    shown.work("Study")
    expect(attend.locator(".wb-ln-top .wb-tabs")).to_be_visible()
    shown.check("attend")

    decode = shown.tab("Decode")
    decode.get_by_label("Tokens", exact=True).fill("8")
    shown.work("Generate")
    chooser.select_option("1")
    decode.get_by_role("radio", name="the draft of dense").check()
    shown.work("Generate")
    expect(decode.locator("table").first).to_contain_text("dense, drafted by 1: magnitude 45 %")
    decode.get_by_label("Beside it").select_option(index=1)
    expect(decode.locator(".wb-th-stage")).to_have_count(2)
    shown.check("decode")

    compare = shown.tab("Compare")
    compare.get_by_role("radiogroup", name="Quality and bytes of weights").get_by_role("radio", name="2: ").click()
    expect(chooser.locator("option:checked")).to_have_text("2: magnitude 45 % + compiled auto-fp32")
    expect(compare.get_by_role("region", name="Python that makes it again")).to_contain_text("workbench.compile(")
    shown.work("Say both")
    expect(compare.locator(".wb-th-stage")).to_have_count(2)
    shown.check("compare")
    page.evaluate(THEME, "Dark")
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "false")
    for name in ("Prune", "Execute", "Attend", "Decode", "Compare"):
        shown.tab(name)
        shown.check(f"{name.lower()}-dark")

    root.locator(".wb-menu > summary").click()
    for what in ("Model", "Recipe", "Python", "Report"):
        shown.work(what)
        expect(root.locator(".wb-written")).to_contain_text("Written: ")
    written = sorted(p.name for p in (lab.root / "exports").iterdir())
    assert written == ["1-magnitude-45", "1-magnitude-45.json", "report.html", "session.py"]

    page.evaluate(RESTART)
    assert page.evaluate(RUN_ALL) is True, page.locator(".jp-OutputArea-output").all_text_contents()
    chooser = page.locator(".wb-joined").get_by_label("Variant", exact=True)
    expect(chooser.locator("option")).to_have_text(
        ["dense", "1: magnitude 45 %", "2: magnitude 45 % + compiled auto-fp32"]
    )


def test_the_report_opens_from_a_file(page: Any, lab: Lab) -> None:
    report = lab.root / "exports" / "report.html"
    assert report.is_file(), "the loop above writes it"
    page.goto(report.as_uri())
    expect(page.get_by_role("tab")).to_have_text(["Prune", "Execute", "Attend", "Decode", "Compare"])
    page.get_by_role("tab", name="Decode").click()
    stage = page.get_by_role("tabpanel", name="Decode").locator(".wb-th")
    before = stage.get_attribute("data-position")
    stage.get_by_role("slider", name="Step").focus()
    page.keyboard.press("ArrowLeft")
    assert stage.get_attribute("data-position") != before, "the trace scrubs"
    page.get_by_role("tab", name="Attend").click()
    page.get_by_role("tab", name="Map").click()
    canvas = page.locator(".wb-ln-map")
    expect(canvas).to_be_visible()
    scale = canvas.get_attribute("data-scale")
    canvas.focus()
    page.keyboard.press("+")
    expect(canvas).not_to_have_attribute("data-scale", scale or "")
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator(".wb-compare tbody tr")).to_have_count(3)
    assert page.get_by_role("button", name="Say both").count() == 0, "there is no kernel to do it"


def test_cancelling_in_mid_job(shown: Shown, record_property: Any) -> None:
    decode = shown.tab("Decode")
    decode.get_by_label("Tokens", exact=True).fill("200")
    decode.get_by_label("Method").select_option("greedy")
    shown.button("Generate").click()
    stop = shown.root.get_by_role("button", name="Cancel what runs")
    expect(stop).to_be_enabled()
    start = time.monotonic()
    stop.click()
    expect(shown.root.locator(".wb-busy-text")).to_contain_text("Cancelled: nothing was changed")
    record_property("cancel_s", time.monotonic() - start)
    assert decode.locator(".wb-th").count() == 0
