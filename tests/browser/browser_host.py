"""Pages on which nothing may go wrong, and one that hosts a view as a notebook front end does, without a kernel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench_widgets._base import STATIC, View, _inside

# host.js comes as it is in an exported page; `view` here is what a test talks to, and watch.js sees what a view leaves.
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>host</title>
<style>body {{ margin: 16px; }} {css}</style><script>{watch}</script></head>
<body data-jp-theme-light="{light}" style="{colours}"><main id="view"></main>
<script type="application/json" id="state">{state}</script>
<script type="application/json" id="esm">{esm}</script>
<script type="application/json" id="views">{views}</script>
<script type="application/json" id="modules">{modules}</script>
<script type="module">{host}
window.begin = () => start(document);
window.host = await start(document);</script></body></html>"""

DARK = "background:#111;--jp-layout-color1:#111;--jp-content-font-color1:#dedede;color-scheme:dark;"
WATCH = Path(__file__).with_name("watch.js").read_text(encoding="utf-8")


@contextmanager
def guarded(browser: Any, **options: Any) -> Iterator[Any]:
    """A page that reaches this machine only. It is an error if it asks for more, or if anything goes wrong on it.

    Error lines that must come, of JupyterLab's own, are allowed by a part of their text in ``page.forgiven``.
    """
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 1500}, **options})
    external, errors, forgiven = [], [], ["/lsp/"]  # Lab asks for language servers whether or not there are any

    def route(request: Any) -> None:
        url = request.request.url
        if url.startswith(("http://127.0.0.1:", "data:", "blob:", "file:")):
            request.continue_()
        else:
            external.append(url)
            request.abort()

    context.route("**/*", route)
    context.on("weberror", lambda found: errors.append(str(found.error)))
    context.on("console", lambda m: m.type == "error" and errors.append(f"{m.text} {m.location['url']}"))
    page = context.new_page()
    page.forgiven = forgiven
    yield page
    context.close()
    assert external == [], "something was asked for that is not on this machine"
    assert [e for e in errors if not any(words in e for words in forgiven)] == []


class ViewHost:
    """Mounts views on a page and tells what they would send to the kernel."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def mount(self, view: View | dict[str, Any], *, esm: str = "", css: str = "", dark: bool = False) -> Any:
        """Show a view as it is now, with those inside it; or one of the given traits."""
        views: dict[str, Any] = {}
        modules: dict[str, str] = {}
        state = view
        if isinstance(view, View):
            state, esm = view.state(), view._esm
            views, modules, css = _inside(view)
            for inner in views.values():
                inner["state"]["live"] = True  # as in a notebook: on a saved page nothing could be tried
        text = PAGE.format(
            css=css,
            watch=WATCH,
            light=str(not dark).lower(),
            colours=DARK if dark else "",
            state=_script(state),
            esm=_script(esm),
            views=_script(views),
            modules=_script(modules),
            host=(STATIC / "host.js").read_text(encoding="utf-8"),
        )
        self.page.evaluate("window.host = undefined")  # a page keeps its window when its content is replaced
        self.page.set_content(text)
        self.page.wait_for_function("window.host !== undefined")
        return self.page

    def receive(self, **traits: Any) -> None:
        """Set traits as the kernel would."""
        self.page.evaluate("(traits) => window.host.model.receive(traits)", traits)

    @property
    def saved(self) -> list[dict[str, Any]]:
        return self.page.evaluate("window.host.model.saved")

    @property
    def sent(self) -> list[dict[str, Any]]:
        """What went to the kernel, from the view and from those inside it."""
        return self.page.evaluate(
            "[...window.host.model.sent, ...[...window.host.host.models.values()].flatMap((m) => m.sent)]"
        )

    def left(self) -> Any:
        """What is still there of the view on the page after it was closed: listeners, observers, timers, WebGL."""
        return self.page.evaluate("window.host && window.watch.close()")


def _script(value: Any) -> str:
    return json.dumps(value).replace("<", "\\u003c")
