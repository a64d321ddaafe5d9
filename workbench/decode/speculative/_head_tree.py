"""Which guesses make the best draft: the tree of n nodes that the most tokens of are expected to be accepted.

    expected tokens of a tree = sum over its nodes of the chance that the whole path to the node is right
                              = sum over nodes of the product of chance[level, rank] along the path

A path's chance never exceeds its parent's, so that the likeliest nodes, taken one by one, are a tree, the best one.
"""

from __future__ import annotations

import heapq

import numpy as np

from workbench.errors import ArgumentError

Path = tuple[int, ...]


def best_tree(chances: np.ndarray, nodes: int) -> list[Path]:
    """The best tree, its nodes as paths of ranks, the likeliest first; parents stand before their children.

    Parameters
    ----------
    chances
        ``[levels, ranks]``: of the guess of each rank at each level to be right if those above it are; from 0 to 1.
    nodes
        At most so many; fewer where there are no more.

    Examples
    --------
    >>> best_tree(np.array([[0.6, 0.3], [0.4, 0.1]]), 3)
    [(0,), (1,), (0, 0)]
    """
    chances = np.asarray(chances, np.float64)
    if chances.ndim != 2 or nodes < 1 or not ((chances >= 0) & (chances <= 1)).all():
        raise ArgumentError(
            f"chances of shape {chances.shape}, nodes={nodes}: [levels, ranks] from 0 to 1, at least one"
        )
    levels = [sorted(((p, -r) for r, p in enumerate(row)), reverse=True) for row in chances.tolist()]
    waiting: list[tuple[float, Path, int, float]] = []  # of each family only the best child that is not taken yet
    _next(waiting, levels, (), 0, 1.0)
    found: list[Path] = []
    while waiting and len(found) < nodes:
        minus, path, place, above = heapq.heappop(waiting)
        found.append(path)
        if len(found) < nodes:
            _next(waiting, levels, path[:-1], place + 1, above)
            _next(waiting, levels, path, 0, -minus)
    return found


def _next(
    waiting: list[tuple[float, Path, int, float]],
    levels: list[list[tuple[float, int]]],
    parent: Path,
    place: int,
    above: float,
) -> None:
    if len(parent) < len(levels) and place < len(levels[len(parent)]):
        chance, rank = levels[len(parent)][place]
        heapq.heappush(waiting, (-above * chance, (*parent, -rank), place, above))
