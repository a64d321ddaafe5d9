"""Browser tests: a page that hosts one view, and JupyterLab itself, in Chromium without a network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from browser_host import ViewHost
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
    """A page that reaches this machine only; what else it asked for is in ``page.external``."""
    context = browser.new_context(viewport={"width": 1280, "height": 1500})
    page = context.new_page()
    page.external, page.errors = [], []

    def route(request: Any) -> None:
        url = request.request.url
        if url.startswith(("http://127.0.0.1:", "data:", "blob:", "file:")):
            request.continue_()
        else:
            page.external.append(url)
            request.abort()

    context.route("**/*", route)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    context.close()


@pytest.fixture
def host(page: Any) -> ViewHost:
    return ViewHost(page)


@pytest.fixture
def picture() -> Callable[[Any, str], None]:
    """Keeps a screenshot of a page or of one element, for people to look at."""

    def take(shown: Any, name: str) -> None:
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        options = {"full_page": True} if hasattr(shown, "keyboard") else {}
        shown.screenshot(path=ARTEFACTS / f"{name}.png", **options)

    return take
