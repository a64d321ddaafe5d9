"""Attention maps of any length, worked out where one looks: tiles of cells, windows and rows.

    P[i, j] = exp(s[i, j] - z_i)      z_i = log sum_j exp(s[i, j]), kept when the text was read

With z_i at hand a part of a map costs only its own products: 2 D operations a score, one exponential, one addition.
A tile of 256 x 256 cells of ``size`` tokens is made from strips of a few hundred rows, so that 1 MB a thousand keys is
all the room it takes, and what lies above the diagonal is not computed.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np
import torch

from workbench.attention.states import States
from workbench.attention.watching import Passing
from workbench.errors import ArgumentError

STRIP = 256  # rows of scores that are held at once


class Maps:
    """The maps of all heads over one text of n tokens.

    Parameters
    ----------
    states
        Queries and keys.
    logsumexp
        Float32 ``[L, H, n]``.
    picture
        Float32 ``[L, H, C, C]``: the coarsest cells.
    block, cells
        Tokens of its cells' sides, and the side of a tile.

    Attributes
    ----------
    layers, heads, length : int
    cells : int
        Cells of a tile's side.
    sizes : tuple of int
        Tokens of a cell's side, the coarsest first: the captured picture's, then powers of two.

    Examples
    --------
    >>> with capture(lm, ids, states=True).maps as maps:                             # doctest: +SKIP
    ...     maps.tile(10, 3, size=1, row=4, column=0)
    """

    def __init__(self, states: States, logsumexp: np.ndarray, picture: np.ndarray, block: int, cells: int) -> None:
        self.layers, self.heads, self.length = logsumexp.shape
        self.cells, self._block = cells, block
        self._states, self._logsumexp, self._picture = states, logsumexp, picture
        finer = [1 << n for n in reversed(range(block.bit_length()))]
        self.sizes = (block, *(size for size in finer if 3 * size <= 2 * block))  # no step of less than a half more

    @property
    def nbytes(self) -> int:
        """Of the file that queries and keys are in."""
        return self._states.nbytes

    def close(self) -> None:
        """Give the file back; afterwards only the coarsest tile is left."""
        self._states.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def tile(self, layer: int, head: int, size: int, row: int, column: int) -> np.ndarray:
        """Mean shares of cells.

        Parameters
        ----------
        layer, head
        size
            One of `sizes`.
        row, column
            Of the tile: it begins at query ``row * cells * size`` and key ``column * cells * size``.

        Returns
        -------
        ndarray of float32 [cells, cells]
            0 above the diagonal and past the end. A cell that the end cuts is the mean over what there is of it.

        Raises
        ------
        ArgumentError
            If there is no such head, size or tile.
        """
        self._check(layer, head)
        if size not in self.sizes:
            raise ArgumentError(f"size={size}: one of {', '.join(map(str, self.sizes))} tokens")
        tiles = -(-self.length // (self.cells * size))
        if not (0 <= row < tiles and 0 <= column < tiles):
            raise ArgumentError(f"row={row}, column={column}: 0 to {tiles - 1} at size {size}")
        if size == self._block:
            picture = self._picture[layer, head]
            return np.pad(picture, [(0, self.cells - n) for n in picture.shape]).astype(np.float32)
        side = self.cells * size
        top, left = row * side, column * side
        sums = torch.zeros(self.cells, self.cells)
        strip = max(size, STRIP // size * size)
        for start in range(top, min(top + side, self.length), strip):
            rows = slice(start, min(start + strip, top + side, self.length))
            first = max(left, self._first(layer, start) // size * size)
            columns = slice(first, min(left + side, rows.stop, self.length))
            if columns.start < columns.stop:
                found = _pooled(self._shares(layer, head, rows, columns), size)
                at, to = (rows.start - top) // size, (columns.start - left) // size
                sums[at : at + len(found), to : to + found.shape[1]] = found
        high, wide = (np.clip(self.length - start - size * np.arange(self.cells), 1, size) for start in (top, left))
        return np.asarray(sums.numpy() / (high[:, None] * wide).astype(np.float32))

    def window(self, layer: int, head: int, rows: slice, columns: slice) -> np.ndarray:
        """The exact shares of some queries and keys: float32 ``[rows, columns]``.

        Parameters
        ----------
        layer, head
        rows, columns
            Of the map, without steps; as with arrays an end may be left out, lie outside or count from the end.

        Raises
        ------
        ArgumentError
            If there is no such head, or a slice has a step.
        """
        self._check(layer, head)
        if rows.step not in (None, 1) or columns.step not in (None, 1):
            raise ArgumentError(f"rows={rows}, columns={columns}: without a step")
        rows, columns = (slice(*part.indices(self.length)[:2]) for part in (rows, columns))
        out = np.zeros((max(0, rows.stop - rows.start), max(0, columns.stop - columns.start)), np.float32)
        if out.size:
            for start in range(rows.start, rows.stop, STRIP):
                part = slice(start, min(start + STRIP, rows.stop))
                out[part.start - rows.start :][:STRIP] = self._shares(layer, head, part, columns).numpy()
        return out

    def row(self, layer: int, head: int, query: int) -> np.ndarray:
        """What a query pays every key: float32 ``[n]``, 0 for those behind it.

        Raises
        ------
        ArgumentError
            If there is no such head or query.
        """
        if not 0 <= query < self.length:
            raise ArgumentError(f"query={query}: 0 to {self.length - 1}")
        return np.asarray(self.window(layer, head, slice(query, query + 1), slice(None))[0])

    def _check(self, layer: int, head: int) -> None:
        if not (0 <= layer < self.layers and 0 <= head < self.heads):
            raise ArgumentError(f"layer={layer}, head={head}: up to {self.layers - 1} and {self.heads - 1}, from 0")

    def _first(self, layer: int, query: int) -> int:
        """The first key that a query sees."""
        window = self._states.layer(layer).window
        return max(0, query - window + 1) if window else 0

    def _shares(self, layer: int, head: int, rows: slice, columns: slice) -> torch.Tensor:
        """Shares float32 ``[rows, columns]``; both slices lie within the text and are not empty."""
        kind = self._states.layer(layer)
        query, keys = self._states.queries(layer, head, rows), self._states.keys(layer, head, columns)
        passing = Passing(layer, query[None], keys[None], keys[None], kind.scaling, kind.window, kind.softcap)
        shares = passing.products(0, keys)
        shares.sub_(torch.from_numpy(self._logsumexp[layer, head, rows])[:, None])
        i, j = torch.arange(rows.start, rows.stop)[:, None], torch.arange(columns.start, columns.stop)[None]
        if columns.stop > rows.start + 1:
            ahead = max(0, rows.start - columns.start)  # all queries see the keys before the first of them
            shares[:, ahead:].masked_fill_(j[:, ahead:] > i, -torch.inf)
        if kind.window and columns.start <= rows.stop - 1 - kind.window:
            shares.masked_fill_(j <= i - kind.window, -torch.inf)
        return shares.exp_()


def _pooled(shares: torch.Tensor, size: int) -> torch.Tensor:
    """Sums over cells of size x size; the last ones may be cut."""
    if size == 1:
        return shares
    high, wide = shares.shape
    if high % size or wide % size:
        shares = torch.nn.functional.pad(shares, (0, -wide % size, 0, -high % size))
    rows = shares.view(-1, size, shares.shape[1]).sum(1)
    return rows.view(len(rows), -1, size).sum(2)
