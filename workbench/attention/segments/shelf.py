"""Blocks of prompts that were read once: their keys and values, and turning them to another place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from workbench.attention.rotating import Rotation
from workbench.errors import ArgumentError

Layers = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """Keys and values ``[1, Hkv, T, D]`` of a block by layer, the keys turned for a start at ``start``."""

    start: int
    layers: Layers

    def moved(self, start: int, rotation: Rotation) -> States:
        """The same for another start."""
        by = start - self.start
        return States(start, [(rotation.turn(k, by).to(k.dtype), v) for k, v in self.layers]) if by else self


class Shelf:
    """Blocks that were read once, for prompts to come with the same model; keys are turned to their new places.

    Attributes
    ----------
    hits
        Blocks that did not have to be read again.
    """

    def __init__(self) -> None:
        self.hits = 0
        self._module: Any = None
        self._states: dict[bytes, States] = {}

    def __len__(self) -> int:
        return len(self._states)

    @property
    def nbytes(self) -> int:
        """Of all keys and values."""
        return sum(x.nbytes for s in self._states.values() for pair in s.layers for x in pair)

    def serve(self, module: Any) -> None:
        """Hear whose blocks these are.

        Raises
        ------
        ArgumentError
            If there are some of another model.
        """
        if self._module is not None and self._module is not module:
            raise ArgumentError("the shelf holds blocks of another model: make a new one")
        self._module = module

    def find(self, key: bytes) -> States | None:
        """What was kept under this key."""
        found = self._states.get(key)
        self.hits += found is not None
        return found

    def keep(self, key: bytes, states: States) -> None:
        """Take a block in."""
        self._states[key] = states
