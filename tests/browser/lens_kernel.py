"""The other end of a lens on a host page: what the front end sends reaches the widget, and its answers come back."""

from __future__ import annotations

import base64
import time
from typing import Any

from workbench_widgets import Lens

BRIDGE = """() => { const model = window.host.model; const sent = model.send;
  model.send = async (content) => { sent(content);
    const bytes = (b) => ({ __b64__: b });
    for (const [answer, buffers] of await window.ask(content)) model.message(answer, buffers.map(bytes)); }; }"""


class Kernel:
    """Answers for one lens; ``said`` is what it sent."""

    def __init__(self, page: Any, lens: Lens) -> None:
        self.lens, self.said = lens, []
        self._new: list[Any] = []
        lens.send = lambda content, buffers=(): self._new.append([content, buffers])
        page.expose_function("ask", self._ask)

    def _ask(self, content: dict[str, Any]) -> list[Any]:
        self.lens._heard(None, content, [])
        end = time.monotonic() + 20
        while self.lens.busy and time.monotonic() < end:
            time.sleep(0.001)
        new, self._new = self._new, []
        self.said += [content for content, _ in new]
        return [[content, [base64.b64encode(bytes(b)).decode() for b in buffers]] for content, buffers in new]
