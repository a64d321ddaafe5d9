"""What a smaller cache costs: perplexity of how a text goes on, and what can still be found in it, at equal budget.

    read the prompt once -> for every method: copy the cache, compress it, go on

Every method sees the same cache and the same budget, the full cache beside them. What is still predicted from the whole
prompt (the first token after it) is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench import render
from workbench.attention.kv._method import METHODS, KVMethod
from workbench.attention.kv.target import CompressedTarget
from workbench.attention.tasks import ANSWER_TOKENS, Hidden, needles, pairs
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.models import as_lm
from workbench.results import Provenance, Result

PIECE = (
    16  # tokens that go through the model at once after the prompt; methods that drop while decoding do so after each
)
LIST_TEXT = 256  # tokens of the text around a list of pairs, so that the budget leaves a choice
FULL = "full cache"


@dataclass(frozen=True, slots=True)
class KVRow:
    """One method.

    Attributes
    ----------
    method : str
    bytes_share : float
        Bytes of its cache after the text, relative to the full cache.
    perplexity : float
        Of the continuation.
    needles, pairs : int
        How many were found: facts in the text, and numbers of names in a list (associative recall).
    """

    method: str
    bytes_share: float
    perplexity: float
    needles: int
    pairs: int


@dataclass(frozen=True, eq=False, repr=False)
class KVQuality(Result):
    """Methods at one budget.

    Attributes
    ----------
    source : str
    budget : float
        Share of the prompt's keys that each head keeps (of each key's elements, for methods that drop elements).
    prompt_tokens, continuation_tokens : int
    tasks : int
        Needles, and lists of pairs.
    rows : tuple of KVRow
        The full cache first.
    provenance : Provenance
    """

    source: str
    budget: float
    prompt_tokens: int
    continuation_tokens: int
    tasks: int
    rows: tuple[KVRow, ...]
    provenance: Provenance = field(repr=False)

    def row(self, method: str) -> KVRow:
        """One method's row; ``"full cache"`` for none."""
        return next(r for r in self.rows if r.method == method)

    def table(self) -> list[tuple[str, ...]]:
        """Header and rows."""
        found = f"of {self.tasks}"
        return [
            ("method", "bytes", "perplexity", f"needles {found}", f"pairs {found}"),
            *(
                (r.method, f"{r.bytes_share:.0%}", f"{r.perplexity:.2f}", str(r.needles), str(r.pairs))
                for r in self.rows
            ),
        ]

    def _headline(self) -> str:
        best = min(self.rows[1:], key=lambda r: r.perplexity, default=self.rows[0])
        return (
            f"KVQuality({self.source}: {self.budget:.0%} of {self.prompt_tokens} tokens; "
            f"best {best.method}, perplexity {best.perplexity:.2f} beside {self.rows[0].perplexity:.2f})"
        )

    def _sections(self) -> tuple[render.Section, ...]:
        protocol = [
            ("share of keys kept", f"{self.budget:.0%}"),
            ("tokens of the prompt", self.prompt_tokens),
            ("tokens predicted after it", self.continuation_tokens),
        ]
        return (
            render.section("Methods", self.table()[1:], self.table()[0]),
            render.section("Protocol", protocol),
            render.prose("Provenance", str(self.provenance)),
        )


