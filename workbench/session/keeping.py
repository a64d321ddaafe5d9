"""What of a session is kept, when, and how a session goes on from it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.data import Tokens
from workbench.errors import ModelError
from workbench.session.models import Models
from workbench.session.variants import Step, Variant

if TYPE_CHECKING:
    from workbench.session.making import Making

FIGURES = (
    "number", "lineage", "before", "after", "dense_size", "size", "speed", "samples", "seconds", "recipe", "report",
    "parent",
)  # fmt: skip


class Keeper:
    """Keeps one session in its store.

    Parameters
    ----------
    session
        Whose history, choice and texts are kept.
    models
        Of its variants, with the store.
    """

    def __init__(self, session: Making, models: Models) -> None:
        self.session, self.models = session, models
        self._fingerprint = ""

    def add(self, model: Any, base: Variant | None, step: Step, start: float, **found: Any) -> Variant:
        """Make a variant of a model that was just made and measured, and keep both."""
        history = self.session._history
        lineage, parent = (*(base.lineage if base else ()), step), base.number if base else 0
        seconds = time.perf_counter() - start
        variant = Variant(history.made + 1, lineage, **found, seconds=seconds, parent=parent, source=self.models)
        self.models.add(variant, model, {name: getattr(variant, name) for name in FIGURES})
        history.add(variant)
        self.save()
        return variant

    def save(self) -> None:
        """Keep everything but the variants, which have kept themselves."""
        session, history = self.session, self.session._history
        if not self._fingerprint:
            self._fingerprint = session.dense.fingerprint
        self.models.store.write(
            {
                "source": session.dense.source,
                "dtype": str(session.dense.module.dtype).removeprefix("torch."),
                "fingerprint": self._fingerprint,
                "seed": session.seed,
                "sizes": session._sizes,
                "texts": tuple(_kept(s, n, session) for n, s in enumerate(session._sources)),
                "choice": session.choice,
                "prompt": session.prompt,
                "dense_quality": session.dense_quality,
                "made": history.made,
                "journal": list(history.journal),
                "done": list(history.done),
                "undone": list(history.undone),
            }
        )

    def restore(self) -> None:
        """Go on from what the store holds, if it holds anything.

        Raises
        ------
        ModelError
            If it was made with another model.
        """
        session, state = self.session, self.models.store.read()
        if state is None:
            return
        self._fingerprint = session.dense.fingerprint
        if self._fingerprint != state["fingerprint"]:
            raise ModelError(
                f"the session in {self.models.store.folder} was made with another model than {session.dense!r}: "
                f"pass the one that was loaded from {state['source']!r}"
            )
        session.seed, session._sizes, session._sources = state["seed"], state["sizes"], state["texts"]
        session.choice, session.prompt = state["choice"], state["prompt"]
        session.dense_quality = state["dense_quality"]
        found = [f for f in self.models.store.figures() if f["number"] <= state["made"]]
        made = [Variant(**{name: f[name] for name in FIGURES}, source=self.models) for f in found]
        session._history.restore(made, state["journal"], state["done"], state["undone"])

    def close(self) -> None:
        """Let go of models and folder."""
        self.models.forget()
        self.models.store.close()


def _kept(source: Any, which: int, session: Making) -> Any:
    """A text in a form that can be kept: its name, or else its tokens."""
    if source is None or isinstance(source, str | Tokens):
        return source
    return str(source) if isinstance(source, Path) else session.tokens()[which]
