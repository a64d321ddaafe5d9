"""The pruning panel's page without a kernel: what it shows, keys, names, and what it would send."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
import studio_state
from browser_host import ViewHost
from workbench_widgets import PrunePanel

pytestmark = pytest.mark.browser


@pytest.fixture
def shown(host: ViewHost) -> Any:
    """Mounts a studio with made-up traits; ``shown(extra, dark=True)``."""

    def mount(extra: dict[str, Any] | None = None, *, dark: bool = False) -> Any:
        state = {**studio_state.beginning(), **(extra or {})}
        return host.mount(state, esm=PrunePanel._esm, css=PrunePanel._css, dark=dark)

    return mount


def button(page: Any, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def test_the_picture_is_drawn_cell_by_cell(shown, host):
    cells = np.zeros((2, 2, 4, 4), np.uint8)
    cells[1, 0] = 255  # layer 1, first module: all kept
    kept = np.array([[0.0, 0.0], [1.0, 0.0]], "<f4")
    header = {
        "request": 0,
        "sparsity": 0.5,
        "layers": 2,
        "names": ["a", "b"],
        "tile": 4,
        "removed": 3,
        "total": 4,
    }
    raw = {k: {"__b64__": base64.b64encode(v.tobytes()).decode()} for k, v in (("cells", cells), ("kept", kept))}
    page = shown({"frame": header, **raw})
    colour = """([x, y]) => { const c = document.querySelector(".wb-canvas");
      return [...c.getContext("2d").getImageData(c.width * x, c.height * y, 1, 1).data]; }"""
    assert page.evaluate(colour, [0.75, 0.25]) == [254, 232, 56, 255]
    for x, y in ((0.25, 0.25), (0.25, 0.75), (0.75, 0.75)):
        assert page.evaluate(colour, [x, y]) == [0, 34, 78, 255]
    assert page.get_by_role("img", name="2 layers by 2 modules: 25.0 % of the weights kept").is_visible()


def test_arrow_keys_walk_over_the_cells_and_are_spoken(shown):
    page = shown()
    page.locator(".wb-canvas").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "End", "ArrowLeft", "PageDown"):
        page.keyboard.press(key)
    readout = page.locator(".wb-readout")
    assert readout.get_attribute("aria-live") == "polite"
    assert readout.text_content().startswith("layer 28 down_proj: ")
    assert readout.text_content().endswith(" % kept")
    for _ in range(5):
        page.keyboard.press("+")
    page.keyboard.press("ArrowDown")
    assert readout.text_content().startswith("layer 28 down_proj, outputs 56 to 63 %, inputs 50 to 56 %: ")
    page.keyboard.press("0")
    assert readout.text_content().startswith("layer 28 down_proj: ")


def test_handled_keys_do_not_reach_the_notebook(shown):
    page = shown()
    page.locator(".wb-canvas").focus()
    page.keyboard.press("ArrowDown")
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("window.watch.leaked") == []
    assert page.locator(".wb-studio").get_attribute("data-lm-suppress-shortcuts") == "true"


def test_pointing_at_a_cell_reads_it_out(shown):
    page = shown()
    page.locator(".wb-canvas").hover(position={"x": 3, "y": 3})
    assert page.locator(".wb-readout").text_content().startswith("layer 0 q_proj: ")
    assert page.locator(".wb-map-tip").text_content() == page.locator(".wb-readout").text_content()
    scale = page.locator(".wb-canvas").get_attribute("data-scale")
    button(page, "Zoom in").click()
    assert not page.locator(".wb-map-tip").is_visible()
    page.wait_for_function(f"Number(document.querySelector('.wb-canvas').dataset.scale) > {scale}")


def test_the_table_says_what_the_picture_shows(shown):
    page = shown()
    button(page, "Show as table").click()
    table = page.get_by_role("table", name="Share of the weights kept")
    assert table.get_by_role("row").count() == 31
    assert button(page, "Hide table").get_attribute("aria-expanded") == "true"


def test_the_slider_sends_one_request_at_a_time_and_only_the_latest(shown, host):
    page = shown()
    slider = page.get_by_role("slider", name="Sparsity")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert host.saved == [{"sparsity": 0.51, "request": 1}]
    host.receive(**studio_state.frame(0.51, 1))
    assert host.saved == [{"sparsity": 0.51, "request": 1}, {"sparsity": 0.55, "request": 2}]
    host.receive(**studio_state.frame(0.55, 2))
    assert len(host.saved) == 2
    assert page.locator(".wb-studio").get_attribute("data-frame") == "2"
    assert "58.4 M of 106 M" in page.locator(".wb-note").text_content()


def test_number_and_slider_follow_each_other(shown, host):
    page = shown()
    box = page.get_by_role("spinbutton", name="Sparsity in percent")
    box.fill("62.5")
    assert host.saved == [{"sparsity": 0.625, "request": 1}]
    assert page.get_by_role("slider").get_attribute("aria-valuetext") == "62.5 percent"
    box.fill("700")
    assert len(host.saved) == 1, "out of range is not sent"


def test_choosing_a_method_shows_its_paper_and_sends_one_choice(shown, host):
    page = shown()
    page.get_by_label("Method").select_option("flap")
    assert host.saved == [{"choice": {**studio_state.CHOICE, "method": "flap"}}]
    assert "var(X[:,i])" in page.locator(".wb-formula").text_content()
    assert "arXiv:2306.11695" in page.locator(".wb-card").text_content()
    assert page.get_by_label("Pattern").is_disabled()
    groups = page.get_by_label("Method").locator("optgroup")
    assert [g.get_attribute("label") for g in groups.all()] == [
        studio_state.WEIGHTS, studio_state.CHANNELS, studio_state.WHOLE,
    ]  # fmt: skip


def test_a_pattern_fixes_the_sparsity(shown):
    page = shown({"choice": {**studio_state.CHOICE, "pattern": "2:4"}, "sparsity": 0.7})
    assert page.get_by_role("slider").is_disabled()
    assert page.get_by_role("slider").input_value() == "50"


def test_buttons_send_commands(shown, host):
    page = shown({**studio_state.pruned(), "history": {"can_undo": True, "can_redo": True, "current": ""}})
    page.get_by_label("Folder").fill("out")
    for name in ("Prune", "Apply", "Undo", "Redo", "Export", "Copy as Python"):
        button(page, name).click()
    commands = ["prune", "apply", "undo", "redo", "export", "code"]
    assert [m["command"] for m in host.sent] == commands
    assert host.sent[4]["folder"] == "out"
    page.evaluate("window.host.model.message({ code: 'import workbench' })")
    assert page.get_by_role("region", name="Python that does the same").text_content() == "import workbench"


def test_while_a_job_runs_only_cancel_works(shown, host):
    running = {"kind": "prune", "state": "running", "text": "prune: layer 3 of 30", "fraction": 0.1}
    page = shown({**studio_state.pruned(), "job": running})
    for name in ("Prune", "Apply", "Export"):
        assert button(page, name).is_disabled()
    assert page.get_by_role("slider").is_disabled()
    assert page.get_by_role("progressbar").get_attribute("value") == "0.1"
    assert page.get_by_role("status").first.text_content() == "prune: layer 3 of 30"
    button(page, "Cancel").click()
    assert host.sent == [{"command": "cancel"}]
    host.receive(job={**running, "state": "cancelling", "text": "Cancelling…"})
    assert button(page, "Cancel").is_disabled()


def test_errors_appear_and_can_be_dismissed(shown, host):
    page = shown()
    assert page.get_by_role("alert").text_content().strip() in ("", "Dismiss")
    host.receive(error={"id": 1, "text": "unknown method '<b>x</b>'"})
    assert "unknown method '<b>x</b>'" in page.get_by_role("alert").text_content(), "shown as text, not as HTML"
    button(page, "Dismiss").click()
    assert not page.locator(".wb-error").is_visible()
    host.receive(error={"id": 2, "text": "again"})
    assert page.locator(".wb-error").is_visible()


def test_figures_are_told_apart(shown):
    page = shown(studio_state.pruned())
    text = page.locator(".wb-step-compare").inner_text()
    assert "zeroed, still stored" in text
    assert "53.1 M (39.5 %)" in text
    assert "538 MB → 538 MB" in text
    assert page.get_by_role("img", name="Perplexity over tokens read: dense 25.4, pruned 38.2").is_visible()


def test_picking_a_variant(shown, host):
    page = shown(studio_state.pruned())
    page.get_by_role("radio", name="1: magnitude 50 %").check()
    assert host.saved == [{"selected": 1}]


def test_drawing_a_frame_is_recorded(shown, host, record_property):
    page = shown()
    taken = page.evaluate(
        """(traits) => { const t = performance.now();
        for (let i = 0; i < 20; i++) window.host.model.receive(traits);
        return (performance.now() - t) / 20; }""",
        studio_state.frame(0.3, 0),
    )
    record_property("ms_per_frame_of_53760_cells", taken)
    assert page.evaluate("window.host.model.get('frame').sparsity") == 0.3
