"""A panel saved as a page of its own: it opens from a file, without kernel or network, and can be explored."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from tiny_lm import tiny_lm
from workbench_widgets import prune_panel

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    studio = prune_panel(tiny_lm(6), method="magnitude", samples=4, seqlen=64, windows=3)
    end = time.monotonic() + 60
    while studio.busy and time.monotonic() < end:
        time.sleep(0.01)
    studio.session.choose(sparsity=0.6)
    studio.prune()
    while studio.busy and time.monotonic() < end:
        time.sleep(0.01)
    path = tmp_path_factory.mktemp("page") / "studio.html"
    studio.to_html(path)
    return path, studio


def test_the_page_opens_from_a_file(page, exported, picture):
    path, _ = exported
    page.goto(path.as_uri())
    page.locator(".wb-studio").wait_for()
    page.locator(".wb-canvas").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".wb-readout").text_content().startswith("layer 1 q_proj: ")
    assert "zeroed, still stored" in page.locator(".wb-step-compare").inner_text()
    for name in ("Prune", "Apply", "Export"):
        assert page.get_by_role("button", name=name, exact=True).is_disabled(), "there is no kernel to do it"
    picture(page, "exported")


def test_the_static_form_shows_without_scripts(browser, exported, picture):
    _, studio = exported
    data, _ = studio._repr_mimebundle_()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(f"<!doctype html><body>{data['text/html']}</body>")
    image = page.get_by_role("img").first
    assert "Kept at 50% sparsity" in image.get_attribute("alt")
    assert page.get_by_text("down_proj").first.is_visible()
    picture(page, "static")
    context.close()
