"""Guesses in a browser: by mouse, by keyboard, in both themes, and read by screen readers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from browser_host import ViewHost
from playwright.sync_api import expect
from workbench_widgets.predict import Predict

from workbench.lessons import Prediction

pytestmark = pytest.mark.browser
OPTIONS = ("faster", "equal", "slower")


@pytest.fixture
def asked(host: ViewHost) -> Callable[..., Any]:
    def mount(*, dark: bool = False, **settings: Any) -> Any:
        view = Predict(Prediction("What will it be?", **settings))
        return host.mount(view, esm=Predict._esm, css=Predict._css, dark=dark)

    return mount


def test_a_number_by_hand_and_on_the_scale(asked, host):
    page = asked(low=10, high=500, unit="x")
    number, scale = page.get_by_label("Your guess, in x", exact=True), page.get_by_role("slider")
    lock = page.get_by_role("button", name="Lock my guess")
    expect(lock).to_be_disabled()
    number.fill("40")
    assert scale.input_value() == "40"
    scale.focus()
    page.keyboard.press("ArrowRight")
    expect(number).to_have_value("45")
    lock.click()
    assert host.sent == [{"guess": 45}]


def test_a_guess_by_keyboard_alone_locks_and_keeps_the_focus_here(asked, host):
    page = asked()
    page.keyboard.press("Tab")
    page.keyboard.type("12.5")
    page.keyboard.press("Enter")
    assert host.sent == [{"guess": 12.5}]
    host.receive(value=12.5, locked=True)
    expect(page.get_by_role("status")).to_have_text("Locked: 12.5. Run the next cell.")
    expect(page.get_by_label("Your guess", exact=True)).to_be_disabled()
    assert page.evaluate("document.activeElement.closest('.wb-pr') !== null")
    host.receive(verdict="you said 12.5, it was 30: 2.4 times your guess")
    expect(page.get_by_role("status")).to_have_text("You said 12.5, it was 30: 2.4 times your guess.")


def test_options_by_keyboard(asked, host):
    page = asked(options=OPTIONS)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("equal")).to_be_checked()
    page.keyboard.press("Enter")
    assert host.sent == [{"guess": "equal"}]


def test_a_result_without_a_guess_and_an_error_are_said(asked, host):
    page = asked(low=0, high=1)
    host.receive(error="the guess is locked")
    expect(page.get_by_role("status")).to_have_text("the guess is locked")
    host.receive(error="", locked=True, verdict="it was 0.4; no guess was made")
    expect(page.get_by_role("status")).to_have_text("It was 0.4; no guess was made.")
    expect(page.get_by_role("button")).to_be_disabled()


@pytest.mark.parametrize(
    ("settings", "dark"), [({"low": 1, "high": 64}, False), ({"options": OPTIONS}, True)], ids=["number", "options"]
)
def test_no_rule_of_accessibility_is_broken_once_it_is_locked(asked, host, axe, settings, dark):
    page = asked(dark=dark, **settings)
    for state in ({"locked": True, "value": settings.get("options", (0, 5))[1]}, {"verdict": "it was 9"}):
        host.receive(**state)
        axe(page, ".wb-pr")
