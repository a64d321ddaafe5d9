"""Keys and values of one head: what is left of them, where it stood, and what it weighs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache


class Rows:
    """Growing float32 keys and values ``[S, D]`` with their positions int64 ``[S]``.

    Attributes
    ----------
    length : int
        Rows kept.
    mass : Tensor [S]
        Attention that each has had so far, summed over queries and query heads; kept up by whoever attends.
    """

    def __init__(self, dim: int, capacity: int = 256) -> None:
        self.length = 0
        self._keys, self._values = torch.empty(capacity, dim), torch.empty(capacity, dim)
        self._positions, self._mass = torch.empty(capacity, dtype=torch.int64), torch.zeros(capacity)

    @property
    def keys(self) -> torch.Tensor:
        """Float32 [S, D]."""
        return self._keys[: self.length]

    @property
    def values(self) -> torch.Tensor:
        """Float32 [S, D]."""
        return self._values[: self.length]

    @property
    def positions(self) -> torch.Tensor:
        """Int64 [S], ascending."""
        return self._positions[: self.length]

    @property
    def mass(self) -> torch.Tensor:
        """Float32 [S]."""
        return self._mass[: self.length]

    @property
    def nbytes(self) -> int:
        """Of keys and values that are kept."""
        return 2 * self.length * self._keys.shape[1] * 4

    def append(self, keys: torch.Tensor, values: torch.Tensor, start: int) -> None:
        """Add rows that stand at ``start``, ``start + 1``, ..."""
        new = self.length + len(keys)
        if new > len(self._keys):
            self._move(slice(0, self.length), max(new, 2 * self.length))
        part = slice(self.length, new)
        self._keys[part], self._values[part], self._mass[part] = keys, values, 0
        self._positions[part] = torch.arange(start, start + len(keys))
        self.length = new

    def attended(self, mass: torch.Tensor) -> None:
        """Add the attention that every row has just had, ``[S]``."""
        self._mass[: self.length] += mass

    def keep(self, index: torch.Tensor) -> None:
        """Only these rows, in ascending order; the memory of the others is given back."""
        self._move(index.sort().values, len(index) + 64)
        self.length = len(index)

    def crop(self, length: int) -> None:
        """Only rows that stand before a position."""
        self.length = int((self.positions < length).sum())

    def copy(self) -> Rows:
        """The same rows in memory of their own."""
        other = Rows(self.keys.shape[1], self.length + 64)
        for name in ("_keys", "_values", "_positions", "_mass"):
            getattr(other, name)[: self.length] = getattr(self, name)[: self.length]
        other.length = self.length
        return other

    def _move(self, rows: slice | torch.Tensor, capacity: int) -> None:
        for name in ("_keys", "_values", "_positions", "_mass"):
            old = getattr(self, name)[rows]
            new = torch.empty((capacity, *old.shape[1:]), dtype=old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)


class PackedRows(Rows):
    """Rows whose old keys and values hold only their largest elements, behind a bitmap; the newest are whole.

    Parameters
    ----------
    rows
        What is packed; rows that are packed already stay so.
    count
        Elements of a vector that stay.
    recent
        Newest rows that stay whole.
    """

    def __init__(self, rows: Rows, count: int, recent: int) -> None:
        older: tuple[Packed, Packed] | None = rows.packed if isinstance(rows, PackedRows) else None
        whole: Rows = rows.tail if isinstance(rows, PackedRows) else rows
        split = max(0, whole.length - recent)
        packed = Packed.of(whole.keys[:split], count), Packed.of(whole.values[:split], count)
        self.packed: tuple[Packed, Packed] = (
            packed if older is None else (older[0].then(packed[0]), older[1].then(packed[1]))
        )
        self.tail: Rows = Rows(whole.keys.shape[1], recent + 64)
        self.tail.append(whole.keys[split:], whole.values[split:], 0)
        self.length = rows.length
        self._positions, self._mass = rows.positions.clone(), rows.mass.clone()

    @property
    def keys(self) -> torch.Tensor:
        """Float32 [S, D], made whole for this call."""
        return torch.cat([self.packed[0].whole(), self.tail.keys])

    @property
    def values(self) -> torch.Tensor:
        """Float32 [S, D], made whole for this call."""
        return torch.cat([self.packed[1].whole(), self.tail.values])

    @property
    def nbytes(self) -> int:
        """Of elements and bitmaps."""
        return sum(p.nbytes for p in self.packed) + self.tail.nbytes

    def append(self, keys: torch.Tensor, values: torch.Tensor, start: int) -> None:
        """Add whole rows."""
        self.tail.append(keys, values, 0)
        self._positions = torch.cat([self.positions, torch.arange(start, start + len(keys))])
        self._mass = torch.cat([self.mass, torch.zeros(len(keys))])
        self.length += len(keys)

    def keep(self, index: torch.Tensor) -> None:
        """Only these rows."""
        index = index.sort().values
        old = len(self.packed[0])
        self.packed = self.packed[0].rows(index[index < old]), self.packed[1].rows(index[index < old])
        self.tail.keep(index[index >= old] - old)
        self._positions, self._mass, self.length = self.positions[index], self.mass[index], len(index)

    def crop(self, length: int) -> None:
        """Only rows that stand before a position."""
        left = torch.arange(int((self.positions < length).sum()))
        if len(left) < self.length:
            self.keep(left)


class Packed:
    """Vectors ``[S, D]`` of which each keeps the same number of elements: those, and one bit per element."""

    def __init__(self, bits: torch.Tensor, elements: torch.Tensor, dim: int) -> None:
        self.bits, self.elements, self.dim = bits, elements, dim

    @classmethod
    def of(cls, vectors: torch.Tensor, count: int) -> Packed:
        """Keep the ``count`` elements of largest magnitude of every vector."""
        mask = torch.zeros(vectors.shape, dtype=torch.bool)
        mask.scatter_(1, vectors.abs().topk(count, dim=1).indices, True)
        bits = torch.from_numpy(np.packbits(mask.numpy(), axis=1))
        return cls(bits, vectors[mask].reshape(len(vectors), count).clone(), vectors.shape[1])

    def __len__(self) -> int:
        return len(self.elements)

    @property
    def nbytes(self) -> int:
        """Of elements and bits."""
        return self.elements.numel() * 4 + self.bits.numel()

    def whole(self) -> torch.Tensor:
        """Float32 [S, D] with zeros."""
        mask = torch.from_numpy(np.unpackbits(self.bits.numpy(), axis=1, count=self.dim).astype(bool))
        out = torch.zeros(mask.shape)
        out[mask] = self.elements.reshape(-1)
        return out

    def rows(self, index: torch.Tensor) -> Packed:
        """Some vectors."""
        return Packed(self.bits[index], self.elements[index], self.dim)

    def then(self, other: Packed) -> Packed:
        """These vectors, then others that keep as many elements."""
        return Packed(torch.cat([self.bits, other.bits]), torch.cat([self.elements, other.elements]), self.dim)


class Newest(Cache):
    """A cache that holds nothing: every layer gets its newest keys only, the target has the rest."""

    def __init__(self) -> None:
        super().__init__(layers=[])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Nothing is kept."""
        return key_states, value_states

    def get_seq_length(self, *_: Any, **__: Any) -> int:
        """None that transformers should know of; positions are given to it."""
        return 0

    def get_mask_sizes(self, query_length: Any, *_: Any, **__: Any) -> tuple[int, int]:
        """As without a cache."""
        return int(query_length), 0
