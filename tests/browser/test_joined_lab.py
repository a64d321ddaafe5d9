"""The joined studio in JupyterLab as it is used: prune, execute, attend, decode, compare, export, restart, go on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
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
DEFAULT = (
    """import os
import torch
torch.set_num_threads(1)
os.environ["WORKBENCH_CACHE"] = "cache"
import workbench
bench = workbench.open(None, "tiny", samples=4, seqlen=64, windows=3)
workbench.studio(bench, method="magnitude")""",
)
SLOW = """import time
forward = torch.nn.Linear.forward
torch.nn.Linear.forward = lambda self, x: (time.sleep(0.02), forward(self, x))[1]"""
EXECUTE = """async (code) => {
  const { kernel } = window.jupyterapp.shell.currentWidget.context.sessionContext.session;
  return (await kernel.requestExecute({ code }).done).content.status;
}"""
BUSY = "() => { const bar = document.querySelector('.wb-joined .wb-busy progress'); return Boolean(bar?.hidden); }"
RESTART = "async () => { await window.jupyterapp.shell.currentWidget.context.sessionContext.restartKernel(); }"
THEME = "(t) => window.jupyterapp.commands.execute('apputils:change-theme', { theme: `JupyterLab ${t}` })"
expect.set_options(timeout=20_000)
TEXT = "the cat sat on the mat. " * 6


class Shown:
    """The studio on a page, and what a user does with it."""

    def __init__(self, page: Any, axe: Any = None, picture: Any = None) -> None:
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


@pytest.fixture(scope="module")
def tiny(lab: Lab) -> None:
    """A tiny model in a folder beside the notebooks."""
    from test_session_kept import compilable

    workbench.save(compilable(), lab.root / "tiny")


def written(path: Path, cells: Iterable[str]) -> Path:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells]), path)
    return path


def run_all(page: Any) -> None:
    assert page.evaluate(RUN_ALL) is True, page.locator(".jp-OutputArea-output").all_text_contents()
    expect(page.locator(".wb-joined .wb-canvas")).to_be_visible(timeout=30_000)


@pytest.fixture
def shown(lab: Lab, page: Any, tiny: None, tmp_path: Path, axe: Any, picture: Any) -> Iterator[Shown]:
    del tiny
    with lab.notebook(page, written(tmp_path / "joined.ipynb", CELLS)):
        run_all(page)
        studio = Shown(page, axe, picture)
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
    shown.check("compare-dark")

    root.locator(".wb-menu > summary").click()
    for what in ("Model", "Recipe", "Python", "Report"):
        shown.work(what)
        expect(root.locator(".wb-written")).to_contain_text("Written: ")
    written = sorted(p.name for p in (lab.root / "exports").iterdir())
    assert written == ["1-magnitude-45", "1-magnitude-45.json", "report.html", "session.py"]

    restart_in_mid_job(shown, lab)
    run_all(page)
    chooser = root.get_by_label("Variant", exact=True)
    expect(chooser.locator("option")).to_have_text(
        ["dense", "1: magnitude 45 %", "2: magnitude 45 % + compiled auto-fp32"]
    )
    expect(root.locator(".wb-gone")).to_have_count(0)


def restart_in_mid_job(shown: Shown, lab: Lab) -> None:
    """Prune slowly and take the kernel away: nothing is half written, and the screen says what became of it."""
    page, root = shown.page, shown.root
    root.locator(".wb-menu > summary").click()
    shown.tab("Prune")
    assert page.evaluate(EXECUTE, SLOW) == "ok"
    kept = everything(lab.root / "bench")
    shown.button("Prune").click()
    expect(root.locator(".wb-busy progress")).to_be_visible()
    page.wait_for_function("document.querySelector('.wb-joined .wb-busy progress').value > 0")
    page.evaluate(RESTART)
    expect(root.locator(".wb-gone")).to_have_count(1)
    expect(root.get_by_role("status").first).to_contain_text("The kernel has stopped: what was shown stays")
    expect(root.locator(".wb-busy progress")).to_be_hidden()
    expect(shown.button("Prune")).to_be_disabled()
    expect(root.locator(".wb-canvas")).to_be_visible()
    assert everything(lab.root / "bench") == kept


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


def test_two_notebooks_at_once_and_cancelling_in_mid_job(
    lab: Lab, page: Any, tiny: None, tmp_path: Path, record_property: Any
) -> None:
    """Each has its own folder of the model's session, and what is done in one does not reach the other."""
    del tiny
    sources = [written(tmp_path / f"{name}.ipynb", DEFAULT) for name in ("first", "second")]
    with lab.notebook(page, sources[0]), lab.notebook(page.context.new_page(), sources[1]) as other:
        for one in (page, other):
            run_all(one)
        folders = sorted(path.name for path in (lab.root / "cache" / "sessions").iterdir())
        assert len(folders) == 2
        assert folders[1] == f"{folders[0]}-2"
        mine, theirs = (Shown(one) for one in (page, other))
        for studio in (mine, theirs):
            studio.idle()
        number = theirs.root.get_by_label("Sparsity in percent")
        number.fill("30")
        theirs.work("Prune")
        expect(theirs.root.get_by_label("Variant", exact=True).locator("option")).to_have_count(2)
        assert mine.root.get_by_label("Variant", exact=True).locator("option").all_inner_texts() == ["dense"]
        assert mine.root.get_by_label("Sparsity in percent").input_value() == "50"
        page.bring_to_front()
        decode = mine.tab("Decode")
        decode.get_by_label("Tokens", exact=True).fill("200")
        decode.get_by_label("Method").select_option("greedy")
        mine.button("Generate").click()
        stop = mine.root.get_by_role("button", name="Cancel what runs")
        expect(stop).to_be_enabled()
        start = time.monotonic()
        stop.click()
        expect(mine.root.locator(".wb-busy-text")).to_contain_text("Cancelled: nothing was changed")
        record_property("cancel_s", time.monotonic() - start)
        expect(theirs.root.locator(".wb-busy-text")).to_contain_text("Done (")
        assert decode.locator(".wb-th").count() == 0
