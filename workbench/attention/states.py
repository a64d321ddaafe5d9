"""Queries and keys of every layer on disk, so that any part of any attention map can be worked out again, exactly.

    layer, head -> float32 [n, D], one behind the other in a file that has no name

Maps of 32k tokens take 4 GB a head; what they are made of takes 16 MB. The file has lost its name before anything is
written: it goes when it is closed, and when the process ends, however it ends. It is read with ``pread`` and not
mapped, so that what was looked at does not stay in the process's memory.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from workbench.attention.watching import Passing
from workbench.errors import ArgumentError, ResourceError
from workbench.measure.memory import require_disk


@dataclass(frozen=True, slots=True)
class LayerStates:
    """Where a layer's states are, and what its scores are made with.

    Attributes
    ----------
    at
        First byte.
    heads, shared, dim
        Query heads, key heads, elements of each.
    scaling, window, softcap
        As in `Passing`.
    """

    at: int
    heads: int
    shared: int
    dim: int
    scaling: float
    window: int
    softcap: float


class States:
    """A file of queries and keys.

    Parameters
    ----------
    length
        Tokens of the text.
    layers
        Of the model, to know the room that is needed.
    folder
        Where the file is; by default the system's folder of temporary files.

    Raises
    ------
    ResourceError
        If there is not enough room.
    """

    def __init__(self, length: int, layers: int, folder: str | Path | None = None) -> None:
        self.length, self._count, self._folder = length, layers, Path(folder or tempfile.gettempdir())
        self._layers: dict[int, LayerStates] = {}
        self._end = 0
        try:
            self._file, name = tempfile.mkstemp(prefix="workbench-", dir=self._folder)
        except OSError as error:
            raise ResourceError(f"cannot write to {self._folder} ({error}): set TMPDIR to another folder") from error
        Path(name).unlink()
        self._close = weakref.finalize(self, os.close, self._file)

    @property
    def nbytes(self) -> int:
        """Of the file when the text is read."""
        return self._end

    def close(self) -> None:
        """Give the file back; again does nothing."""
        self._close()

    def add(self, passing: Passing) -> None:
        """Keep the newest queries and keys of a layer."""
        query, key = passing.query.float(), passing.key[:, passing.offset :].float()
        if passing.layer not in self._layers:
            self._lay_out(passing)
        layer = self._layers[passing.layer]
        for n, states in enumerate([*query, *key]):
            self._write(states, layer.at + 4 * layer.dim * (n * self.length + passing.offset))

    def queries(self, layer: int, head: int, rows: slice) -> torch.Tensor:
        """Rotated, not scaled, float32 ``[rows, D]``."""
        return self._read(self.layer(layer), head, rows)

    def keys(self, layer: int, head: int, rows: slice) -> torch.Tensor:
        """Those that a query head reads, float32 ``[rows, D]``."""
        found = self.layer(layer)
        return self._read(found, found.heads + head * found.shared // found.heads, rows)

    def layer(self, layer: int) -> LayerStates:
        """What is known of a layer."""
        return self._layers[layer]

    def _lay_out(self, passing: Passing) -> None:
        heads, shared, dim = len(passing.query), len(passing.key), passing.query.shape[2]
        size = 4 * self.length * dim * (heads + shared)
        if not self._layers:
            require_disk(self._folder, size * self._count, "the queries and keys of the text")
        made = LayerStates(self._end, heads, shared, dim, passing.scaling, passing.window, passing.softcap)
        self._layers[passing.layer] = made
        self._end += size

    def _write(self, states: torch.Tensor, at: int) -> None:
        left = states.contiguous().numpy().data.cast("B")
        try:
            while left:
                done = os.pwrite(self._file, left, at)
                left, at = left[done:], at + done
        except OSError as error:
            raise ResourceError(f"cannot write to {self._folder} ({error}): set TMPDIR to another folder") from error

    def _read(self, layer: LayerStates, head: int, rows: slice) -> torch.Tensor:
        if not self._close.alive:
            raise ArgumentError("the maps are closed: capture the text again, with states=True")
        count, at = rows.stop - rows.start, layer.at + 4 * layer.dim * (head * self.length + rows.start)
        out = np.empty((count, layer.dim), np.float32)
        left = out.data.cast("B")
        while left:
            done = os.preadv(self._file, [left], at)
            if not done:
                raise ResourceError("the file of states is shorter than it was: capture the text again")
            left, at = left[done:], at + done
        return torch.from_numpy(out)
