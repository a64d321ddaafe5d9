"""Every view alone on a page: both themes, keyboard only, narrow and magnified, without motion, opened and closed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import every_view
import pytest
from browser_host import ViewHost
from playwright.sync_api import expect

pytestmark = pytest.mark.browser
LOOKING = Path(__file__).with_name("looking.js").read_text(encoding="utf-8")
MADE_UP = every_view.made_up()
PANELS = ("prune", "execute", "attend", "decode", "compare")
NAMES = ("studio", *PANELS, *MADE_UP)
# Widths in CSS pixels: a wide screen, the same at 200 %, and at 400 %, where WCAG 2.2 still wants one column (1.4.10).
WIDTHS = (1280, 900, 640, 480, 320)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = every_view.worked_through(tmp_path_factory.mktemp("every") / "session")
    yield made
    made.close()
    made.session.close()


@pytest.fixture
def shown(host: ViewHost, request: pytest.FixtureRequest) -> Any:
    """Mounts a view by its name."""

    def mount(name: str, *, dark: bool = False) -> Any:
        if name in MADE_UP:
            made = MADE_UP[name]()
            view = made.pop("view")
        else:
            studio = request.getfixturevalue("studio")
            view, made = (studio if name == "studio" else studio.panels[name]), {}
        page = host.mount(view, **made, dark=dark)
        page.locator("#view .wb-studio").first.wait_for()
        page.evaluate(LOOKING)
        return page

    return mount


def faces(page: Any) -> Iterator[str]:
    """One after the other, every tab of the view, with what can be folded out."""
    page.wait_for_function("!document.querySelector('#view').innerText.includes('Opening…')")
    tabs = page.locator("#view > .wb-studio > .wb-tabline [role=tab], #view > .wb-studio > .wb-ln-top [role=tab]")
    for i in range(max(1, tabs.count())):
        name = ""
        if tabs.count():
            name = tabs.nth(i).inner_text()
            tabs.nth(i).click()
            page.wait_for_function("!document.querySelector('#view').innerText.includes('Opening…')")
        page.evaluate(
            "document.querySelectorAll('#view details:not(.wb-menu)').forEach((d) => { d.open = true; });"
            "document.querySelectorAll('#view button[aria-expanded=false]')"
            ".forEach((b) => b.checkVisibility() && b.click());"
        )
        yield name


def size(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("window.looking ? window.looking.settle() : null")


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_read_in_both_themes_at_any_size_without_motion(shown, host, axe, picture, name):
    host.page.emulate_media(reduced_motion="reduce")
    for dark, widths in ((False, WIDTHS), (True, WIDTHS[-1:])):
        page = shown(name, dark=dark)
        for face in faces(page):
            what = f"{name} {face} {'dark' if dark else 'light'}"
            for width in widths:
                size(page, width)
                assert not page.evaluate("window.looking.wide()"), f"{what} sticks out at {width}"
                assert page.evaluate("window.looking.clipped()") == [], f"{what} at {width}"
                assert page.evaluate("window.looking.overlapping()") == [], f"{what} at {width}"
            assert page.evaluate("window.looking.moving()") == [], what
            if not dark:
                size(page, WIDTHS[0])
            axe(page, "#view", what)
            picture(page, f"every-{what.replace(' ', '-').lower()}")
            size(page, WIDTHS[0])


@pytest.mark.parametrize("name", NAMES)
def test_keys_reach_everything_and_show_where_they_are(shown, name):
    page = shown(name)
    for face in faces(page):
        wanted = page.evaluate("window.looking.tabbable()")
        page.evaluate("document.activeElement.blur(); document.body.focus()")
        reached, bare = set(), []
        for _ in range(len(wanted) + 2):
            page.keyboard.press("Tab")
            stop = page.evaluate("document.activeElement.dataset.stop ?? ''")
            reached.add(stop)
            if stop and not page.evaluate("window.looking.ringed()"):
                bare.append(wanted[int(stop)])
        assert [w for i, w in enumerate(wanted) if str(i) not in reached] == [], f"{name} {face}: never reached"
        assert bare == [], f"{name} {face}: nobody sees where the focus is"
    for key in ("ArrowRight", "ArrowDown", "Home", "End", "Enter", "j"):
        page.keyboard.press(key)
    assert page.evaluate("window.watch.leaked.filter((k) => k !== 'Tab')") == [], "the notebook would take these keys"


@pytest.mark.parametrize("way", ["mouse", "keys"])
def test_the_studio_and_its_panels_are_worked(shown, host, way):
    """What each would tell the kernel; the other views' pages have tests of their own."""

    def press(what: Any) -> None:
        if way == "mouse":
            what.click()
        else:
            what.focus()
            host.page.keyboard.press("Enter")

    def told(name: str, *buttons: str) -> list[str]:
        page = shown(name)
        page.wait_for_function("!document.querySelector('#view').innerText.includes('Opening…')")
        for button in buttons:
            press(page.get_by_role("button", name=button, exact=True).first)
        return [message["command"] for message in host.sent]

    page = shown("studio")
    press(page.get_by_role("tab", name="Decode"))
    assert host.saved == [{"panel": "decode"}]
    press(page.locator("summary", has_text="Export"))
    for button in ("Undo", "Python", "Report"):
        press(page.get_by_role("button", name=button, exact=True))
    page.get_by_label("Variant", exact=True).select_option("2")
    assert [m["command"] for m in host.sent] == ["undo", "export", "export", "select"]
    assert told("prune", "Prune", "Copy as Python") == ["prune", "code"]
    assert told("execute", "Compile", "Run") == ["compile", "run"]
    assert told("attend", "Study") == ["study"]
    assert told("decode", "Generate") == ["generate"]
    assert told("compare", "Say both") == ["beside"]
    point = host.page.get_by_role("radiogroup", name="Quality and bytes of weights").get_by_role("radio", name="2: ")
    if way == "mouse":
        point.click()
    else:
        host.page.get_by_role("radiogroup", name="Quality and bytes of weights").get_by_role(
            "radio", checked=True
        ).focus()
        host.page.keyboard.press("ArrowRight")
    assert host.sent[-1]["command"] == "select"


