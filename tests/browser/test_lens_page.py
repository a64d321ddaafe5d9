"""The lens in a browser: looked at, zoomed, walked by keys, read by screen readers, and saved as a page."""

from __future__ import annotations

import base64
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_host import ViewHost
from lens_kernel import BRIDGE, Kernel
from playwright.sync_api import expect
from workbench_widgets import Lens

sys.path.append(str(Path(__file__).parents[1]))
import lens_studies as made

pytestmark = pytest.mark.browser
STUDY = made.study()


@pytest.fixture
def shown(host: ViewHost) -> Any:
    """Mounts a lens; ``shown("map", head=(1, 3), dark=True, kernel=True)``."""

    def mount(panel: str = "heads", *, head: tuple[int, int] = (0, 0), dark: bool = False, kernel: bool = False) -> Any:
        lens = Lens(STUDY, panel=panel, head=head)
        page = host.mount(lens, esm=Lens._esm, css=Lens._css, dark=dark)
        if kernel:
            page.kernel = Kernel(page, lens)
            page.evaluate(BRIDGE)
        page.locator(".wb-ln-top .wb-tabs").wait_for()
        return page

    return mount


def readout(page: Any) -> Any:
    return page.get_by_role("tabpanel").locator(".wb-readout").first


def data(page: Any) -> dict[str, str]:
    return page.evaluate("({...document.querySelector('.wb-ln-map').dataset})")


def test_tabs_are_walked_by_arrow_keys(shown):
    page = shown()
    page.get_by_role("tab", name="Heads").focus()
    for name in ("Map", "Text", "Sparsity", "KV cache", "Heads"):
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tab", name=name)).to_have_attribute("aria-selected", "true")
        assert page.get_by_role("tabpanel").count() == 1
    assert page.get_by_role("tab", selected=True).count() == 1


def test_heads_are_found_by_keys_and_opened_with_enter(shown):
    page = shown()
    page.locator(".wb-ln-heads").focus()
    page.keyboard.press("ArrowRight")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    expect(readout(page)).to_contain_text("Layer 1, head 3: induction")
    assert readout(page).get_attribute("aria-live") == "polite"
    page.keyboard.press("Enter")
    expect(page.locator(".wb-ln")).to_have_attribute("data-panel", "map")
    expect(page.locator(".wb-ln")).to_have_attribute("data-head", "1.3")
    expect(page.get_by_label("Layer", exact=True)).to_have_value("1")
    assert page.evaluate("window.watch.leaked") == [], "keys do not reach the notebook"


def test_heads_are_sorted_and_read_as_a_table(shown):
    page = shown()
    page.get_by_label("Order").select_option("sink")
    canvas = page.locator(".wb-ln-heads")
    canvas.focus()
    page.keyboard.press("Home")
    first = STUDY.table.sorted_by("sink")[0]
    page.keyboard.press("PageUp")
    expect(readout(page)).to_contain_text(f"Layer {first[0]}, head {first[1]}: sink")
    page.get_by_role("button", name="Show as table").click()
    rows = page.get_by_role("region", name="Heads, as a table").get_by_role("row")
    expect(rows).to_have_count(13)
    assert rows.nth(1).inner_text().startswith(f"{first[0]}.{first[1]}")
    page.get_by_role("button", name="Open head 1.3").click()
    expect(page.locator(".wb-ln")).to_have_attribute("data-head", "1.3")


def test_hovering_reads_a_head_and_clicking_opens_it(shown):
    page = shown()
    box = page.locator(".wb-ln-heads").bounding_box()
    at = (box["x"] + box["width"] / 2, box["y"] + box["height"] * 3 / 8)
    page.mouse.move(*at)
    expect(readout(page)).to_contain_text("Layer 1, head 1: previous token")
    page.mouse.click(*at)
    expect(page.locator(".wb-ln")).to_have_attribute("data-head", "1.1")


def test_the_map_asks_for_tiles_and_reads_exact_shares(shown):
    page = shown("map", head=(1, 3), kernel=True)
    canvas = page.locator(".wb-ln-map")
    canvas.focus()
    for _ in range(8):
        page.keyboard.press("+")
    expect(canvas).to_have_attribute("data-size", "1")
    page.keyboard.press("End")
    for _ in range(40):
        page.keyboard.press("Shift+ArrowDown")
    page.wait_for_function("Number(document.querySelector('.wb-ln-map').dataset.tiles) >= 1")
    for _ in range(6):
        page.keyboard.press("0")
        page.keyboard.press("ArrowDown")
    assert float(data(page)["scale"]) < 1, "0 shows the whole map"
    box = canvas.bounding_box()
    page.mouse.click(box["x"] + 76 + 0.5, box["y"] + 76 + 300)
    for _ in range(9):
        page.mouse.wheel(0, -120)
    page.wait_for_function("document.querySelector('.wb-ln-map').dataset.size === '1'")
    expect(readout(page)).to_contain_text("Query")
    page.keyboard.press("ArrowRight")
    expect(readout(page)).not_to_contain_text("mean of")
    said = readout(page).inner_text()
    query, key = (int(part.split(" ")[0]) for part in (said.split("Query ")[1], said.split("key ")[1]))
    share = 100 * made.planted(1, 3)[query, key]
    assert float(said.split(": ")[1].split(" ")[0]) == pytest.approx(share, rel=0.01, abs=1e-4)
    assert all(c["tile"]["layer"] == 1 for c in page.kernel.said if "tile" in c)


