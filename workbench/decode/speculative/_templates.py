"""Trees for Token Recycling, best first: the first n nodes are the best tree of n nodes that was measured.

A node is a path of ranks: ``"01"`` is the second most likely successor of the most likely one. How they were found:
`token_recycling.measured_ranks` on the 20 prompts of `workbench.decode.prompts` with the default model (greedy,
answers of at most 128 tokens; an empty state for every prompt, trees of 7 and of 15 nodes, 1,788 passes) says which
rank each of the next tokens really had. A path's chance is the share of the passes in which the text went that way,
whatever was drafted; the n paths with the largest chances are the tree of n nodes that yields most, and because a
path is never more frequent than its beginning they are a tree. There are two, for passes whose last two tokens were
seen together before (a quarter of them), and for the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from workbench.decode.tree import ROOT

# the last token was seen before, but not after the one before it: 1,330 passes; chances in thousandths
_ONE = {
    "0": 140, "00": 71, "000": 46, "1": 42, "0000": 24, "2": 22, "10": 18, "00000": 17, "3": 14, "000000": 13, "4": 12,
    "0000000": 11, "01": 11, "0001": 10, "5": 9, "100": 9, "7": 8, "001": 8, "00000000": 8, "6": 6, "010": 5,
    "0100": 5, "06": 5, "1000": 5,
}  # fmt: skip
# both were: 458 passes
_TWO = {
    "0": 609, "00": 443, "000": 293, "0000": 229, "00000": 197, "000000": 164, "0000000": 135, "00000000": 120, "1": 96,
    "001": 66, "10": 52, "2": 50, "01": 46, "0010": 39, "100": 37, "00100": 33, "010": 31, "4": 28, "0001": 28,
    "3": 26, "20": 26, "002": 26, "0100": 24, "5": 22,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Template:
    """A tree without tokens; parents stand before their children.

    Attributes
    ----------
    ranks, parents
        Of every node: which child it is of its parent, and the parent's index, `ROOT` at the top.
    chances
        That it is accepted, as measured.
    """

    ranks: tuple[int, ...]
    parents: tuple[int, ...]
    chances: tuple[float, ...]


@lru_cache
def template(seen: Literal[1, 2]) -> Template:
    """The tree for drafts whose last token, or last two tokens, were seen before."""
    paths = _TWO if seen == 2 else _ONE
    place = {"": ROOT} | {path: n for n, path in enumerate(paths)}
    ranks, parents = [int(p[-1]) for p in paths], [place[p[:-1]] for p in paths]
    return Template(tuple(ranks), tuple(parents), tuple(c / 1000 for c in paths.values()))
