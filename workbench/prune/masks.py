"""From scores to masks: every selection that the workbench makes, once.

Higher score = keep. A mask is True where a weight is *pruned*. All selections are exact: they prune just the number
asked for, whatever the ties, so that a budget is met to the unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from workbench.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which weights may be pruned together: ``n:m`` of consecutive inputs, or blocks of ``rows x columns``.

    Attributes
    ----------
    keep, of
        For N:M: how many are kept of how many; 0 otherwise.
    rows, columns
        Block size; 1 x 1 is unstructured.
    """

    keep: int = 0
    of: int = 0
    rows: int = 1
    columns: int = 1

    @classmethod
    def parse(cls, text: str | Pattern | None) -> Pattern:
        """Read ``None``, ``"2:4"`` or ``"16x1"``.

        Raises
        ------
        ArgumentError
            If the text is neither, or its numbers make no sense.
        """
        if text is None or isinstance(text, Pattern):
            return text or cls()
        for mark in ":x":
            left, _, right = str(text).partition(mark)
            if left.isdigit() and right.isdigit():
                a, b = int(left), int(right)
                if mark == ":" and not 0 < a < b:
                    raise ArgumentError(f"pattern={text!r}: N:M keeps N of every M weights, so 0 < N < M, e.g. 2:4")
                if mark == "x" and not (a and b):
                    raise ArgumentError(f"pattern={text!r}: a block has at least one row and one column, e.g. 16x1")
                return cls(keep=a, of=b) if mark == ":" else cls(rows=a, columns=b)
        raise ArgumentError(f"pattern={text!r}: want N:M such as '2:4', a block such as '16x1', or None")

    @property
    def is_nm(self) -> bool:
        """Whether this is an N:M pattern."""
        return self.of > 0

    @property
    def sparsity(self) -> float | None:
        """The sparsity that the pattern fixes, or None."""
        return 1 - self.keep / self.of if self.is_nm else None

    def check(self, shape: tuple[int, ...], name: str) -> None:
        """Raise ArgumentError unless a ``[out, in]`` weight divides into the pattern."""
        if self.is_nm and shape[1] % self.of:
            raise ArgumentError(f"pattern={self}: {name} has {shape[1]} inputs, which {self.of} does not divide")
        if shape[0] % self.rows or shape[1] % self.columns:
            raise ArgumentError(f"pattern={self}: {name} is {shape[0]} x {shape[1]}, which such blocks do not tile")

    def __str__(self) -> str:
        if self.is_nm:
            return f"{self.keep}:{self.of}"
        return "unstructured" if self.rows == self.columns == 1 else f"{self.rows}x{self.columns}"


def spread(total: int, parts: int) -> torch.Tensor:
    """``total`` as ``parts`` integers that differ by at most one and sum to it (int64 ``[parts]``)."""
    edges = torch.arange(parts + 1, dtype=torch.int64) * total // max(parts, 1)
    return edges.diff()


def lowest(scores: torch.Tensor, count: int, compare: str = "matrix") -> torch.Tensor:
    """Mask of exactly the ``count`` lowest of ``scores``.

    Parameters
    ----------
    scores : Tensor [rows, columns]
    count
        How many to prune.
    compare
        ``"row"``: every row loses equally many (to within one); ``"matrix"``: the lowest wherever they are.
    """
    mask = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)  # contiguous, whatever the scores are
    if compare == "matrix":
        flat = mask.view(-1)
        if count:
            flat[scores.reshape(-1).topk(count, largest=False, sorted=False).indices] = True
        return mask
    counts = spread(count, scores.shape[0]).to(scores.device)
    low, high = int(counts.min()), int(counts.max())
    if low:
        mask.scatter_(1, scores.topk(low, dim=1, largest=False, sorted=False).indices, value=True)
    if high > low:  # some rows lose one more: the lowest that is left
        rows = (counts == high).nonzero()[:, 0]
        left = scores[rows].masked_fill(mask[rows], torch.inf)
        mask[rows, left.argmin(1)] = True
    return mask


def n_of_m(scores: torch.Tensor, keep: int, of: int) -> torch.Tensor:
    """Mask that prunes the ``of - keep`` lowest of every ``of`` consecutive columns of each row."""
    groups = scores.unflatten(1, (-1, of))
    mask = torch.zeros_like(groups, dtype=torch.bool)
    mask.scatter_(2, groups.topk(of - keep, dim=2, largest=False).indices, value=True)
    return mask.flatten(1)


def select(scores: torch.Tensor, count: int, pattern: Pattern, compare: str = "matrix") -> torch.Tensor:
    """Mask of ``count`` weights under a pattern (for N:M the pattern says how many)."""
    if pattern.is_nm:
        return n_of_m(scores, pattern.keep, pattern.of)
    size = pattern.rows * pattern.columns
    if size == 1:
        return lowest(scores, count, compare)
    tiles = scores.unflatten(1, (-1, pattern.columns)).unflatten(0, (-1, pattern.rows)).sum((1, 3))
    mask = lowest(tiles, round(count / size), compare)
    return mask.repeat_interleave(pattern.rows, 0).repeat_interleave(pattern.columns, 1)