def test_dragging_pans(shown):
    page = shown("map", head=(0, 1))
    canvas = page.locator(".wb-ln-map")
    canvas.focus()
    for _ in range(6):
        page.keyboard.press("+")
    page.wait_for_timeout(50)
    before, box = data(page), canvas.bounding_box()
    page.mouse.move(box["x"] + 400, box["y"] + 400)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 350, steps=4)
    page.mouse.up()
    page.wait_for_timeout(50)
    after = data(page)
    assert float(after["x"]) == pytest.approx(float(before["x"]) + 100 / float(before["scale"]), abs=0.2)
    assert float(after["y"]) == pytest.approx(float(before["y"]) + 50 / float(before["scale"]), abs=0.2)


def test_blocks_of_a_pattern_lie_over_the_map(shown):
    page = shown("map", kernel=True)
    page.get_by_label("Blocks of a pattern").select_option("3")
    page.wait_for_function("document.querySelector('.wb-ln-map').dataset.veil === '0|3'")
    assert page.kernel.said[-1]["blocks"]["point"] == 3


def test_the_text_is_shaded_by_the_exact_row(shown):
    page = shown("text", head=(1, 3), kernel=True)
    tokens = page.get_by_role("listbox", name="Tokens of the text")
    tokens.focus()
    page.keyboard.press("ArrowLeft")
    panel = page.locator(".wb-ln-panel[data-exact]")
    expect(panel).to_have_attribute("data-exact", "true")
    expect(readout(page)).to_contain_text("Query 698")
    active = tokens.get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("data-n") == "698"
    best = page.get_by_role("list", name="Tokens with the largest shares").get_by_role("listitem").first
    share = 100 * made.planted(1, 3)[698, 80]
    assert best.inner_text().split() == ["⏎", "80", f"{share:.2f}", "%"]
    assert page.locator(".wb-ln-most").count() == 8
    page.get_by_label("Layer", exact=True).select_option("0")
    expect(best).to_contain_text("40")
    page.get_by_label("Shade by").select_option("received")
    expect(readout(page)).to_contain_text("of the attention of a later token")
    assert page.locator("[data-n='40']").evaluate("s => s.style.getPropertyValue('--a')") == "62%"


def test_a_point_of_a_pattern_is_chosen_by_keys(shown):
    page = shown("sparsity")
    points = page.get_by_role("radiogroup", name="Attention kept against blocks read").get_by_role("radio")
    expect(points).to_have_count(6)
    checked = page.get_by_role("radiogroup").first.get_by_role("radio", checked=True)
    assert "near, budget 0.25" in checked.get_attribute("aria-label")
    checked.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Budget", exact=True)).to_have_value("2")
    row = STUDY.curves.rows[2]
    figures = page.locator(".wb-ln-figures")
    assert f"{100 * row.recall:.1f} %" in figures.inner_text()
    assert "not read" in figures.inner_text()
    assert "at budget 0.25 only" in page.locator(".wb-ln-panel").inner_text()
    page.get_by_label("Pattern", exact=True).select_option("far")
    grid = page.locator(".wb-ln-grid")
    grid.focus()
    page.keyboard.press("End")
    expect(page.locator(".wb-readout")).to_contain_text("Layer 2, head 0: ")
    page.keyboard.press("Enter")
    expect(page.locator(".wb-ln")).to_have_attribute("data-head", "2.0")


def test_caches_are_read_by_keys(shown):
    page = shown("kv", head=(1, 3))
    assert "KV head 1 (shared by 2 query heads)" in page.locator(".wb-ln-panel").inner_text()
    over, last = page.locator(".wb-ln-grid").all()
    over.focus()
    page.keyboard.press("End")
    expect(page.locator(".wb-readout").first).to_contain_text("not read yet")
    page.keyboard.press("Home")
    expect(page.locator(".wb-readout").first).to_contain_text("0 % held")
    last.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".wb-ln-panel")).to_have_attribute("data-method", "second")
    pixels = page.evaluate(
        """() => { const c = document.querySelector('.wb-ln-grid');
        const d = c.getContext('2d').getImageData(0, 0, c.width, 1).data;
        return Array.from({length: c.width}, (_, i) => d[4 * i + 3]); }"""
    )
    assert pixels[:340] == [255] * 340, "the prompt is read"
    assert pixels[-10:] == [0] * 10, "what comes later is not"