def kv_quality(
    model: Any,
    ids: Sequence[int] | np.ndarray,
    methods: str | Sequence[str | KVMethod] = "all",
    budget: float = 0.25,
    *,
    continuation: int = 128,
    tasks: int = 4,
    seed: int = 0,
    progress: Progress | None = None,
) -> KVQuality:
    """Measure what methods cost on a text, and on needles hidden in it.

    Parameters
    ----------
    model
        A model handle, pruned result or transformers causal LM.
    ids
        Tokens of a text; the last ``continuation`` of them are predicted, the rest is the prompt and the haystack.
    methods
        Names or `KVMethod` objects, or ``"all"``.
    budget
        Share of keys that stays.
    tasks
        Needles, and lists of pairs; 0 for none, which they are without a tokenizer.
    seed
        Of the tasks.
    progress
        Hears after every method of every text; cancels.

    Raises
    ------
    ArgumentError
        If the text is too short or too long, or a name is unknown.
    """
    lm, tokens, progress = as_lm(model), np.asarray(ids, np.int64).reshape(-1), progress or Progress()
    if continuation < 2 or tokens.size - continuation < 64:
        raise ArgumentError(
            f"ids has {tokens.size} tokens, {continuation} to predict: at least 64 more than those, and 2"
        )
    chosen = METHODS.several(methods)
    hay = tokens[: tokens.size - continuation]
    texts: dict[str, list[Hidden]] = {"needles": [], "pairs": []}
    if tasks and lm.tokenizer is not None:
        texts = {"needles": needles(lm.tokenizer, hay.tolist(), tasks, seed=seed)}
        around = hay[:LIST_TEXT].tolist()
        texts["pairs"] = pairs(lm.tokenizer, count=tasks, length=max(6, tasks), seed=seed, haystack=around)
    names = [FULL, *(m.name for m in chosen)]
    total = len(names) * (1 + sum(len(t) for t in texts.values()))
    done = 0

    def told(found: Iterator[Any]) -> Iterator[Any]:
        nonlocal done
        for one in found:
            done += 1
            progress.step("reading with smaller caches", done, total)
            yield one

    nll = list(told(_continued(lm, tokens, continuation, chosen, budget)))
    hits = {
        kind: np.sum([list(told(_asked(lm, text, chosen, budget))) for text in many], axis=0, initial=0)
        for kind, many in texts.items()
    }
    counts = [np.broadcast_to(hits[kind], len(names)).tolist() for kind in ("needles", "pairs")]
    rows = tuple(
        KVRow(name, share, math.exp(loss), int(found), int(matched))
        for name, (loss, share), found, matched in zip(names, nll, *counts, strict=True)
    )
    where = Provenance.here(seed=seed)
    return KVQuality(lm.source, budget, hay.size, continuation - 1, tasks if texts["pairs"] else 0, rows, where)


def _caches(lm: Any, prompt: np.ndarray, methods: Sequence[KVMethod], budget: float) -> Iterator[CompressedTarget]:
    """The full cache of a prompt, then compressed copies of it."""
    whole = CompressedTarget(lm, None)
    whole.forward(prompt, last=True)
    for method in (None, *methods):
        target = whole.fork(method, budget)
        target.compress()
        yield target


def _continued(
    lm: Any, tokens: np.ndarray, count: int, methods: Sequence[KVMethod], budget: float
) -> Iterator[tuple[float, float]]:
    """For every cache the mean negative log likelihood of the last tokens but the first of them, and its bytes."""
    for target in _caches(lm, tokens[:-count], methods, budget):
        loss = mean_loss(target, tokens[-count:])
        yield loss, target.nbytes / target.dense_nbytes


def mean_loss(target: CompressedTarget, rest: np.ndarray) -> float:
    """Mean negative log likelihood of all tokens of ``rest`` but the first, read in pieces."""
    losses: list[float] = []
    for start in range(0, len(rest) - 1, PIECE):
        part = rest[start : min(start + PIECE, len(rest) - 1)]
        logits = target.forward(part).logits.astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        losses += (-log_p[np.arange(len(part)), rest[start + 1 : start + 1 + len(part)]]).tolist()
    return float(np.mean(losses))


def _asked(lm: Any, text: Hidden, methods: Sequence[KVMethod], budget: float) -> Iterator[bool]:
    """For every cache whether the answer is found: the most likely tokens after the prompt's last one."""
    for target in _caches(lm, np.asarray(text.ids[:-1]), methods, budget):
        yield answers(target, text)


def answers(target: CompressedTarget, text: Hidden) -> bool:
    """Whether the most likely tokens after a prompt, of which the target has read all but the last, are its answer."""
    token, said = text.ids[-1], []
    for _ in range(ANSWER_TOKENS):
        token = int(target.forward([token]).logits[-1].argmax())
        said.append(token)
    return text.answer in target.tokenizer.decode(said)
