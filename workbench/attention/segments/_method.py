"""What a way of laying a structured prompt out is, and the one dict that holds them.

    Segments, as token ids -> SegmentMethod.layout -> Layout (blocks, their positions, what they see)

A method is a frozen dataclass in a file of its own with `SegmentMethod.place`; reading is the same for all (`target`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from workbench._citation import Citation
from workbench._registry import Registry
from workbench.attention.segments.layout import Block, Layout

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A part in its place: its index, where it starts, the parts that it sees, and whether it sees what is before."""

    index: int
    start: int
    sees: tuple[int, ...] = ()
    before: bool = True


@dataclass(frozen=True)
class SegmentMethod(ABC):
    """Base of the methods.

    Attributes
    ----------
    name, title, formula, citation, claim
        As with pruning methods.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    formula: ClassVar[str]
    citation: ClassVar[Citation | None] = None
    claim: ClassVar[Any] = None

    @abstractmethod
    def place(self, before: int, parts: Sequence[Ids], edges: Sequence[tuple[int, int]]) -> list[Part]:
        """Say where parts stand and what they see, in the order in which they are read.

        Parameters
        ----------
        before
            Tokens that come first, at positions from 0.
        parts
            Their token ids.
        edges
            Pairs (source, target).

        Raises
        ------
        ArgumentError
            If the method has no use for such edges.
        """

    def layout(self, before: Ids, parts: Sequence[Ids], after: Ids, edges: Sequence[tuple[int, int]] = ()) -> Layout:
        """The whole prompt in its place; what comes after starts behind the part that ends last, and sees all."""
        placed = self.place(len(before), parts, edges)
        blocks = [Block("before", before, 0)] if before else []
        first = len(blocks)
        where = {p.index: first + n for n, p in enumerate(placed)}
        for p in placed:
            seen = [0] if first and p.before else []
            seen += sorted(where[n] for n in p.sees)
            blocks.append(Block(f"part {p.index}", parts[p.index], p.start, tuple(seen)))
        if after:
            end = max(b.start + len(b.ids) for b in blocks)
            blocks.append(Block("after", after, end, tuple(range(len(blocks)))))
        return Layout(self.name, tuple(blocks))

    @property
    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters, ready for JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


METHODS: Registry[SegmentMethod] = Registry(SegmentMethod, "segment method")
segment_method, registry, resolve = METHODS.register, METHODS.classes, METHODS.resolve
