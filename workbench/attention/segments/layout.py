"""Where the pieces of a structured prompt stand and which of them see which: `Segments` in, `Layout` out.

A block sees itself up to each of its tokens, and the whole of the blocks named in `Block.sees`; nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench import render
from workbench.errors import ArgumentError
from workbench.results import Result

Text = str | Sequence[int]
CELLS = 240  # a picture's side, in screen pixels


@dataclass(frozen=True, slots=True)
class Segments:
    """A prompt with parts whose order is not the point.

    Attributes
    ----------
    before
        What comes first; texts are strings or token ids. May be empty.
    parts
        Options or documents, at least one.
    after
        What comes last, such as the question. May be empty.
    edges
        Pairs (source, target) of indices in ``parts``, for methods that take a graph: the target reads the source.
    """

    before: Text
    parts: Sequence[Text]
    after: Text = ""
    edges: Sequence[tuple[int, int]] = ()

    def __post_init__(self) -> None:
        if isinstance(self.parts, str) or not len(self.parts):
            raise ArgumentError(f"parts={self.parts!r}: a sequence of at least one text or list of token ids")
        for edge in self.edges:
            if len(edge) != 2 or not all(0 <= n < len(self.parts) for n in edge) or edge[0] == edge[1]:
                raise ArgumentError(f"edges holds {edge}: pairs of two different indices below {len(self.parts)}")


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of the prompt in its place.

    Attributes
    ----------
    name
        ``"before"``, ``"part 0"`` (its index in `Segments.parts`), ``"after"``.
    ids
        Token ids.
    start
        Position of the first one.
    sees
        Indices of earlier blocks that it sees in full.
    """

    name: str
    ids: tuple[int, ...]
    start: int
    sees: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class Layout(Result):
    """A structured prompt as it is read.

    Attributes
    ----------
    method : str
    blocks : tuple of Block
        In the order of reading, and so of the rows of the cache; those without tokens are left out.
    """

    method: str
    blocks: tuple[Block, ...]

    @property
    def ids(self) -> np.ndarray:
        """All tokens, int64 [S]."""
        return np.array([t for b in self.blocks for t in b.ids], np.int64)

    @property
    def positions(self) -> np.ndarray:
        """Of every token, int64 [S]."""
        return np.concatenate([np.arange(b.start, b.start + len(b.ids)) for b in self.blocks])

    @property
    def end(self) -> int:
        """The first position behind everything."""
        return max((b.start + len(b.ids) for b in self.blocks), default=0)

    @property
    def mask(self) -> np.ndarray:
        """Whether a token (row) sees another (column), bool [S, S]."""
        ends = np.cumsum([len(b.ids) for b in self.blocks])
        spans = [slice(int(e) - len(b.ids), int(e)) for e, b in zip(ends, self.blocks, strict=True)]
        found = np.zeros((ends[-1], ends[-1]), bool)
        for span, block in zip(spans, self.blocks, strict=True):
            found[span, span] = np.tri(len(block.ids), dtype=bool)
            for other in block.sees:
                found[span, spans[other]] = True
        return found

    @property
    def share(self) -> float:
        """Pairs of tokens that see each other, of those in ordinary reading."""
        count = len(self.ids)
        own = sum(len(b.ids) * (len(b.ids) + 1) // 2 for b in self.blocks)
        seen = sum(len(b.ids) * len(self.blocks[n].ids) for b in self.blocks for n in b.sees)
        return (own + seen) / (count * (count + 1) / 2)

    def picture(self) -> str:
        """The mask as an HTML image: rows look at columns; light is seen."""
        mask = self.mask.astype(np.float64)
        step = -(-len(mask) // CELLS)
        if step > 1:
            cuts = np.arange(0, len(mask), step)
            sums = np.add.reduceat(np.add.reduceat(mask, cuts, 0), cuts, 1)
            sizes = np.diff(np.append(cuts, len(mask)))
            mask = sums / (sizes[:, None] * sizes[None])
        return render.heatmap_png(mask, title=f"{self.method}: what sees what", zoom=max(1, CELLS // len(mask)))

    def _headline(self) -> str:
        return (
            f"Layout({self.method}: {len(self.blocks)} blocks, {len(self.ids)} tokens on {self.end} positions, "
            f"{render.share(self.share)} of ordinary attention)"
        )

    def _sections(self) -> tuple[render.Section, ...]:
        rows = [
            (
                block.name,
                len(block.ids),
                f"{block.start} to {block.start + len(block.ids) - 1}",
                ", ".join(self.blocks[n].name for n in block.sees) or "itself",
            )
            for block in self.blocks
        ]
        header = ("block", "tokens", "positions", "sees")
        return (render.section("What sees what", rows, header, picture=self.picture()),)
