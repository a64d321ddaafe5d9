"""What every registry of method classes does: take a class in under its name, and make an instance by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from workbench.errors import ArgumentError, unknown

T = TypeVar("T")


def enter(cls: Any, known: dict[str, Any], kind: str, says: tuple[str, ...]) -> None:
    """Take a class in.

    Parameters
    ----------
    cls
        Registered under ``cls.name``.
    known
        The registry.
    kind
        What it is, in words.
    says
        Attributes that it must have.

    Raises
    ------
    ArgumentError
        If one is missing, or the name is taken.
    """
    missing = [a for a in says if not hasattr(cls, a)]
    if missing:
        raise ArgumentError(f"the {kind} {cls.__name__} does not say its {', '.join(missing)}")
    if cls.name in known:
        raise ArgumentError(f"a {kind} named {cls.name!r} is registered already: {known[cls.name].__name__}")
    known[cls.name] = cls


def choose(name: object, known: Mapping[str, type[T]], kind: str, parameters: Mapping[str, Any] | None) -> T:
    """An instance of the class of this name, with these hyper-parameters: fields of the class.

    Raises
    ------
    ArgumentError
        If the name or a hyper-parameter is unknown.
    """
    cls: Any = known.get(str(name))
    if cls is None:
        raise unknown(kind, name, known)
    own = {f.name for f in fields(cls)}
    for parameter in parameters or {}:
        if parameter not in own:
            raise unknown(f"hyper-parameter of {cls.name}", parameter, own or {"(it has none)"})
    found: T = cls(**(parameters or {}))
    return found
