"""Browser tests: a page that hosts one view, and JupyterLab itself, in Chromium without a network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from browser_host import ViewHost, guarded
from browser_lab import Lab, serve

from workbench.bootstrap import find_browser

ARTEFACTS = Path(__file__).parents[2] / "artifacts" / "browser"  # ignored by git
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions",
    "--disable-dev-shm-usage",
)  # fmt: skip


def without(reason: str) -> NoReturn:
    """No browser: the tests are skipped, or fail where ``$WORKBENCH_NEED_BROWSER`` is set, as in `.ci/run`."""
    if os.environ.get("WORKBENCH_NEED_BROWSER"):
        pytest.fail(f"{reason} (WORKBENCH_NEED_BROWSER is set)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    try:
        import playwright.sync_api as playwright
    except ImportError:
        without("playwright is not installed")
    program = find_browser()
    if program is None:
        without("no Chromium that runs: install Debian's chromium, or set CHROMIUM to one")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=list(ARGUMENTS), headless=True)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def lab(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with serve(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A guarded page."""
    with guarded(browser) as opened:
        yield opened


@pytest.fixture
def host(page: Any) -> Iterator[ViewHost]:
    """A page for one view, which must leave nothing behind when it is closed."""
    mounted = ViewHost(page)
    yield mounted
    assert not mounted.left()


@pytest.fixture
def axe() -> Callable[..., None]:
    """Asserts that no rule of accessibility of any level is broken inside ``context``."""
    run = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe().run

    def check(page: Any, context: str, name: str = "") -> None:
        found = run(page, context=context).response["violations"]
        assert not [(v["id"], [n["html"][:140] for n in v["nodes"]]) for v in found], name

    return check


@pytest.fixture
def picture() -> Callable[[Any, str], None]:
    """Keeps a screenshot of a page or of one element, for people to look at."""

    def take(shown: Any, name: str) -> None:
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        options = {"full_page": True} if hasattr(shown, "keyboard") else {}
        shown.screenshot(path=ARTEFACTS / f"{name}.png", **options)

    return take
