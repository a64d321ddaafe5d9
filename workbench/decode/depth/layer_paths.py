"""Which paths through the layers still give an answer: skip some, loop others; found by Monte Carlo tree search.

Li, Li, Zhou (2025, arXiv:2507.07996). An analysis, for it needs the right answer.

    node      a path; root: all layers in order             edits   skip a span of 1 to 4 layers, or run it again
    choose    the child of largest Q + c sqrt(ln N / n), Q its mean reward; or a new edit while there are few children
    reward    1 if every token of the answer is the most likely one along the path, else the mean probability of its
              tokens; less ``penalty`` times the share of layers run

Departs from the paper: its constants could not be had, those here are ours; an answer that is not right earns the
probability of its tokens instead of nothing, which shows the way; a path is as right as its answer with the question
before it read along the same path, which is what greedy decoding along it would say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench import render
from workbench.decode.depth._layers import DepthTarget
from workbench.decode.depth._paths import path_text
from workbench.decode.prompts import chat_ids
from workbench.decode.speculative._base import softmax
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.models import LM, as_lm
from workbench.results import Provenance, Result

SPAN = 4  # layers that one edit skips or repeats, at most


@dataclass(frozen=True, slots=True)
class LayerPath:
    """One path and what it says.

    Attributes
    ----------
    layers : tuple of int
    right : bool
        Whether every token of the answer is the most likely one.
    probability : float
        Of the whole answer.
    """

    layers: tuple[int, ...]
    right: bool
    probability: float


@dataclass(frozen=True, eq=False, repr=False)
class LayerPaths(Result):
    """What a search for paths found.

    Attributes
    ----------
    question, answer : str
    depth : int
        Layers of the model.
    plain : LayerPath
        All layers in order.
    best : LayerPath
        The shortest right path, the more probable of equals; the most probable one if none is right.
    shorter : tuple of LayerPath
        All right paths with fewer layers than the model has, the shortest first.
    tried : int
        Different paths.
    provenance : Provenance
    """

    question: str
    answer: str
    depth: int
    plain: LayerPath
    best: LayerPath
    shorter: tuple[LayerPath, ...]
    tried: int
    provenance: Provenance = field(repr=False)

    @property
    def saved(self) -> float:
        """Share of the layers that the best path does without; 0 if it is not right, negative if it is longer."""
        return 1 - len(self.best.layers) / self.depth if self.best.right else 0.0

    def _headline(self) -> str:
        was = "right" if self.plain.right else "wrong"
        now = f"right with {len(self.best.layers)}" if self.best.right else f"none of {self.tried} paths is right"
        return f"LayerPaths({self.question!r}: {was} with {self.depth} layers, {now})"

    def _sections(self) -> tuple[render.Section, ...]:
        rows = [
            ("question", self.question),
            ("answer", self.answer),
            ("all layers", f"{'right' if self.plain.right else 'wrong'}, probability {self.plain.probability:.3f}"),
            ("best path", path_text(self.best.layers)),
            ("its layers", len(self.best.layers)),
            ("layers saved", f"{self.saved:.0%}"),
            ("paths tried", self.tried),
        ]
        table = [(len(p.layers), f"{p.probability:.3f}", path_text(p.layers)) for p in self.shorter[:10]]
        return (
            render.section("Search", rows),
            render.section("Shorter paths that are right", table, ("layers", "probability", "path")),
            render.prose("Provenance", str(self.provenance)),
        )


def layer_paths(
    model: Any,
    question: str | Sequence[int],
    answer: str | Sequence[int],
    *,
    simulations: int = 100,
    exploration: float = 0.5,
    penalty: float = 0.5,
    width: int = 4,
    chat: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> LayerPaths:
    """Search for paths through the layers that give an answer.

    Parameters
    ----------
    model
        Anything that holds a transformers model.
    question, answer
        Texts, or token ids. An answer usually begins with a space.
    simulations
        Paths that are tried.
    exploration
        c.
    penalty
        Of a path of full length; shorter ones pay less.
    width
        Edits of a path that are tried before one of them is followed.
    chat
        Whether the question goes through the chat template.
    seed
        Of the edits.
    progress
        Hears of every path; cancels.

    Raises
    ------
    ArgumentError
        If question or answer is empty.

    Examples
    --------
    >>> layer_paths(workbench.load(), "The capital of France is", " Paris")           # doctest: +SKIP
    LayerPaths('The capital of France is': right with 30 layers, right with 21)
    """
    lm, progress = as_lm(model), progress or Progress()
    ids, said = _ids(lm, question, chat), _ids(lm, answer, False)
    if not ids or not said or simulations < 1 or width < 1:
        raise ArgumentError(
            f"question of {len(ids)} tokens, answer of {len(said)}, simulations={simulations}, width={width}: at least "
            "1 of each"
        )
    search = _Search(lm, ids, said, penalty, exploration, width, np.random.default_rng(seed))
    for n in range(simulations):
        progress.step("trying paths", n, simulations)
        search.simulate()
    plain = search.known[search.root.path]
    right = sorted((p for p in search.known.values() if p.right), key=lambda p: (len(p.layers), -p.probability))
    best = right[0] if right else max(search.known.values(), key=lambda p: p.probability)
    depth = len(search.root.path)
    shorter = tuple(p for p in right if len(p.layers) < depth)
    texts = (question if isinstance(question, str) else str(ids), answer if isinstance(answer, str) else str(said))
    where = Provenance.here(seed=seed, method="cola")
    return LayerPaths(*texts, depth, plain, best, shorter, len(search.known), where)


def _ids(lm: LM, text: str | Sequence[int], chat: bool) -> list[int]:
    if not isinstance(text, str):
        return [int(t) for t in text]
    tokenizer: Any = lm.tokenizer
    if tokenizer is None:
        raise ArgumentError("the model has no tokenizer: give token ids")
    return chat_ids(tokenizer, text) if chat else list(tokenizer(text, add_special_tokens=False)["input_ids"])


@dataclass(slots=True, eq=False)
class _Node:
    path: tuple[int, ...]
    parent: _Node | None = None
    children: list[_Node] = field(default_factory=list)
    visits: int = 0
    total: float = 0.0


class _Search:
    def __init__(
        self, lm: LM, ids: list[int], answer: list[int], penalty: float, exploration: float, width: int, random: Any
    ) -> None:
        self.lm, self.ids, self.answer, self.random = lm, ids, answer, random
        self.penalty, self.exploration, self.width = penalty, exploration, width
        self.root = _Node(tuple(range(lm.architecture.num_layers)))
        self.known: dict[tuple[int, ...], LayerPath] = {}

    def simulate(self) -> None:
        """Down to a path that is not known yet, try it, tell those above."""
        node = self.root
        while node.path in self.known and len(node.children) >= self.width:
            node = max(node.children, key=self._bound)
        if node.path in self.known:
            node = self._child(node)
        reward = self._reward(node.path)
        up: _Node | None = node
        while up is not None:
            up.visits, up.total, up = up.visits + 1, up.total + reward, up.parent

    def _bound(self, node: _Node) -> float:
        above = node.parent.visits if node.parent else 1
        return node.total / node.visits + self.exploration * math.sqrt(math.log(max(above, 2)) / node.visits)

    def _child(self, node: _Node) -> _Node:
        """A new edit of a path; after some attempts one that is known will do."""
        for _ in range(20):
            path = self._edit(node.path)
            if path not in self.known:
                break
        node.children.append(_Node(path, node))
        return node.children[-1]

    def _edit(self, path: tuple[int, ...]) -> tuple[int, ...]:
        span = int(self.random.integers(1, min(SPAN, len(path)) + 1))
        start = int(self.random.integers(0, len(path) - span + 1))
        skip = self.random.random() < 0.5 or len(path) + span > 2 * len(self.root.path)
        if skip and len(path) > span:
            return path[:start] + path[start + span :]
        return path[: start + span] + path[start:]

    def _reward(self, path: tuple[int, ...]) -> float:
        found = self.known.setdefault(path, self._tried(path)) if path not in self.known else self.known[path]
        mean = found.probability ** (1 / len(self.answer))
        return (1.0 if found.right else mean) - self.penalty * len(path) / len(self.root.path)

    def _tried(self, path: tuple[int, ...]) -> LayerPath:
        target, count = DepthTarget(self.lm, path), len(self.answer)
        rows = softmax(target.forward(self.ids + self.answer[:-1]).logits[-count:])
        chances = rows[np.arange(count), self.answer]
        right = bool((rows.argmax(-1) == self.answer).all())
        return LayerPath(path, right, float(np.prod(chances)))