def test_a_studio_whose_kernel_stops_says_so_and_sends_nothing(shown, host):
    page = shown("studio")
    host.receive(places={"decode": ""})  # as if it was never visited
    page.evaluate("() => { window.host.model.send = () => { throw new Error('Cannot send'); }; }")
    page.get_by_label("Variant", exact=True).select_option("1")
    expect(page.locator("#view > .wb-studio > .wb-gone")).to_contain_text("Run the cell again to go on")
    expect(page.get_by_label("Variant", exact=True)).to_be_disabled()
    page.get_by_role("tab", name="Decode").click()
    expect(page.get_by_role("tabpanel", name="Decode")).to_have_text("It was not opened before the kernel stopped.")
    assert host.saved == [], "nobody is there to hear it"


def test_the_theatre_plays_without_motion(shown, host):
    host.page.emulate_media(reduced_motion="reduce")
    page = shown("theatre-speculative")
    page.get_by_label("Speed").select_option("16")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("document.querySelector('.wb-th').dataset.position === '24'")
    assert page.evaluate("window.looking.moving()") == []


def test_a_hundred_studios_leave_nothing_on_the_page(shown, host):
    page = shown("studio")
    left = page.evaluate(
        """async () => {
          const found = [];
          const leave = async () => found.push(...(await window.watch.close()));
          for (let i = 0; i < 99; i++) {
            window.host.close();
            window.host = await window.begin();
            if (i % 33) continue;
            for (const tab of document.querySelectorAll("#view > .wb-studio > .wb-tabline [role=tab]")) {
              tab.click();
              await new Promise((f) => setTimeout(f, 50));
            }
            await leave();
          }
          await leave();
          return found; }"""
    )
    assert left == []
