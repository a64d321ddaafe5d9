"""What every view has: modules read from files, thread-safe traits, a static form, a page of its own.

The JavaScript of a view is a handful of plain ES modules. A notebook front end takes one module, so they are
put together here: imports between them go, exports lose their keyword, and they share one scope. Nothing is
built, and nothing comes from a CDN.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import uuid
from pathlib import Path
from typing import Any

import anywidget
import traitlets as t

from workbench._files import write_text

STATIC = Path(__file__).parent / "static"
SHEET = "studio.css"  # the sheet that every view's begins with
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./[\w.]+";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=const|let|function|class|async)", re.MULTILINE)
_DEFAULT = re.compile(r"^export default \{ render(?:: (.+))? \};$", re.MULTILINE)
_HIDDEN = {"layout", "tabbable", "tooltip", "comm", "log", "twin"}
_OVER = ("done", "cancelled", "failed")
_REST = 0.5  # seconds after a job until the static form is drawn anew: what was found is shown by then
# Without its view JupyterLab puts a line in the place of it: that it loads, or that there is no such model.
_TWIN = (
    '<div class="wb-static-{twin}"><style>.jp-OutputArea-child:has(+ .jp-OutputArea-child .wb-static-{twin})'
    ":not(:has(.wb-studio)) {{ display: none; }}</style>{static}</div>"
)


def join_modules(*names: str) -> str:
    """One ES module out of several, which may import only from those before them.

    Parameters
    ----------
    names
        Files in ``static/``; the last one holds the default export, which is made to say when its kernel has stopped.
    """
    files = [(STATIC / name).read_text(encoding="utf-8") for name in ("alive.js", *names)]
    joined = "\n".join(_EXPORT.sub("", _IMPORT.sub("", text)) for text in files)
    return _DEFAULT.sub(lambda found: f"export default {{ render: alive({found[1] or 'render'}) }};", joined)


def join_sheets(*names: str) -> str:
    """The shared style sheet, and those in ``static/`` that a view adds to it."""
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in (SHEET, *names))


class View(anywidget.AnyWidget):
    """Base of the views.

    A subclass sets ``_esm`` and ``_css`` as text (a path would keep every instance alive), and overrides
    `static_html`.
    """

    twin = t.Unicode().tag(sync=True)  # the name of its static form in a notebook
    _redrawing: threading.Timer | None = None

    def __init__(self, **traits: Any) -> None:
        self._traits_lock = threading.RLock()
        super().__init__(**traits)

    def close(self) -> None:
        """Take it off the screen, with the widget of its layout, which ipywidgets would keep for ever."""
        layout = self._trait_values.get("layout")
        if self._redrawing is not None:
            self._redrawing.cancel()
        super().close()
        if layout is not None:
            layout.close()

    def publish(self, **traits: Any) -> None:
        """Set traits in one message, from any thread."""
        with self._traits_lock, self.hold_sync():
            for name, value in traits.items():
                setattr(self, name, value)
        if traits.get("job", {}).get("state") in _OVER:
            self.redraw_soon()

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take values from the front end, not while a thread publishes."""
        with self._traits_lock:
            super().set_state(sync_data)

    def static_text(self) -> str:
        """The view in one line of text."""
        return repr(self)

    def static_html(self) -> str:
        """The view as HTML without scripts, for readers without a kernel."""
        raise NotImplementedError

    def _ipython_display_(self, **kwargs: Any) -> None:
        """Show it in a notebook, and below it the static form.

        JupyterLab shows the widget's type of output even where there is no such widget, and no other type of the same
        output: a saved notebook would show an error line. So the static form is an output of its own, which the view
        hides while it is there.
        """
        from IPython.display import display

        bundle = self._repr_mimebundle_(**kwargs)
        if bundle is None:
            return
        data, metadata = bundle
        if not self.twin:
            self.twin = uuid.uuid4().hex[:12]
        static = {kind: data.pop(kind) for kind in ("text/plain", "text/html")}
        display(data, metadata=metadata, raw=True)
        display(self._twin_of(static), raw=True, display_id=self.twin)

    def redraw_static(self) -> None:
        """Let the static form in the notebook follow what is shown; from any thread."""
        if self.twin:
            from IPython.display import update_display

            static = {"text/plain": self.static_text(), "text/html": self.static_html()}
            update_display(self._twin_of(static), raw=True, display_id=self.twin)

    def redraw_soon(self) -> None:
        """`redraw_static`, when nothing more has been asked for a moment."""
        if self._redrawing is not None:
            self._redrawing.cancel()
        if self.twin:
            self._redrawing = threading.Timer(_REST, self.redraw_static)
            self._redrawing.daemon = True
            self._redrawing.start()

    def _twin_of(self, static: dict[str, str]) -> dict[str, str]:
        return {**static, "text/html": _TWIN.format(twin=self.twin, static=static["text/html"])}

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/plain": self.static_text(), "text/html": self.static_html()}, metadata

    def state(self) -> dict[str, Any]:
        """The traits that the front end gets, bytes as ``{"__b64__": text}``."""
        names = [k for k in self.keys if not k.startswith("_") and k not in _HIDDEN]
        return {name: _plain(getattr(self, name)) for name in names}

    @property
    def reference(self) -> str:
        """What another view's trait says to have this one shown inside it."""
        return f"anywidget:{self.model_id}"

    def views(self) -> tuple[View, ...]:
        """The views inside it."""
        return ()

    def to_html(self, path: str | Path | None = None) -> str:
        """A page that holds the view as it is now and works from a file, without kernel or network.

        Parameters
        ----------
        path
            Where to write it too.
        """
        host = (STATIC / "host.js").read_text(encoding="utf-8")
        inner, modules, sheets = _inside(self)
        page = (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Sparse Workbench</title>\n'
            '<meta name="viewport" content="width=device-width">\n'
            f"<style>body {{ margin: 1rem; }}\n{sheets}</style></head><body>\n"
            f'<main id="view"></main><noscript>{self.static_html()}</noscript>\n'
            f'<script type="application/json" id="state">{_script({**self.state(), **self.frozen()})}</script>\n'
            f'<script type="application/json" id="esm">{_script(self._esm)}</script>\n'
            f'<script type="application/json" id="views">{_script(inner)}</script>\n'
            f'<script type="application/json" id="modules">{_script(modules)}</script>\n'
            f'<script type="module">{host}\n'
            "await start(document);</script></body></html>\n"
        )
        if path is not None:
            write_text(path, page, "name another file")
        return page

    def frozen(self) -> dict[str, Any]:
        """Traits that differ in a page without a kernel."""
        return {}


def _inside(view: View) -> tuple[dict[str, Any], dict[str, str], str]:
    """States of all views inside one, the modules that draw them, and the style sheets of all, each once."""
    states: dict[str, Any] = {}
    modules: dict[str, str] = {}
    shared = (STATIC / SHEET).read_text(encoding="utf-8")
    sheets = [shared, str(view._css).removeprefix(shared)]
    waiting = list(view.views())
    while waiting:
        one = waiting.pop(0)
        name = type(one).__name__
        states[one.reference] = {"module": name, "state": {**one.state(), **one.frozen()}}
        modules[name] = one._esm
        sheets.append(str(one._css).removeprefix(shared))
        waiting.extend(one.views())
    return states, modules, "\n".join(dict.fromkeys(sheets))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"__b64__": base64.b64encode(bytes(value)).decode("ascii")}
    return value


def _script(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")
