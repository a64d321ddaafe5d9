"""Opening a session that is kept: `workbench.open`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import torch

from workbench.errors import ArgumentError, ResourceError
from workbench.models import LM, load
from workbench.session._session import Session
from workbench.session.store import SESSION, Store
from workbench.weights import cache_dir

MOST = 9  # notebooks that are open at once on one model


def open(  # noqa: A001 - what one does with a session
    folder: str | Path | None = None, model: Any = None, *, fresh: bool = False, **options: Any
) -> Session:
    """Open a session that keeps itself, and goes on after a restart where it was.

    Parameters
    ----------
    folder
        Where it is kept; or a checkpoint's folder, whose session lies in the cache then. None is the session of the
        default model (or of ``model``) in the cache; a second notebook that opens it at the same time gets its own.
    model
        A handle, or what `workbench.load` takes; by default the one that the session was made with, or the default.
    fresh
        Begin anew. What was there is put aside, as ``<folder>.before``.
    options
        As of `Session`: ``calibration``, ``evaluation``, ``seed``, ``samples``, ``seqlen``, ``windows``, ``keep``.

    Raises
    ------
    ArgumentError
        If an argument does not fit.
    ModelError
        If the session was made with another model.
    ResourceError
        If another process has it open.
    DataError
        If its files are damaged.

    Examples
    --------
    >>> session = workbench.open()                                                    # doctest: +SKIP
    >>> session.prune(method="wanda", sparsity=0.5)                                   # doctest: +SKIP
    >>> session.compile("bitmap", "int8")                                             # doctest: +SKIP
    >>> session.compare()                                                             # doctest: +SKIP
    """
    place = None if folder is None else Path(folder).expanduser().absolute()
    if place is not None and (place / "config.json").is_file():
        model, place = model if model is not None else str(place), None
    if place is not None:
        return _at(place, model, fresh, options)
    lm = model if model is not None and not isinstance(model, str | Path) else load(model)
    source = lm.source if isinstance(lm, LM) else "memory"
    if source == "memory":
        raise ArgumentError("model is in memory only: name a folder to keep its session in, open(folder, model)")
    home = cache_dir() / "sessions" / re.sub(r"[^A-Za-z0-9.-]+", "-", source).strip("-.")
    for number in range(1, MOST + 1):
        try:
            return _at(home if number == 1 else home.with_name(f"{home.name}-{number}"), lm, fresh, options)
        except ResourceError as error:
            if "another process" not in str(error) or number == MOST:
                raise
    raise AssertionError("unreachable")


def _at(place: Path, model: Any, fresh: bool, options: dict[str, Any]) -> Session:
    if place.is_dir() and any(place.iterdir()) and not (place / SESSION).is_file() and not _ours(place):
        raise ArgumentError(f"folder={str(place)!r} holds something else: name a new one, or a session's")
    if fresh and place.is_dir():
        _put_aside(place)
    store = Store(place)
    try:
        state = store.read()
        if model is None and state is not None and state["source"] == "memory":
            raise ArgumentError("the session was made with a model in memory: pass it, open(folder, model)")
        if model is None or isinstance(model, str | Path):
            name = model if model is not None or state is None else state["source"]
            kept = "float32" if model is not None or state is None else state.get("dtype", "float32")
            model = load(None if name == "default" else name, dtype=getattr(torch, kept))
        return Session(model, store=store, **options)
    except BaseException:
        store.close()
        raise


def _ours(place: Path) -> bool:
    return all(p.name in {"variants", ".lock"} or p.name.endswith(".part") for p in place.iterdir())


def _put_aside(place: Path) -> None:
    Store(place).close()  # nobody else has it open
    old = place.with_name(place.name + ".before")
    shutil.rmtree(old, ignore_errors=True)
    place.rename(old)
