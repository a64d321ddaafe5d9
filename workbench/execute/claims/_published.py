"""Kernels with a paper, and the one dict that holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.errors import ArgumentError

_PUBLISHED: dict[str, Published] = {}


@dataclass(frozen=True, slots=True)
class Published:
    """A kernel that a paper describes.

    Attributes
    ----------
    name : str
        As ``workbench replicate`` takes it.
    title : str
        How people write it.
    kernels : tuple of str
        Which of `workbench_kernels` implement it.
    formula : str
        One line.
    citation : Citation
    claim : Claim
    """

    name: str
    title: str
    kernels: tuple[str, ...]
    formula: str
    citation: Citation
    claim: Claim


def published(one: Published) -> Published:
    """Register a published kernel.

    Raises
    ------
    ArgumentError
        If the name is taken.
    """
    if one.name in _PUBLISHED:
        raise ArgumentError(f"name={one.name!r} is taken by {_PUBLISHED[one.name].title}: choose another")
    _PUBLISHED[one.name] = one
    return one


def registry() -> Mapping[str, Published]:
    """All published kernels by name."""
    return MappingProxyType(_PUBLISHED)
