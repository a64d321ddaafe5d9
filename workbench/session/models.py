"""The models of a session: a few in memory, the rest as what differs from the dense one, built when wanted."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.measure.memory import give_back
from workbench.models import LM
from workbench.prune.result import Pruned
from workbench.session.packing import build, pack, relink
from workbench.session.store import Store
from workbench.session.variants import Execution, Variant


class Models:
    """Hands out variants' models.

    Parameters
    ----------
    dense
        What they all differ from.
    store
        Keeps what differs.
    keep
        How many models are in memory at once besides the dense one.
    """

    def __init__(self, dense: LM, store: Store, keep: int) -> None:
        if keep < 1:
            raise ArgumentError(f"keep={keep!r}: at least 1 model must be held in memory")
        self.dense, self.store, self.keep = dense, store, keep
        self._held: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.RLock()

    def add(self, variant: Variant, model: Any, figures: dict[str, Any]) -> None:
        """Keep a new variant and its model; what the model has in common with the dense one is in memory once."""
        with self._lock:
            packed = None
            if isinstance(model, Pruned):
                packed = pack(model.lm, self.dense)
                figures["seconds_of_pruning"] = (model.seconds, model.cpu_seconds, model.peak_bytes)
            self.store.add(variant.number, figures, packed)
            if packed is not None:
                relink(model.lm, self.dense, packed)
            self._hold(variant.number, model)

    def model(self, variant: Variant) -> Any:
        """A variant's model: the same object as long as it is in memory."""
        with self._lock:
            if variant.number not in self._held:
                self.make_room(variant.parent)
                self._hold(variant.number, self._made(variant))
            self._held.move_to_end(variant.number)
            return self._held[variant.number]

    @property
    def held(self) -> tuple[int, ...]:
        """Numbers of the variants whose models are in memory."""
        return tuple(self._held)

    def make_room(self, base: int = 0) -> None:
        """Before a model is made: let go of what would be one too many, but not of what it is made from."""
        with self._lock:
            others = [number for number in self._held if number != base]
            for number in others[: max(0, len(others) - self.keep + 1)]:
                del self._held[number]
        give_back()

    def forget(self) -> None:
        """Let go of all models; they are built again when wanted."""
        with self._lock:
            self._held.clear()

    def _hold(self, number: int, model: Any) -> None:
        self._held[number] = model
        while len(self._held) > self.keep:
            self._held.popitem(last=False)

    def _made(self, variant: Variant) -> Any:
        step = variant.lineage[-1]
        if isinstance(step, Execution):
            return compiled(self._base(variant.parent), step)
        return self._base(variant.number)

    def _base(self, number: int) -> Any:
        """What the numbered variant's weights are: the dense model, or a `Pruned`."""
        if not number:
            return self.dense
        if number in self._held:
            return self._held[number]
        figures = next(f for f in self.store.figures() if f["number"] == number)
        lm = build(self.store.packed(number), self.dense)
        return Pruned(lm, figures["recipe"], figures["report"], *figures["seconds_of_pruning"])


def compiled(model: Any, step: Execution, progress: Progress | None = None) -> Any:
    """A model compiled as a step says."""
    from workbench.execute.compiled import compile as compile_model

    return compile_model(model, progress=progress, **step.arguments())
