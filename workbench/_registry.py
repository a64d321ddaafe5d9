"""What every registry of method classes does: take a class in under its name, and make an instance by it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from workbench.errors import ArgumentError, unknown

T = TypeVar("T")
C = TypeVar("C", bound=type[Any])


class Registry(Mapping[str, type[T]]):
    """Classes of one kind by their names, in the order of coming.

    Parameters
    ----------
    base
        What all of them are.
    kind
        What one is, in the words of an error.
    says
        Class attributes that each must have.
    """

    def __init__(self, base: Any, kind: str, says: tuple[str, ...] = ("name", "title", "formula")) -> None:
        self.base, self.kind, self.says = base, kind, says
        self.known: dict[str, type[T]] = {}

    def __getitem__(self, name: str) -> type[T]:
        return self.known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)

    def register(self, cls: C) -> C:
        """Take a class in under ``cls.name``; a decorator.

        Raises
        ------
        ArgumentError
            If something that every one must say is missing, or the name is taken.
        """
        missing = [a for a in self.says if not hasattr(cls, a)]
        if missing:
            raise ArgumentError(f"the {self.kind} {cls.__name__} does not say its {', '.join(missing)}")
        if cls.name in self.known:
            taken = self.known[cls.name].__name__
            raise ArgumentError(f"a {self.kind} named {cls.name!r} is registered already: {taken}")
        self.known[cls.name] = cls
        return cls

    def classes(self) -> Mapping[str, type[T]]:
        """All registered classes by name."""
        return dict(self.known)

    def resolve(self, chosen: str | T, parameters: Mapping[str, Any] | None = None) -> T:
        """An instance from its name with its hyper-parameters, which are fields of the class, or from an instance.

        Raises
        ------
        ArgumentError
            If the name or a hyper-parameter is unknown, or an instance is given hyper-parameters again.
        """
        if isinstance(chosen, self.base):
            if parameters:
                names = ", ".join(parameters)
                raise ArgumentError(f"{names}: give hyper-parameters to the {self.kind} itself, or its name")
            return chosen
        cls: Any = self.known.get(str(chosen))
        if cls is None:
            raise unknown(self.kind, chosen, self.known)
        own = {f.name for f in fields(cls)}
        for parameter in parameters or {}:
            if parameter not in own:
                raise unknown(f"hyper-parameter of {cls.name}", parameter, own or {"(it has none)"})
        found: T = cls(**(parameters or {}))
        return found

    def several(self, chosen: str | T | Iterable[str | T]) -> tuple[T, ...]:
        """Instances of one, of several, or of all of them by name ("all")."""
        if isinstance(chosen, str) and chosen == "all":
            return tuple(self.resolve(name) for name in sorted(self.known))
        if isinstance(chosen, (str, self.base)):
            return (self.resolve(chosen),)
        return tuple(self.resolve(one) for one in chosen)  # type: ignore[union-attr]
