"""Graph-KV: segments read alone; along the edges of a graph targets read the keys and values of their sources.

Haoyu Wang, Peihao Wang, Mufei Li, Shikun Liu, Siqi Miao, Zhangyang Wang, Pan Li. Graph-KV: Breaking Sequence via
Injecting Structural Biases into Large Language Models. NeurIPS 2025. arXiv:2506.07334.

    level(j) = 0 without sources, else 1 + max of the sources' levels
    start(l) = |before| + sum over lower levels of their longest segment;  segments of a level share their positions
    K_j, V_j = keys and values of segment j, read at start(level(j)) over those of its sources only
    after    = behind the last level, sees all

A segment without sources is read alone at position 0, and its keys are turned to where it belongs (`Rotation`), so
that it is read once for every prompt that it stands in.

Departs from the paper: a source that has sources of its own is read with them, once, which is as many of the paper's
rounds as the graph is deep; the paper's experiments have one round. With cycles, or where every segment is both source
and target, the paper keeps the keys of both rounds; here the graph must be acyclic. The released code turns keys back
to position 0 before it turns them on; here it is one turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from workbench._citation import Citation
from workbench.attention.segments._method import Ids, Part, SegmentMethod, segment_method
from workbench.attention.segments.claims import BetterThanInLine
from workbench.claims import Claim
from workbench.errors import ArgumentError


@segment_method
@dataclass(frozen=True)
class GraphKV(SegmentMethod):
    """Segments on a graph.

    Attributes
    ----------
    sees_before
        Whether segments see the text before them; in the paper they do not, and can be used behind any other.
    """

    name: ClassVar[str] = "graph-kv"
    title: ClassVar[str] = "Graph-KV"
    formula: ClassVar[str] = "segment j sees itself and its sources; segments of a level share their positions"
    citation: ClassVar[Citation] = Citation(
        "Haoyu Wang, Peihao Wang, Mufei Li, Shikun Liu, Siqi Miao, Zhangyang Wang, Pan Li",
        "Graph-KV: Breaking Sequence via Injecting Structural Biases into Large Language Models",
        2025,
        "2506.07334",
        "NeurIPS",
    )
    claim: ClassVar[Claim] = Claim(
        "Segments joined along the edges of a graph answer better than the same segments read in line.",
        "8B models of the Tulu 3 family, tuned on blocks and not; seven retrieval benchmarks, questions on papers and "
        "what they cite",
        BetterThanInLine(),
    )

    sees_before: bool = False

    def place(self, before: int, parts: Sequence[Ids], edges: Sequence[tuple[int, int]]) -> list[Part]:
        """Level by level.

        Raises
        ------
        ArgumentError
            If edges run in a circle.
        """
        sources = [tuple(sorted({s for s, t in edges if t == n})) for n in range(len(parts))]
        placed, start = [], before
        for level in _levels(sources):
            placed += [Part(n, start, sources[n], self.sees_before) for n in level]
            start += max(len(parts[n]) for n in level)
        return placed


def _levels(sources: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Segments by level, each after all of its sources."""
    found: list[list[int]] = []
    done: set[int] = set()
    while len(done) < len(sources):
        ready = [n for n, needed in enumerate(sources) if n not in done and done.issuperset(needed)]
        if not ready:
            rest = sorted(set(range(len(sources))) - done)
            raise ArgumentError(f"edges run in a circle among the parts {rest}: a source must not need its target")
        found.append(ready)
        done.update(ready)
    return found
