"""A page that hosts one view as a notebook front end does, without a kernel."""

from __future__ import annotations

import json
from typing import Any

from workbench_widgets._base import STATIC, View

# host.js comes as it is in an exported page; `view` here is what a test talks to.
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>host</title>
<style>body {{ margin: 16px; }} {css}</style></head>
<body data-jp-theme-light="{light}" style="{colours}"><main id="view"></main>
<script type="application/json" id="state">{state}</script>
<script type="application/json" id="esm">{esm}</script>
<script type="module">{host}
window.host = await start(document);</script></body></html>"""

DARK = "background:#111;--jp-layout-color1:#111;--jp-content-font-color1:#dedede;color-scheme:dark;"


class ViewHost:
    """Mounts views on a page and tells what they would send to the kernel."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def mount(self, view: View | dict[str, Any], *, esm: str, css: str, dark: bool = False) -> Any:
        state = view.state() if isinstance(view, View) else view
        text = PAGE.format(
            css=css,
            light=str(not dark).lower(),
            colours=DARK if dark else "",
            state=_script(state),
            esm=_script(esm),
            host=(STATIC / "host.js").read_text(encoding="utf-8"),
        )
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
        return self.page.evaluate("window.host.model.sent")


def _script(value: Any) -> str:
    return json.dumps(value).replace("<", "\\u003c")