def test_a_saved_page_works_from_a_file(page, tmp_path, picture):
    Lens(STUDY, panel="map", head=(1, 3)).to_html(tmp_path / "lens.html")
    page.goto((tmp_path / "lens.html").as_uri())
    page.get_by_label("Blocks of a pattern").select_option("1")
    page.wait_for_function("document.querySelector('.wb-ln-map').dataset.veil === '7|1'")
    page.locator(".wb-ln-map").focus()
    page.keyboard.press("End")
    expect(readout(page)).to_contain_text("mean of 6 × 6 tokens")
    page.get_by_role("tab", name="Text").click()
    expect(page.locator(".wb-ln-panel[data-exact]")).to_have_attribute("data-exact", "false")
    assert "From the picture" in page.get_by_role("tabpanel").inner_text()
    for name in ("Sparsity", "KV cache", "Heads"):
        page.get_by_role("tab", name=name).click()
        expect(page.get_by_role("tabpanel")).to_be_visible()
    picture(page, "lens-saved")


def test_the_static_form_shows_without_scripts(browser, picture):
    data_, _ = Lens(STUDY)._repr_mimebundle_()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(f"<!doctype html><body>{data_['text/html']}</body>")
    assert page.get_by_role("img").first.is_visible()
    assert page.get_by_text("What smaller KV caches keep").is_visible()
    picture(page, "lens-static")
    context.close()


def test_a_redraw_of_a_huge_map_is_recorded(host, record_property):
    """32,768 tokens, tiles of noise at every zoom; times are kept, not asserted: machines are shared."""
    page = host.mount(huge(), esm=Lens._esm, css=Lens._css)
    page.locator(".wb-ln-map").focus()
    random = np.random.default_rng(0).integers(1, 65536, 65536, dtype=np.uint16)
    page.evaluate(
        """(noise) => { const model = window.host.model; const bytes = [{ __b64__: noise }];
        model.send = ({ command, tiles, ...rest }) => {
          for (const [row, column] of tiles ?? []) model.message({ tile: { ...rest, row, column } }, bytes); }; }""",
        base64.b64encode(random.tobytes()).decode(),
    )
    taken = page.evaluate(
        """async () => { const times = []; const c = document.querySelector(".wb-ln-map");
        const key = (k, shiftKey) => c.dispatchEvent(new KeyboardEvent("keydown", { key: k, shiftKey, bubbles: true }));
        for (let i = 0; i < 26; i++) {
          for (const [k, shift] of [["+", false], ["ArrowDown", true], ["ArrowRight", true]]) {
            key(k, shift);
            await new Promise((f) => requestAnimationFrame(f));
            const drawn = performance.now();
            c.getContext("2d").getImageData(0, 0, 1, 1); // what was drawn is there only now
            times.push(Number(c.dataset.ms) + performance.now() - drawn);
          }
        }
        return [times, c.dataset.scale, c.dataset.size, c.dataset.tiles]; }"""
    )
    times, scale, size, tiles = taken
    record_property("median_ms_of_a_redraw", float(np.median(times)))
    record_property("slowest_ms_of_a_redraw", float(max(times)))
    assert float(scale) == 48
    assert size == "1"
    assert 1 <= int(tiles) <= 96


def huge(tokens: int = 32768) -> dict[str, Any]:
    """The state of a lens of one head over many tokens, without a study behind it."""
    arrays = {
        "picture": ("u1", np.tri(128, dtype=np.uint8) * 90), "metrics": ("f4", np.ones(1, "<f4")),
        "kinds": ("u1", np.zeros(1, np.uint8)), "column": ("u1", np.full(4096, 50, np.uint8)),
    }  # fmt: skip
    places, blob = {}, b""
    for name, (kind, array) in arrays.items():
        places[name] = [kind, len(blob), array.size]
        blob += array.tobytes() + bytes(-array.nbytes % 8)
    header = {
        **Lens(STUDY).header, "arrays": places, "tokens": tokens, "layers": 1, "heads": 1, "cells": 128, "cell": 256,
        "sizes": [128, 64, 32, 16, 8, 4, 2, 1], "pieces": ["word"] * tokens, "metrics": [["sink", ""]], "points": [],
        "kv": None,
    }  # fmt: skip
    packed = {"__b64__": base64.b64encode(zlib.compress(blob)).decode()}
    begin = {"panel": "map", "layer": 0, "head": 0}
    return {"header": header, "data": packed, "kept": {"__b64__": ""}, "begin": begin, "error": {}, "live": True}
