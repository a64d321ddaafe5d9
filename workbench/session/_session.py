"""Variants of one model: choose, preview, prune, compile, compare, decode, apply, undo, export; and the Python for it.

    Session(model) --choose--> preview --prune--> Variant --compile--> Variant
                                                     |--apply, undo, redo--> current
                                                     |--generate, study, export

A session is what a user interface holds; it draws nothing and knows no widget. The model it was given is
never changed. What is finished is kept in a folder; `workbench.open` goes on from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench import checkpoint
from workbench.jobs import Progress
from workbench.models import LM
from workbench.session.compared import Compared, compared
from workbench.session.making import Making
from workbench.session.reporting import report
from workbench.session.sampling import side_by_side
from workbench.session.scripting import model_expression, python_of, python_of_all, tokens_expression
from workbench.session.variants import Samples, Variant

SAMPLE_TOKENS = 40


class Session(Making):
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
        How many models are in memory at once besides the dense one; the others are built again when wanted.
    store
        Where everything is kept; a folder of its own that goes with the session if None. `workbench.open` gives one
        that stays.

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

    Raises
    ------
    ArgumentError
        If an argument is out of range.

    Examples
    --------
    >>> session = Session(workbench.load())                                           # doctest: +SKIP
    >>> session.choose(method="magnitude", sparsity=0.3)                              # doctest: +SKIP
    >>> session.prune()                                                               # doctest: +SKIP
    Variant('1: magnitude 30 %', perplexity 21.4, 1.20 x dense)
    """

    # Look

    def compare(self) -> Compared:
        """All variants beside the dense model: quality, size, speed."""
        return compared(self.variants, self.dense_quality, self.dense_size)

    def sample(
        self,
        prompt: str | None = None,
        max_new_tokens: int = SAMPLE_TOKENS,
        *,
        variant: Variant | int | None = None,
        progress: Progress | None = None,
    ) -> Samples:
        """Continue a prompt (the session's own) greedily with the dense model and a variant (the newest)."""
        chosen = self.pick(variant)
        with self._turn(progress):
            text = self.prompt if prompt is None else prompt
            return side_by_side(self.dense, chosen.model, text, max_new_tokens, progress)

    def generate(
        self,
        prompt: Any = None,
        method: Any = "greedy",
        *,
        variant: Variant | int | None = None,
        draft: Variant | int | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Any:
        """Decode with a variant, or with another one as its draft; see `workbench.generate`.

        Parameters
        ----------
        prompt
            The session's own if None.
        method, options
            As of `workbench.generate`.
        variant
            That decodes: the newest if None, 0 the dense model.
        draft
            That proposes, for methods with a draft model.
        """
        from workbench.decode import generate

        model = self.model(variant)
        if draft is not None:
            options["draft"] = self.model(draft)
        with self._turn(progress):
            text = self.prompt if prompt is None else prompt
            return generate(model, text, method, progress=progress, **options)

    def study(
        self, text: Any, *, variant: Variant | int | None = None, progress: Progress | None = None, **settings: Any
    ) -> Any:
        """Let a variant (the newest; 0 is the dense model) read a text; see `workbench.attention.study`.

        Raises
        ------
        ArgumentError
            If it is a compiled variant: study the one that it was made from.
        """
        from workbench.attention import study

        model = self.dense if variant == 0 else self.pick(variant).pruned
        with self._turn(progress):
            return study(model, text, progress=progress, **settings)

    # Keep

    def apply(self, variant: Variant | int | None = None) -> LM:
        """Go on from a variant (the newest): the next pruning is on top of it."""
        self._history.apply(variant)
        return self._moved()

    def remove(self, variant: Variant | int) -> None:
        """Take a variant off the list; `undo` brings it back."""
        self._history.remove(variant)
        self._keeper.save()

    def undo(self) -> LM:
        """Take back the last `apply` or `remove`."""
        self._history.undo()
        return self._moved()

    def redo(self) -> LM:
        """Take back the last `undo`."""
        self._history.redo()
        return self._moved()

    @property
    def can_undo(self) -> bool:
        """Whether there is something to take back."""
        return bool(self._history.done)

    @property
    def can_redo(self) -> bool:
        """Whether there is an `undo` to take back."""
        return bool(self._history.undone)

    def export(self, folder: str | Path, variant: Variant | int | None = None, progress: Progress | None = None) -> Any:
        """Write a variant (the newest) as a checkpoint, read back and compared; see `workbench.save`."""
        chosen = self.pick(variant)
        with self._turn(progress):
            saved = checkpoint.save(chosen.pruned, Path(folder).expanduser(), progress=progress)
        self._history.log("export", f"{chosen.name} to {folder}")
        self._keeper.save()
        return saved

    def report(self) -> str:
        """The comparison, every variant and the Python as one HTML page without scripts."""
        return report(f"Session of {self.dense.source}", self.compare(), self.variants, self.to_python())

    def to_python(self, variant: Variant | int | None = None) -> str:
        """The program that makes this session's variants again, or one of them alone."""
        given = model_expression(self.dense), self._tokens_expression(), self.seed
        if variant is not None:
            return python_of(self.pick(variant).lineage, *given)
        return python_of_all(self.variants, self.applied, *given)

    def choice_to_python(self) -> str:
        """The program that makes what the present choice would make."""
        lineage = (*self.lineage, self.choice)
        return python_of(lineage, model_expression(self.dense), self._tokens_expression(), self.seed)

    def save(self) -> None:
        """Keep choice and prompt too; everything else is kept as soon as it is finished."""
        self._keeper.save()

    def close(self) -> None:
        """Let go of the models and of the folder, which another process may open then."""
        self._keeper.close()

    def _moved(self) -> LM:
        self._keeper.save()
        return self.current

    def _tokens_expression(self) -> str:
        return tokens_expression(self.dense, self._sources[0], *self._sizes[:2], self.seed)
