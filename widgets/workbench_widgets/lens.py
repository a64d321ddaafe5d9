"""The lens: where attention goes, what sparse patterns and smaller caches keep of it. A thin view over a study.

    study --once, as bytes--> front end        tile, row, blocks --latest wins--> Maps --> bytes

Without a kernel everything but exact tiles and rows still works.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from typing import Any

import traitlets as t

from workbench.attention.studying import AttentionStudy, study
from workbench.errors import ArgumentError, WorkbenchError
from workbench_widgets import _lens_state
from workbench_widgets._base import View, join_modules, join_sheets
from workbench_widgets._worker import Latest

_MODULES = (
    "maths.js", "dom.js", "primitives.js", "canvas_view.js", "canvas_map.js", "link.js", "lens_maths.js",
    "axes.js", "lens_data.js", "lens_tiles.js", "lens_chart.js", "lens_grid.js", "lens_heads.js", "lens_map.js",
    "lens_text.js", "lens_sparsity.js", "lens_kv.js", "lens.js",
)  # fmt: skip
PANELS = ("heads", "map", "text", "sparsity", "kv")


def lens(model: Any, ids: Any = None, *, panel: str = "heads", head: tuple[int, int] = (0, 0), **settings: Any) -> Lens:
    """Look at the attention of every head over a text.

    Parameters
    ----------
    model
        A model, which reads ``ids`` first, or a finished `AttentionStudy`.
    ids
        A text, or its token ids.
    panel
        Which panel to begin with: "heads", "map", "text", "sparsity" or "kv".
    head
        Layer and head that are open at first.
    **settings
        As for `workbench.attention.study`; ``states`` is True by default, so that maps are exact at any zoom.

    Raises
    ------
    ArgumentError
        If there is nothing to read, or a setting is wrong.

    Examples
    --------
    >>> workbench.lens(workbench.load(), "Once upon a time ...")                     # doctest: +SKIP
    """
    if isinstance(model, AttentionStudy):
        if ids is not None or settings:
            raise ArgumentError("a finished study takes no text and no settings: pass it alone")
        return Lens(model, panel=panel, head=head)
    if ids is None:
        raise ArgumentError(f"model={model!r:.60} without a text: pass lens(model, text), or a finished study")
    _checked(panel)
    return Lens(study(model, ids, **{"states": True, **settings}), panel=panel, head=head)


def _checked(panel: str) -> str:
    if panel not in PANELS:
        raise ArgumentError(f"panel={panel!r}: one of {', '.join(PANELS)}")
    return panel


class Lens(View):
    """The widget; it answers for tiles, rows and blocks while there is a kernel.

    Parameters
    ----------
    study, panel, head
        As for `lens`.

    Attributes
    ----------
    study : AttentionStudy
        What is shown.
    """

    _esm = join_modules(*_MODULES)
    _css = join_sheets("lens.css")

    header = t.Dict().tag(sync=True)
    data = t.Bytes(b"").tag(sync=True)
    kept = t.Bytes(b"").tag(sync=True)
    begin = t.Dict().tag(sync=True)
    error = t.Dict().tag(sync=True)
    live = t.Bool(True).tag(sync=True)

    def __init__(self, study: AttentionStudy, *, panel: str = "heads", head: tuple[int, int] = (0, 0)) -> None:
        layers, heads = study.table.kinds.shape
        if not (len(head) == 2 and 0 <= head[0] < layers and 0 <= head[1] < heads):
            raise ArgumentError(f"head={head!r}: a layer of {layers} and a head of {heads}, both counted from 0")
        self.study, self._alone = study, threading.Lock()
        self._newest: dict[str, int] = {}
        self._asked = {name: Latest(work, self._report) for name, work in self._answers().items()}
        header, data = _lens_state.lens_state(study)
        begin = {"panel": _checked(panel), "layer": int(head[0]), "head": int(head[1])}
        super().__init__(header=header, data=data, begin=begin)
        self.on_msg(self._heard)

    @property
    def busy(self) -> bool:
        """Whether something that was asked for is being worked out."""
        return any(asked.busy for asked in self._asked.values())

    # From the front end: no callback works for long

    def _heard(self, _: Any, content: dict[str, Any], __: Any) -> None:
        name = content.get("command")
        if name in self._asked:
            self._newest[name] = content["seq"]
            self._asked[name].ask(content)

    def _answers(self) -> dict[str, Callable[[dict[str, Any]], None]]:
        return {"tiles": self._tiles, "row": self._row, "blocks": self._blocks}

    def _tiles(self, asked: dict[str, Any]) -> None:
        """Tiles one by one, until something newer is asked for."""
        maps, (layer, head), size = self._maps(), self._head(asked), int(asked["size"])
        floor, place = self.header["floor"], {k: asked[k] for k in ("layer", "head", "size", "seq")}
        for row, column in asked["tiles"]:
            if self._newest["tiles"] != asked["seq"]:
                return
            with self._alone:
                shares = maps.tile(layer, head, size, int(row), int(column))
            coded = _lens_state.codes(shares, floor, 65535)
            beside = (int(row) - int(column)) * coded.shape[0]
            _lens_state.triangle(coded, beside)
            self.send({"tile": {**place, "row": int(row), "column": int(column)}}, [coded.tobytes()])

    def _row(self, asked: dict[str, Any]) -> None:
        maps, (layer, head), query = self._maps(), self._head(asked), int(asked["query"])
        if not 0 <= query < self.study.table.tokens:
            raise ArgumentError(f"query={query}: 0 to {self.study.table.tokens - 1}")
        with self._alone:
            shares = maps.row(layer, head, query)
        told = {"layer": layer, "head": head, "query": query, "seq": asked["seq"]}
        self.send({"row": told}, [shares.astype("<f4").tobytes()])

    def _blocks(self, asked: dict[str, Any]) -> None:
        (layer, head), point = self._head(asked), int(asked["point"])
        if self.study.curves is None or not 0 <= point < len(self.study.curves.rows):
            raise ArgumentError(f"point={point}: the study has no such point of a pattern")
        told = {"layer": layer, "head": head, "point": point, "seq": asked["seq"]}
        self.send({"blocks": told}, [_lens_state.blocks_of(self.study, point, layer, head)])

    def _maps(self) -> Any:
        maps = _lens_state.seen_maps(self.study)
        if maps is None:
            raise ArgumentError("the study kept no states: make it with states=True to see exact maps")
        return maps

    def _head(self, asked: dict[str, Any]) -> tuple[int, int]:
        layer, head = int(asked["layer"]), int(asked["head"])
        if not (0 <= layer < self.header["layers"] and 0 <= head < self.header["heads"]):
            raise ArgumentError(f"layer={layer}, head={head}: there is no such head")
        return layer, head

    def _report(self, error: BaseException) -> None:
        text = str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
        self.publish(error={"id": self.error.get("id", 0) + 1, "text": text})

    # Without a kernel

    def frozen(self) -> dict[str, Any]:
        """A page without a kernel holds every block, and asks for nothing."""
        packed = base64.b64encode(_lens_state.all_blocks(self.study)).decode("ascii")
        return {"live": False, "error": {}, "kept": {"__b64__": packed}}

    def static_text(self) -> str:
        """The study as text."""
        return self.study.to_text()

    def static_html(self) -> str:
        """The study without scripts."""
        return self.study.to_html()
