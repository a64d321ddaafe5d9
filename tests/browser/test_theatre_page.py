"""The theatre in a browser: played, scrubbed, walked by keys, read by screen readers, and saved as a page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from browser_host import ViewHost
from playwright.sync_api import expect

sys.path.append(str(Path(__file__).parents[1]))
import theatre_traces as made
from workbench_widgets import Theatre

pytestmark = pytest.mark.browser

TRACES = {name: make() for name, make in made.ALL.items()}
PANELS = {
    "speculative": ["Text", "Token", "Draft of the step", "Cost", "Accepted by position in the draft"],
    "plain": ["Text", "Token", "Cost"],
    "beam": ["Text", "Token", "Search", "Cost"],
    "diffusion": ["Text", "Token", "Order of unmasking", "Cost"],
    "exits": ["Text", "Token", "Where tokens left the model", "Cost"],
    "constrained": ["Text", "Token", "Constraint", "Cost"],
}


@pytest.fixture
def shown(host: ViewHost) -> Any:
    """Mounts a theatre; ``shown("speculative", "plain", frame=0, dark=True)``."""

    def mount(name: str, other: str | None = None, *, frame: int = -1, dark: bool = False) -> Any:
        theatre = Theatre(TRACES[name], other and TRACES[other], frame=frame)
        return host.mount(theatre, esm=Theatre._esm, css=Theatre._css, dark=dark)

    return mount


def slider(page: Any) -> Any:
    return page.get_by_role("slider", name="Step")


def text(page: Any, stage: int = 0) -> str:
    """Tokens that can be seen, without the marks of line breaks."""
    js = """(stage) => [...document.querySelectorAll(".wb-th-tokens")[stage].children]
        .filter((s) => !s.classList.contains("wb-th-later")).map((s) => s.textContent).join("")"""
    return page.evaluate(js, stage).replace("⏎", "")


def answer(name: str, frame: int) -> str:
    found = made_replay(name)
    return "".join(made.piece(p.token) for p in found.text(frame))


def made_replay(name: str) -> Any:
    return Theatre(TRACES[name]).replays[0]


@pytest.mark.parametrize("name", PANELS)
def test_only_panels_with_events_are_shown(shown, name):
    page = shown(name)
    assert page.locator(".wb-th-panel > h4").all_inner_texts() == PANELS[name]
    assert text(page) == answer(name, -1)


def test_scrubbing_back_and_forth_shows_the_text_of_every_step(shown, host):
    page = shown("speculative", frame=0)
    for frame in (0, 1, 7, 24, 3, 4, 0):
        slider(page).fill(str(frame))
        assert text(page) == answer("speculative", frame), frame
    assert host.saved == []
    assert host.sent == [], "no step costs a message"


def test_keys_step_from_anywhere_and_do_not_reach_the_notebook(shown):
    page = shown("speculative", frame=0)
    root = page.locator(".wb-th")
    slider(page).focus()
    for key, frame in (("ArrowRight", 1), ("ArrowRight", 2), ("End", 24), ("ArrowLeft", 23), ("Home", 0), (".", 1)):
        page.keyboard.press(key)
        assert root.get_attribute("data-position") == str(frame), key
    page.locator(".wb-th-tree").focus()
    page.keyboard.press(".")
    assert root.get_attribute("data-position") == "2"
    page.keyboard.press(",")
    assert root.get_attribute("data-position") == "1"
    assert page.evaluate("window.watch.leaked") == []


def test_play_runs_to_the_end_and_space_stops_it(shown):
    page = shown("speculative", frame=0)
    page.get_by_label("Speed").select_option("16")
    button = page.get_by_role("button", name="Play")
    button.click()
    expect(page.locator(".wb-th")).to_have_attribute("data-position", "24", timeout=10_000)
    expect(page.get_by_role("button", name="Play")).to_have_attribute("aria-pressed", "false")
    slider(page).focus()
    page.get_by_label("Speed").select_option("0.25")
    page.get_by_role("button", name="Play").click()
    expect(page.locator(".wb-th-status")).to_have_attribute("aria-live", "off")
    slider(page).focus()
    page.keyboard.press(" ")
    expect(page.locator(".wb-th-status")).to_have_attribute("aria-live", "polite")
    assert int(page.locator(".wb-th").get_attribute("data-position")) < 24, "playing from the end begins anew"


def test_a_token_is_walked_to_and_told_with_its_figures(shown):
    page = shown("speculative")
    found = made_replay("speculative").text(-1)
    tokens = page.get_by_role("listbox", name="Tokens of the answer")
    tokens.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    card = page.locator(".wb-th-card")
    names = {"plain": "plain step", "accepted": "accepted from the draft", "corrected": "corrected by the target"}
    assert names.get(found[2].origin, "bonus after") in card.inner_text()
    assert f"place {found[2].place}" in card.inner_text()
    assert page.get_by_role("list", name="most likely tokens").get_by_role("listitem").count() == 8
    active = tokens.get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("data-place") == str(found[2].place)
    page.locator(f"[data-place='{found[0].place}']").hover()
    assert f"place {found[0].place}" in card.inner_text()


def test_the_draft_says_why(shown):
    page = shown("speculative", frame=3)
    tree = page.locator(".wb-th-tree")
    nodes = made_replay("speculative").drafts.tree(TRACES["speculative"], 3)
    assert tree.locator("[data-node]").count() == len(nodes) + 1, "the target's own token hangs on it too"
    assert tree.get_attribute("aria-label").startswith("Draft of step 3: ")
    tree.focus()
    page.keyboard.press("Home")
    readout = page.locator(".wb-th-panel-draft .wb-th-readout")
    assert readout.get_attribute("aria-live") == "polite"
    word = "accepted" if nodes[0].state == "accept" else "refused"
    assert word in readout.inner_text()
    assert "p / q = 1.49" in readout.inner_text()


def test_acceptance_and_cost_follow_the_step(shown):
    page = shown("speculative", frame=0)
    bars = page.get_by_role("list", name="Share of drafts accepted at each position")
    assert "No draft yet." in page.locator(".wb-th-panel-acceptance").inner_text()
    slider(page).fill("24")
    share = TRACES["speculative"].acceptance.by_position[0]
    assert f"{100 * share:.0f} %" in bars.get_by_role("listitem").first.inner_text()
    cost = page.locator(".wb-th-panel-cost")
    assert "v(n): break-even" in cost.text_content()
    assert "The line is measured apart from this trace." in cost.inner_text()
    assert page.get_by_role("img", name="Time until now: ").get_attribute("aria-label").count("%") >= 3


def test_a_search_shows_its_best_text_until_it_is_said(shown):
    page = shown("beam", frame=5)
    best = made_replay("beam").hypothesis(5)
    assert page.locator(".wb-th-guess").inner_text().replace("⏎", "") == "".join(made.piece(t) for t in best)
    tree = page.locator(".wb-th-tree")
    assert tree.locator(".wb-th-node.wb-th-is-dropped").count() >= 8
    assert tree.locator(".wb-th-node.wb-th-best").count() == 1
    slider(page).fill("16")
    assert page.locator(".wb-th-guess").inner_text() == ""
    assert tree.locator(".wb-th-node.wb-th-is-chosen").count() == 9


def test_maps_are_read_by_keys(shown):
    page = shown("diffusion", frame=3)
    canvas = page.get_by_role("img", name="Steps (down) by place (across)")
    canvas.focus()
    page.keyboard.press("Home")
    readout = page.locator(".wb-th-panel-unmask .wb-th-readout")
    place = len(made.PROMPT)
    assert f"place {place}" in readout.inner_text()
    for _ in range(12):
        page.keyboard.press("ArrowDown")
    assert "unmasked" in readout.inner_text() or "stands" in readout.inner_text()
    assert page.locator(".wb-th-mask").count() > 0, "what is masked can be seen"
    page = shown("exits")
    page.get_by_role("img", name="Layers (the last on top) by token").focus()
    page.keyboard.press("End")
    assert "layer" in page.locator(".wb-th-panel-exits .wb-th-readout").inner_text()


def test_what_a_constraint_refused_is_listed(shown):
    page = shown("constrained", frame=1)
    asked = [v for v, s, k in zip(*(TRACES["constrained"].columns[c] for c in ("value", "step", "kind")), strict=True)
             if s == 1 and k == made.KIND_CONSTRAIN]  # fmt: skip
    assert page.locator(".wb-th-chips li").count() == len(asked)
    assert page.locator(".wb-th-forbidden").count() == asked.count(0.0)


def test_two_traces_move_together(shown):
    page = shown("plain", "speculative", frame=0)
    tokens = [Theatre(TRACES[n]).replays[0].frames.tokens for n in ("plain", "speculative")]
    page.get_by_label("Scrub by").select_option("tokens")
    slider(page).fill("30")
    frames = [int(s.get_attribute("data-frame")) for s in page.locator(".wb-th-stage").all()]
    for frame, counts in zip(frames, tokens, strict=True):
        assert counts[frame] >= 30 > counts[frame - 1]
    page.get_by_label("Scrub by").select_option("step")
    page.keyboard.press("End")
    slider(page).fill("39")
    assert text(page, 0) == answer("plain", -1)
    assert text(page, 1) == answer("speculative", -1)
    page.get_by_label("Scrub by").select_option("clock")
    slider(page).fill("10")
    seconds = [Theatre(TRACES[n]).replays[0].frames.seconds for n in ("plain", "speculative")]
    frames = [int(s.get_attribute("data-frame")) for s in page.locator(".wb-th-stage").all()]
    for frame, clock in zip(frames, seconds, strict=True):
        assert clock[frame] <= 0.5 + 1e-6
        assert frame == len(clock) - 1 or clock[frame + 1] > 0.5 - 1e-6


def test_all_events_of_a_step_can_be_read(shown):
    page = shown("speculative", frame=2)
    page.get_by_text("All events of the step").click()
    rows = page.get_by_role("table").get_by_role("row")
    first = made_replay("speculative").frames.first
    expect(rows).to_have_count(int(1 + first[3] - first[2]))
    slider(page).fill("0")
    expect(rows).to_have_count(int(1 + first[1] - first[0]))


def test_a_saved_page_scrubs_without_kernel_or_network(page, tmp_path, picture):
    Theatre(TRACES["speculative"], TRACES["plain"], frame=0).to_html(tmp_path / "theatre.html")
    page.goto((tmp_path / "theatre.html").as_uri())
    slider(page).focus()
    page.keyboard.press("End")
    assert text(page) == answer("speculative", -1)
    picture(page, "theatre-saved")


def test_the_static_form_shows_without_scripts(browser, picture):
    data, _ = Theatre(TRACES["speculative"])._repr_mimebundle_()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(f"<!doctype html><body>{data['text/html']}</body>")
    assert page.get_by_text("corrected by the target").first.is_visible()
    assert page.get_by_text("the one accepted furthest").is_visible()
    picture(page, "theatre-static")
    context.close()


def test_a_step_of_a_long_trace_is_recorded(host, record_property):
    """2,000 tokens of 17 events; the time is kept with the results, not asserted: machines are shared."""
    page = host.mount(Theatre(made.long(), frame=0), esm=Theatre._esm, css=Theatre._css)
    taken = page.evaluate(
        """async () => { const s = document.querySelector(".wb-th .wb-slider"); const times = [];
        for (let at = 900; at < 960; at++) {
          await new Promise((f) => requestAnimationFrame(f));
          const t = performance.now();
          s.value = at; s.dispatchEvent(new Event("input")); document.body.offsetHeight;
          times.push(performance.now() - t);
        }
        return times.sort((a, b) => a - b)[30]; }"""
    )
    record_property("median_ms_of_a_step", taken)
    assert page.locator(".wb-th-tokens").locator(".wb-th-token:not(.wb-th-later)").count() == 959
