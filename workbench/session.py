"""Variants of one model: choose, preview, prune, compare, apply, undo, export; and the Python that does it.

    Session(model) --choose--> preview --prune--> Variant --apply, undo, redo--> current --export--> folder

A session is what a user interface holds; it draws nothing and knows no widget. The model it was given is
never changed. Scores are computed once per choice of stages, so that `Session.frame` answers while
a slider moves. Long methods take ``progress`` and run one at a time: a second one waits for its turn.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench import checkpoint, data, measure
from workbench._history import Event, History, Stages, Turns
from workbench._variants import (
    MEASURE_DENSE,
    MEASURE_PRUNED,
    Choice,
    Samples,
    Stage,
    Variant,
    changed,
    python_of,
    side_by_side,
    tokens_expression,
)
from workbench.data import Tokens
from workbench.jobs import Progress
from workbench.models import LM, as_lm
from workbench.prune import prune as prune_model
from workbench.prune.apply import shared_copy
from workbench.prune.preview import preview as score

__all__ = ["Choice", "Event", "Samples", "Session", "Stage", "Variant"]

PROMPT = "The capital of France is"
NEW_TOKENS = 24
TIMING = {"prompt_tokens": 128, "new_tokens": 8, "repeats": 5}


class Session:
    """One model and what was made of it.

    Parameters
    ----------
    model
        An `LM`, a pruned result or a transformers model. It stays as it is.
    calibration, evaluation
        `Tokens`, or a text as `workbench.load_text` takes it; None for the two parts of the built-in text.
    seed
        Of the calibration windows and of methods that draw.
    samples, seqlen, windows
        Calibration windows, tokens in each, and evaluation windows, where tokens are not given.
    keep
        How many variants are held in memory besides the applied ones; the oldest is forgotten first.

    Attributes
    ----------
    dense : LM
        The model that was given: the same weights in modules of its own, so that nothing that runs in a
        thread here disturbs what you run there.
    choice : Choice
        What the next `prune` does; changed by `choose`.
    prompt : str
        What every variant is asked to continue.
    dense_quality : Quality or None
        Of the dense model, once it was measured.

    Examples
    --------
    >>> session = Session(workbench.load())                                           # doctest: +SKIP
    >>> session.choose(method="magnitude", sparsity=0.3)                              # doctest: +SKIP
    >>> session.prune()                                                               # doctest: +SKIP
    Variant('1: magnitude 30 %', perplexity 21.4, 1.20 x dense)
    """

    def __init__(
        self,
        model: Any,
        calibration: Any = None,
        evaluation: Any = None,
        seed: int = 0,
        *,
        samples: int = 16,
        seqlen: int = 512,
        windows: int = 8,
        keep: int = 4,
    ) -> None:
        given = as_lm(model)
        self.dense = LM(shared_copy(given.module), given.tokenizer, given.source)
        self.seed = seed
        self.choice = Choice()
        self.prompt = PROMPT
        self.dense_quality: Any = None
        self._history = History(keep)
        self._sources = (calibration, evaluation)
        self._sizes = (samples, seqlen, windows)
        self._tokens: tuple[Tokens, Tokens] | None = None
        self._previews: dict[Any, Any] = {}
        self._turn = Turns()

    # What there is

    @property
    def variants(self) -> tuple[Variant, ...]:
        """What was pruned so far, oldest first."""
        return tuple(self._history.variants)

    @property
    def journal(self) -> tuple[Event, ...]:
        """What was done so far."""
        return tuple(self._history.journal)

    @property
    def applied(self) -> Variant | None:
        """The variant that the session goes on from, or None for the dense model."""
        return self._history.applied[-1] if self._history.applied else None

    @property
    def current(self) -> LM:
        """The model that the next pruning starts from."""
        return self.applied.pruned.lm if self.applied else self.dense

    @property
    def lineage(self) -> tuple[Choice, ...]:
        """The choices that lead from the dense model to the current one."""
        return self.applied.lineage if self.applied else ()

    def tokens(self) -> tuple[Tokens, Tokens]:
        """Calibration and evaluation tokens, made at first need.

        Raises
        ------
        DataError
            If a text is too short, or both come from the same words.
        """
        if self._tokens is None:
            (first, second), (samples, seqlen, windows) = self._sources, self._sizes
            if not isinstance(first, Tokens):
                first = data.calibration(self.dense, first, samples=samples, seqlen=seqlen, seed=self.seed)
            if not isinstance(second, Tokens):
                second = data.evaluation(self.dense, second, seqlen=seqlen, windows=windows)
            data.check_disjoint(first, second)
            self._tokens = first, second
        return self._tokens

    # Choose and see

    def choose(self, **changes: Any) -> Choice:
        """Change the choice: method, sparsity, units, pattern, allocation, repair, propagate.

        A new method starts from its own units, pattern, allocation and repair, unless they are named too.

        Raises
        ------
        ArgumentError
            If a name is unknown, or the sparsity is outside [0, 1).
        """
        old, choice = self.choice, changed(self.choice, changes)
        self.choice = choice
        if replace(choice, sparsity=old.sparsity) != old:  # a moving slider would flood the journal
            self._history.log("choose", str(choice))
        return choice

    @property
    def ready(self) -> bool:
        """Whether the scores of the present choice are there, so that `frame` answers at once."""
        return self._key(self.choice) in self._previews

    def preview(self, progress: Progress | None = None) -> Any:
        """The scores of the present choice on the current model; computed once, then kept."""
        choice = self.choice
        key, lm = self._key(choice), self.current
        if key not in self._previews:
            with self._turn(progress):
                calibration, _ = self.tokens()
                made = score(
                    lm,
                    choice.method,
                    units=choice.units,
                    pattern=choice.pattern,
                    allocation=choice.allocation,
                    repair=choice.repair,
                    calibration=calibration,
                    seed=self.seed,
                    progress=progress,
                )
                self._previews[key] = made
        return self._previews[key]

    def frame(self, sparsity: float | None = None) -> Any:
        """What would be kept at a sparsity: a `Frame`, in less than 100 ms once `ready`."""
        return self.preview().at(self.choice.sparsity if sparsity is None else sparsity)

    # Prune and compare

    def prune(self, progress: Progress | None = None, *, speed: bool = True) -> Variant:
        """Prune the current model as chosen, and measure the outcome beside the dense model.

        Parameters
        ----------
        progress
            Hears a `Stage` before each part, then that part's own steps and partial results.
        speed
            Whether to time prefill and decode too (some seconds).
        """
        lineage, start = (*self.lineage, self.choice), time.perf_counter()
        with self._turn(progress):
            tell = Stages(progress, 5 if speed else 4)
            tell("prune")
            calibration, _ = self.tokens()
            chosen = {"calibration": calibration, "seed": self.seed, **self.choice.arguments()}
            pruned = prune_model(self.current, progress=progress, **chosen)
            figures = self._measure(pruned, tell, progress, speed)
            variant = Variant(self._history.made + 1, lineage, pruned, **figures, seconds=time.perf_counter() - start)
        self._history.add(variant)
        return variant

    def _measure(self, pruned: Any, tell: Stages, progress: Progress | None, speed: bool) -> dict[str, Any]:
        _, evaluation = self.tokens()
        sizes = measure.size(self.dense), measure.size(pruned)
        tell(MEASURE_DENSE, sizes)
        if self.dense_quality is None:
            self.dense_quality = measure.perplexity(self.dense, evaluation, progress=progress)
        tell(MEASURE_PRUNED, self.dense_quality)
        after = measure.perplexity(pruned, evaluation, progress=progress)
        tell("sample")
        samples = timed = None
        if self.dense.tokenizer is not None:
            samples = side_by_side(self.dense, pruned.lm, self.prompt, NEW_TOKENS, progress)
        if speed:
            tell("time", samples)
            timed = measure.speed(pruned, self.dense, progress=progress, **TIMING)
        names = ("before", "after", "dense_size", "size", "speed", "samples")
        return dict(zip(names, (self.dense_quality, after, *sizes, timed, samples), strict=True))

    def sample(
        self,
        prompt: str | None = None,
        max_new_tokens: int = 40,
        *,
        variant: Variant | None = None,
        progress: Progress | None = None,
    ) -> Samples:
        """Continue a prompt (the session's own) greedily with the dense model and a variant (the newest)."""
        chosen = self._history.pick(variant)
        with self._turn(progress):
            text = self.prompt if prompt is None else prompt
            return side_by_side(self.dense, chosen.pruned.lm, text, max_new_tokens, progress)

    # Keep

    def apply(self, variant: Variant | None = None) -> LM:
        """Go on from a variant (the newest): the next pruning is on top of it."""
        self._history.apply(variant)
        return self.current

    def undo(self) -> LM:
        """Go back to what was current before the last `apply`."""
        self._history.undo()
        return self.current

    def redo(self) -> LM:
        """Take back the last `undo`."""
        self._history.redo()
        return self.current

    @property
    def can_undo(self) -> bool:
        """Whether there is an `apply` to take back."""
        return bool(self._history.applied)

    @property
    def can_redo(self) -> bool:
        """Whether there is an `undo` to take back."""
        return bool(self._history.undone)

    def export(self, folder: str | Path, variant: Variant | None = None, progress: Progress | None = None) -> Any:
        """Write a variant (the newest) as a checkpoint, read back and compared; see `workbench.save`."""
        chosen = self._history.pick(variant)
        with self._turn(progress):
            saved = checkpoint.save(chosen.pruned, Path(folder).expanduser(), progress=progress)
        self._history.log("export", f"{chosen.name} to {folder}")
        return saved

    def to_python(self, variant: Variant | None = None) -> str:
        """The program that makes a variant, or without one what the present choice would make."""
        lineage = variant.lineage if variant is not None else (*self.lineage, self.choice)
        tokens = tokens_expression(self.dense, self._sources[0], *self._sizes[:2], self.seed)
        return python_of(lineage, self.dense.source, tokens, self.seed)

    # Inside

    def _key(self, choice: Choice) -> Any:
        base = self.applied.number if self.applied else 0
        return base, *choice.scoring
