"""Checks of claims about structured prompts, made on a `SegmentContext`: a model as it is, and tasks of our own.

    SameInEveryOrder   options as a set: the same answer in every order, and what that costs
    BetterThanInLine   segments read once and joined along edges, against reading everything one after the other

Answers are compared by their likelihood, one task after the other in turn.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from workbench import render
from workbench.attention.segments._questions import Choice, Town, choices, orders
from workbench.attention.segments.layout import Segments
from workbench.attention.segments.shelf import Shelf
from workbench.attention.segments.target import read
from workbench.claims import NOT_HELD, Measurement
from workbench.decode.claims import DecodingContext, OverItems
from workbench.decode.target import Target, as_target
from workbench.jobs import Progress
from workbench.models import load

ORDERS = 4
FORMATS = (  # taken in turn, so that no single wording decides
    ("Question: {}\nOptions:\n", "Answer:"),
    ("Question: {}\nOptions:\n", "Which of them is it? It is"),
    ("<|im_start|>user\n{}\nOptions:\n", "<|im_end|>\n<|im_start|>assistant\nThe answer is"),
)


@dataclass(frozen=True, slots=True)
class SegmentConditions:
    """Of a claim about structured prompts."""

    model: str
    runtime: str
    threads: int
    seeds: tuple[int, ...]

    def rows(self) -> list[tuple[str, Any]]:
        """Names and values, all of them."""
        seeds = ", ".join(map(str, self.seeds))
        return [("model", self.model), ("runtime", self.runtime), ("threads", self.threads), ("seeds", seeds)]

    def summary(self) -> str:
        """In one sentence."""
        seeds = ", ".join(map(str, self.seeds))
        return f"Model {self.model} on {self.runtime}, {self.threads} threads; tasks of our own, seeds {seeds}."


@dataclass(slots=True, eq=False)
class SegmentContext(DecodingContext):
    """What claims about structured prompts are checked on: a model handle, and seeds of the tasks."""

    @classmethod
    def of(cls, model: Any = None, *, threads: int | None = None, progress: Progress | None = None) -> SegmentContext:
        """The usual one: the embedded model, or another."""
        lm = load(model) if model is None or isinstance(model, str) else model
        return cls(lm, lm, threads=threads, progress=progress or Progress())

    def conditions(self) -> Any:
        """Model, runtime, seeds."""
        return SegmentConditions(
            self.model.source, self.runtime, self.threads or torch.get_num_threads(), tuple(self.seeds)
        )


def encode(context: DecodingContext, text: str) -> list[int]:
    """Token ids without special ones."""
    return [int(t) for t in context.model.tokenizer(text, add_special_tokens=False)["input_ids"]]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, float64."""
    return torch.log_softmax(torch.from_numpy(np.asarray(logits, np.float64)), -1).numpy()


def likelihoods(target: Target, last: np.ndarray, answers: Sequence[Sequence[int]]) -> np.ndarray:
    """Log likelihood of each answer behind what the target has read, float64 [N]; the target is left as it was.

    Parameters
    ----------
    target
        A model with a prompt.
    last
        Its logits ``[V]`` after the prompt.
    answers
        Token ids, at least one each.
    """
    ids: list[int] = []
    parents: list[int] = []
    for answer in answers:
        parents += [-1, *range(len(ids), len(ids) + len(answer) - 1)]
        ids += answer
    after = log_softmax(target.forward(ids, parents).logits)
    target.keep([])
    first, at, found = log_softmax(last), 0, []
    for answer in answers:
        rest = after[np.arange(at, at + len(answer) - 1), list(answer[1:])]
        found.append(first[answer[0]] + rest.sum())
        at += len(answer)
    return np.array(found)


