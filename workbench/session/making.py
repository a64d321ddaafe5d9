"""Making variants: choose, preview, prune, compile, measure; the half of a session that changes what there is.

Scores are computed once per choice of stages, so that `Making.frame` answers while a slider moves. Long methods take
``progress`` and run one at a time: a second one waits for its turn. What is finished is kept in a folder at once.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from workbench import data, measure
from workbench.data import Tokens
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.measure.memory import give_back
from workbench.models import LM, as_lm
from workbench.prune import prune as prune_model
from workbench.prune.apply import shared_copy
from workbench.prune.preview import preview as score
from workbench.session.history import Event, History, Stages, Turns
from workbench.session.keeping import Keeper
from workbench.session.measuring import measured, packed_size
from workbench.session.models import Models, compiled
from workbench.session.store import Store
from workbench.session.variants import Choice, Execution, Variant, changed

PROMPT = "The capital of France is"


class Making:
    """See `workbench.session.Session`."""

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
        keep: int = 2,
        store: Store | None = None,
    ) -> None:
        given = as_lm(model)
        self.dense = LM(shared_copy(given.module), given.tokenizer, given.source)
        self.seed = seed
        self.choice = Choice()
        self.prompt = PROMPT
        self.dense_quality: Any = None
        self._history = History()
        self._keeper = Keeper(self, Models(self.dense, store or Store(), keep))
        self._sources = (calibration, evaluation)
        self._sizes = (samples, seqlen, windows)
        self._tokens: tuple[Tokens, Tokens] | None = None
        self._previews: dict[Any, Any] = {}
        self._turn = Turns()
        self._keeper.restore()

    # What there is

    @property
    def variants(self) -> tuple[Variant, ...]:
        """What was made so far, oldest first."""
        return tuple(self._history.variants)

    @property
    def journal(self) -> tuple[Event, ...]:
        """What was done so far."""
        return tuple(self._history.journal)

    @property
    def folder(self) -> Path | None:
        """Where it is kept; None if it ends with this process."""
        store = self._keeper.models.store
        return store.folder if store.kept else None

    @property
    def applied(self) -> Variant | None:
        """The variant that the session goes on from, or None for the dense model."""
        return self._history.applied

    @property
    def current(self) -> LM:
        """The model that the next pruning starts from."""
        lm: LM = self.applied.pruned.lm if self.applied else self.dense
        return lm

    @property
    def lineage(self) -> tuple[Any, ...]:
        """The steps that lead from the dense model to the current one."""
        return self.applied.lineage if self.applied else ()

    def pick(self, variant: Variant | int | None = None) -> Variant:
        """A variant by its number, or the newest one.

        Raises
        ------
        ArgumentError
            If there is none.
        """
        return self._history.pick(variant)

    @cached_property
    def dense_size(self) -> Any:
        """Of the dense model, counted once: its weights stay as they are."""
        return measure.size(self.dense)

    def model(self, variant: Variant | int | None = None) -> Any:
        """What runs: that of a variant (by number too; the newest if None), or the dense one for 0."""
        return self.dense if variant == 0 else self.pick(variant).model

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
                chosen = {k: v for k, v in choice.arguments().items() if k not in ("method", "sparsity", "propagate")}
                calibration, _ = self.tokens()
                made = score(lm, choice.method, calibration=calibration, seed=self.seed, progress=progress, **chosen)
                self._previews[key] = made
        return self._previews[key]

    def frame(self, sparsity: float | None = None) -> Any:
        """What would be kept at a sparsity: a `Frame`, in less than 100 ms once `ready`."""
        return self.preview().at(self.choice.sparsity if sparsity is None else sparsity)

    # Make variants

    def prune(self, progress: Progress | None = None, *, speed: bool = True, **choice: Any) -> Variant:
        """Prune the current model as chosen, and measure the outcome beside the dense model.

        Parameters
        ----------
        progress
            Hears a `Stage` before each part, then that part's own steps and partial results.
        speed
            Whether to time prefill and decode too (some seconds).
        choice
            Changes of the choice, as `choose` takes them.
        """
        if choice:
            self.choose(**choice)
        base, step, start = self.applied, self.choice, time.perf_counter()
        with self._turn(progress):
            tell = Stages(progress, 5 if speed else 4)
            tell("prune")
            calibration, _ = self.tokens()
            chosen = {"calibration": calibration, "seed": self.seed, **step.arguments()}
            self._keeper.models.make_room(base.number if base else 0)
            pruned = prune_model(self.current, progress=progress, **chosen)
            found = self._measured(pruned, tell, progress, speed)
            return self._keeper.add(pruned, base, step, start, **found, recipe=pruned.recipe, report=pruned.report)

    def compile(
        self,
        format: str = "auto",  # noqa: A002 - as in `workbench.compile`
        values: str = "fp32",
        *,
        variant: Variant | int | None = None,
        threads: int | None = None,
        speed: bool = True,
        progress: Progress | None = None,
    ) -> Variant:
        """Compile a variant for running, and measure it beside the dense model.

        Parameters
        ----------
        format, values, threads
            As of `workbench.compile`.
        variant
            The newest that is not compiled if None; 0 is the dense model.
        speed, progress
            As of `prune`.

        Raises
        ------
        ArgumentError
            If the variant is compiled already, or its weights do not fit the format.
        ModelError
            If the family has no compiled runtime.
        """
        plain = [v for v in self.variants if not v.compiled]
        base = None if variant == 0 or not (variant or plain) else self.pick(variant or plain[-1])
        if base is not None and base.compiled:
            raise ArgumentError(f"variant={base.name!r} is compiled already: name the one that it was made from")
        step, start = Execution(format, values, threads), time.perf_counter()
        with self._turn(progress):
            tell = Stages(progress, 5 if speed else 4)
            tell("compile")
            self._keeper.models.make_room(base.number if base else 0)
            made = compiled(base.model if base else self.dense, step, progress)
            size = packed_size(base.size if base else self.dense_size, made)
            self._keeper.models.make_room()  # what it was made from is not needed for measuring
            found = self._measured(made, tell, progress, speed, size)
            told = {"recipe": base.recipe, "report": base.report} if base else {"recipe": None, "report": None}
            return self._keeper.add(made, base, step, start, **found, **told)

    def _measured(
        self, model: Any, tell: Stages, progress: Progress | None, speed: bool, size: Any = None
    ) -> dict[str, Any]:
        evaluation, before = self.tokens()[1], self.dense_quality
        give_back()  # what making it took
        found = measured(model, self.dense, evaluation, self.prompt, before, tell, progress, speed=speed, size=size)
        self.dense_quality = found["before"]
        return found

    def _key(self, choice: Choice) -> Any:
        base = self.applied.number if self.applied else 0
        return base, *choice.scoring
