"""Figures to JSON and back, exactly: known dataclasses, tuples and arrays survive; nothing else is ever built.

Quality(...) <-> {"class": "Quality", "fields": {...}}: never a pickle, only the classes of `KNOWN`.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.errors import DataError

KNOWN = {
    "Choice": "workbench.session.variants",
    "Event": "workbench.session.history",
    "Execution": "workbench.session.variants",
    "ModuleReport": "workbench.prune.result",
    "Provenance": "workbench.results",
    "Quality": "workbench.measure",
    "Recipe": "workbench.prune.result",
    "Report": "workbench.prune.result",
    "Samples": "workbench.session.variants",
    "Size": "workbench.measure.costs",
    "Speed": "workbench.measure.timings",
    "Timing": "workbench.measure.timings",
    "Tokens": "workbench.data",
}


def encode(value: Any) -> Any:
    """A value as JSON can hold it.

    Raises
    ------
    DataError
        If it holds something that `decode` could not build again.
    """
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        kind = array.dtype.newbyteorder("<").str
        if array.dtype.hasobject:
            raise DataError("an array of objects cannot be kept")
        data = base64.b64encode(array.astype(kind).tobytes()).decode()
        return {"array": data, "dtype": kind, "shape": list(array.shape)}
    if dataclasses.is_dataclass(value) and type(value).__name__ in KNOWN:
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {"class": type(value).__name__, "fields": fields}
    if isinstance(value, list | tuple):
        items = [encode(v) for v in value]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        return {"map": [[encode(k), encode(v)] for k, v in value.items()]}
    raise DataError(f"{value!r} cannot be kept: figures, texts, arrays and results can")


def decode(value: Any) -> Any:
    """What `encode` was given.

    Raises
    ------
    DataError
        If it is not what `encode` wrote.
    """
    try:
        return _decoded(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"this was not written by the workbench, or by another version of it ({error})") from error


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(_decoded(v) for v in value["tuple"])
    if "map" in value:
        return {_decoded(k): _decoded(v) for k, v in value["map"]}
    if "array" in value:
        dtype = np.dtype(value["dtype"])
        if dtype.hasobject:
            raise ValueError("an array of objects")
        data = np.frombuffer(base64.b64decode(value["array"]), dtype)
        return data.reshape(value["shape"]).astype(dtype.newbyteorder("="))
    made = getattr(importlib.import_module(KNOWN[value["class"]]), value["class"])
    return made(**{k: _decoded(v) for k, v in value["fields"].items()})