@dataclass(frozen=True, slots=True)
class Worded:
    """A question, and what stands before and behind its options."""

    question: Choice
    before: str
    after: str

    @property
    def name(self) -> str:
        """The question."""
        return self.question.asked


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A question in several orders of its options: probabilities ``[orders, options]``, the right one first."""

    plain: np.ndarray
    as_set: np.ndarray
    rounded: np.ndarray


@dataclass(frozen=True, kw_only=True)
class SameInEveryOrder(OverItems):
    """Held if nothing changes with the order, and the right option is not much less likely than in plain prompts.

    Likelihoods of the options are made to sum to 1. Plain prompts are the mean over rotations of the options.
    """

    needs: ClassVar[type[DecodingContext]] = SegmentContext
    at_least: float = -0.05
    difference: bool = True
    seeds: bool = False
    questions: int = 20

    @property
    def measured(self) -> str:
        """What is compared."""
        return "probability of the right option, less its mean over orders of the plain prompt"

    def items(self, _context: DecodingContext) -> Sequence[Any]:
        """Questions, each with its wording."""
        return [Worded(q, *FORMATS[n % len(FORMATS)]) for n, q in enumerate(choices(self.questions))]

    def pair(self, context: DecodingContext, name: str, item: Any, _seed: int) -> tuple[float, float]:
        """Of one question."""
        found: Asked = context.once((self, name, item), lambda: _asked(context, name, item))
        return float(found.as_set[:, 0].mean()), float(found.plain[:, 0].mean())

    def __call__(self, context: DecodingContext, name: str) -> Measurement:
        """All questions; a single bit that depends on the order and the claim is not held."""
        found = super().__call__(context, name)
        all_: list[Asked] = [context.once((self, name, q), lambda: None) for q in self.items(context)]
        changed = sum(int((a.as_set != a.as_set[:1]).any()) for a in all_)
        wavering = sum(len(set(a.plain.argmax(1).tolist())) > 1 for a in all_)
        right = [int(a.as_set[0].argmax() == 0) for a in all_], [(a.plain.argmax(1) == 0).mean() for a in all_]
        spread = max(float(np.ptp(a.rounded, 0).max()) for a in all_)
        note = (
            f"over {ORDERS} orders the set's probabilities changed for {changed} of {len(all_)} questions (by at most "
            f"{render.number(spread)} where options are read in the order given); the plain prompt's choice changed "
            f"for {wavering}; right choices {render.share(float(np.mean(right[0])))} as a set, "
            f"{render.share(float(np.mean(right[1])))} plain"
        )
        status = NOT_HELD if changed else found.status
        return replace(found, status=status, note="; ".join(n for n in (found.note, note) if n))


def _asked(context: DecodingContext, name: str, item: Worded) -> Asked:
    question = item.question
    before, after = encode(context, item.before.format(question.asked)), encode(context, item.after)
    parts = [encode(context, f" - {option}\n") for option in question.options]
    answers = [encode(context, f" {option}") for option in question.options]
    rows: dict[str, list[np.ndarray]] = {"plain": [], "as_set": [], "rounded": []}
    for order in orders(len(parts), ORDERS):
        given = [parts[n] for n in order]
        target = as_target(context.model)
        last = target.forward([*before, *(t for part in given for t in part), *after], last=True).logits[-1]
        rows["plain"].append(likelihoods(target, last, answers))
        for key, canonical in (("as_set", True), ("rounded", False)):
            own = read(context.model, name, Segments(before, given, after), canonical=canonical)
            rows[key].append(likelihoods(own, own.logits[-1], answers))
    return Asked(**{k: np.exp(log_softmax(np.stack(v))) for k, v in rows.items()})


@dataclass(frozen=True, slots=True)
class Recombined:
    """One question: mean log likelihood of an answer's tokens, and seconds until it can begin."""

    graph: float
    alone: float
    plain: float
    graph_seconds: float
    plain_seconds: float


@dataclass(frozen=True, kw_only=True)
class BetterThanInLine(OverItems):
    """Held if answers are at least as likely as after reading all notes one after the other.

    Every question is about a new combination of notes: the last is the target, the others are its sources and on the
    shelf. The note says what edges bring and what time reading took.
    """

    needs: ClassVar[type[DecodingContext]] = SegmentContext
    at_least: float = 0.0
    difference: bool = True
    questions: int = 8

    @property
    def measured(self) -> str:
        """What is compared."""
        return "log likelihood of an answer's token, less that after reading all segments in line"

    def items(self, _context: DecodingContext) -> Sequence[Any]:
        """Numbers of questions."""
        return [f"question {n}" for n in range(self.questions)]

    def pair(self, context: DecodingContext, name: str, item: Any, seed: int) -> tuple[float, float]:
        """Of one question about one town."""
        town, shelf = context.once((self, name, seed), lambda: (Town.of(seed), Shelf()))
        index = self.items(context).index(item)
        found: Recombined = context.once(
            (self, name, item, seed), lambda: _recombined(context, name, town, shelf, index)
        )
        return found.graph, found.plain

    def __call__(self, context: DecodingContext, name: str) -> Measurement:
        """All questions."""
        found = super().__call__(context, name)
        seeds = context.seeds if self.seeds else context.seeds[:1]
        all_: list[Recombined] = [
            context.once((self, name, q, s), lambda: None) for s in seeds for q in self.items(context)
        ]
        gain = float(np.mean([r.graph - r.alone for r in all_]))
        faster = float(np.median([r.plain_seconds / r.graph_seconds for r in all_]))
        note = (
            f"{render.number(gain)} more than without edges; with the sources on the shelf the answer can begin after "
            f"{render.number(1 / faster)} of the time that reading in line takes (median)"
        )
        return replace(found, note="; ".join(n for n in (found.note, note) if n))


def _recombined(context: DecodingContext, name: str, town: Town, shelf: Shelf, index: int) -> Recombined:
    task = town.question(index)
    before, after, answer = (encode(context, t) for t in (task.before, task.after, task.answer))
    notes = [encode(context, note) for note in task.notes]
    for note in notes[:-1]:  # each is read alone once in the life of the shelf
        read(context.model, name, Segments("", [note]), shelf=shelf)
    edges = [(n, len(notes) - 1) for n in range(len(notes) - 1)]
    start = time.perf_counter()
    graph = read(context.model, name, Segments(before, notes, after, edges), shelf=shelf)
    middle = time.perf_counter()
    target = as_target(context.model)
    last = target.forward([*before, *(t for note in notes for t in note), *after], last=True).logits[-1]
    end = time.perf_counter()
    alone = read(context.model, name, Segments(before, notes, after), shelf=shelf)
    tails = ((graph, graph.logits[-1]), (alone, alone.logits[-1]), (target, last))
    own, without, line = (float(likelihoods(t, logits, [answer])[0]) / len(answer) for t, logits in tails)
    return Recombined(own, without, line, middle - start, end - middle)
