"""Make the pictures of the README: the studio on the default model, in JupyterLab in Chromium.

    python widgets/screenshots/make.py [FOLDER]

Takes some minutes: variants are pruned, compiled and measured first, in a session of its own that is kept in FOLDER.
A session that is there already is shown as it is.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "browser"), str(ROOT), str(ROOT / "kernels"), str(ROOT / "widgets")]

import nbformat  # noqa: E402
from browser_lab import RUN_ALL, serve  # noqa: E402
from conftest import ARGUMENTS  # noqa: E402
from playwright.sync_api import expect, sync_playwright  # noqa: E402

from workbench.bootstrap import find_browser  # noqa: E402

HERE = Path(__file__).resolve().parent
LIMIT = 200_000  # bytes of a picture
MINUTES = 60_000.0
CELLS = (
    """import workbench
bench = workbench.open({folder!r}, workbench.load(), samples=8, seqlen=256, windows=4)
if not bench.variants:
    for method, sparsity in (("wanda", 0.5), ("magnitude", 0.5), ("wanda", 0.3)):
        bench.prune(method=method, sparsity=sparsity)
    bench.compile("auto", "int8", variant=1)
    bench.compile("auto", "int8", variant=0)
bench.prompt = "Three things to do on a rainy day are"
studio = workbench.studio(bench)""",
    "studio",
)
BUSY = "() => Boolean(document.querySelector('.wb-joined .wb-busy progress')?.hidden)"
ENDED = "() => /^(Done|Failed)/.test(document.querySelector('.wb-joined .wb-busy-text').textContent)"
THEME = "(t) => window.jupyterapp.commands.execute('apputils:change-theme', { theme: `JupyterLab ${t}` })"


def work(page: Any, name: str) -> None:
    """Press a button of the studio and wait until its job is over."""
    page.locator(".wb-busy-text").evaluate("(e) => { e.textContent = ''; }")
    page.locator(".wb-joined").get_by_role("button", name=name, exact=True).click()
    page.wait_for_function(ENDED, timeout=10 * MINUTES)


def take(page: Any, name: str, *, dark: bool = False, height: int = 900) -> None:
    """Write one picture, cut to a height."""
    page.evaluate(THEME, "Dark" if dark else "Light")
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", str(not dark).lower())
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(0, 0)
    page.wait_for_timeout(800)
    box = page.locator(".wb-joined").bounding_box()
    clip = {**box, "height": min(box["height"], height)}
    path = HERE / f"{name}.png"
    page.screenshot(path=path, clip=clip)
    size = path.stat().st_size
    print(f"{path.name}: {size / 1000:.0f} kB")
    if size > LIMIT:
        raise SystemExit(f"{path.name} has {size} bytes, more than {LIMIT}: cut it lower")


def pictures(page: Any) -> None:
    """Work through the studio, picture by picture."""
    studio = page.locator(".wb-joined")
    page.wait_for_function(BUSY, timeout=10 * MINUTES)
    expect(studio.locator(".wb-prune")).to_have_attribute("data-frame", "0", timeout=10 * MINUTES)
    variant = studio.get_by_label("Variant", exact=True)
    variant.select_option(index=1)
    for percent in ("48", "49", "50"):
        studio.get_by_role("spinbutton", name="Sparsity in percent").fill(percent)
        expect(studio.locator(".wb-note").first).to_contain_text(f"({percent}.0 %)")
    take(page, "prune", height=651)
    variant.select_option(index=1)
    studio.get_by_role("tab", name="Decode").click()
    studio.get_by_role("radio", name="the draft of dense").check()
    work(page, "Generate")
    expect(studio.locator(".wb-th")).to_be_visible()
    slider = studio.get_by_role("slider", name="Step")
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    take(page, "decode", dark=True, height=1096)
    studio.get_by_role("tab", name="Compare").click()
    expect(studio.locator(".wb-scatter").first).to_be_visible()
    variant.select_option(index=variant.locator("option").count() - 1)
    take(page, "compare", height=672)


def main() -> None:
    """Make all of them."""
    with tempfile.TemporaryDirectory() as own, sync_playwright() as driver:
        folder = Path(own)
        kept = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else folder / "bench"
        cells = [nbformat.v4.new_code_cell(cell.format(folder=str(kept))) for cell in CELLS]
        notebook = folder / "studio.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=cells), notebook)
        browser = driver.chromium.launch(executable_path=find_browser(), args=list(ARGUMENTS), headless=True)
        page = browser.new_page(viewport={"width": 1280, "height": 2000})
        page.set_default_timeout(MINUTES)
        expect.set_options(timeout=MINUTES)
        with serve(folder) as lab, lab.notebook(page, notebook):
            if page.evaluate(RUN_ALL) is not True:
                raise SystemExit(str(page.locator(".jp-OutputArea-output").all_text_contents()))
            pictures(page)
        browser.close()


if __name__ == "__main__":
    main()
