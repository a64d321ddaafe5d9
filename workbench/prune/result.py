"""What pruning returns: the pruned model, what was done to it, and how to do it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from workbench import render
from workbench._files import write_text
from workbench.errors import ArgumentError
from workbench.models import LM
from workbench.render import Section
from workbench.results import Result

RECIPE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that made a pruned model, ready for JSON: replayable, and two of them can be compared.

    Attributes
    ----------
    method, parameters
        Registry name and hyper-parameters.
    sparsity, of
        The asked fraction, and of which parameters.
    pattern, units, allocation, repair, propagate, apply
        The stages, as `workbench.prune` takes them.
    seed
        Of the calibration windows.
    source, fingerprint
        The dense model: what loads it, and what it was.
    calibration
        Provenance of the calibration text (name, SHA-256, span, samples, seqlen, hash); empty without data.
    removed
        Per layer of the dense model, the unit indices that went, by kind.
    removed_layers
        Layers that went whole.
    """

    method: str
    parameters: Mapping[str, Any]
    sparsity: float
    of: str = "non-embedding"
    pattern: str = "unstructured"
    units: tuple[str, ...] = ()
    allocation: Mapping[str, Any] = field(default_factory=dict)
    repair: Mapping[str, Any] = field(default_factory=dict)
    propagate: bool = False
    apply: str = "remove"
    seed: int = 0
    source: str = ""
    fingerprint: str = ""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    removed: tuple[Mapping[str, tuple[int, ...]], ...] = ()
    removed_layers: tuple[int, ...] = ()
    version: int = RECIPE_VERSION

    def to_json(self) -> str:
        """The recipe as JSON text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read `to_json`'s text.

        Raises
        ------
        ArgumentError
            If the text is no recipe of this version.
        """
        try:
            data = json.loads(text)
            if data.get("version") != RECIPE_VERSION:
                raise ArgumentError(f"the recipe is of version {data.get('version')!r}, this reads {RECIPE_VERSION}")
            data["units"] = tuple(data["units"])
            data["removed_layers"] = tuple(data["removed_layers"])
            data["removed"] = tuple({k: tuple(v) for k, v in r.items()} for r in data["removed"])
            return cls(**data)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArgumentError(f"this is not a recipe ({error}): want what Recipe.to_json wrote") from error

    def save(self, path: str | Path) -> None:
        """Write the recipe to a file, whole or not at all."""
        write_text(path, self.to_json() + "\n")

    def diff(self, other: Recipe) -> dict[str, tuple[Any, Any]]:
        """The fields in which two recipes differ, with both values."""
        pairs = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return {name: (a, b) for name, a, b in pairs if a != b}


@dataclass(frozen=True, slots=True)
class ModuleReport:
    """What became of one weight matrix: its numbers of weights kept, set to zero, and gone.

    Attributes
    ----------
    layer
        Of the dense model.
    name
        Short name of the matrix.
    """

    layer: int
    name: str
    kept: int
    zeroed: int
    removed: int

    @property
    def kept_share(self) -> float:
        """Share of the dense matrix that is still there and not zero."""
        return self.kept / max(self.kept + self.zeroed + self.removed, 1)


@dataclass(frozen=True, repr=False, eq=False)
class Report(Result):
    """What pruning did: *zeroed* (a mask: nothing is smaller yet) and *removed* (bytes are gone) apart.

    Attributes
    ----------
    parameters_before, parameters_after
        Of the whole model, tied ones once.
    zeroed, removed
        Parameters set to zero, and parameters gone (those that a repair added are subtracted).
    base
        Parameters that the sparsity is a fraction of.
    """

    modules: tuple[ModuleReport, ...]
    parameters_before: int
    parameters_after: int
    zeroed: int
    removed: int
    base: int
    of: str

    @property
    def true_sparsity(self) -> float:
        """Share of ``base`` that is zeroed or removed."""
        return (self.zeroed + self.removed) / self.base

    def kept(self) -> np.ndarray:
        """Share kept, float32 ``[layers, matrices]``, layers of the dense model."""
        names = self.names
        out = np.zeros((max(m.layer for m in self.modules) + 1, len(names)), np.float32)
        for m in self.modules:
            out[m.layer, names.index(m.name)] = m.kept_share
        return out

    @property
    def names(self) -> tuple[str, ...]:
        """Short names of the matrices, in order."""
        return tuple(dict.fromkeys(m.name for m in self.modules))

    def _headline(self) -> str:
        return (
            f"{self.true_sparsity:.2%} of {self.base:,} {self.of} parameters: "
            f"{self.zeroed:,} zeroed, {self.removed:,} removed"
        )

    def _sections(self) -> tuple[Section, ...]:
        rows = [
            ("true sparsity", f"{self.true_sparsity:.4%} of the {self.base:,} {self.of} parameters"),
            ("zeroed (no gain by itself)", f"{self.zeroed:,}"),
            ("removed (gone)", f"{self.removed:,}"),
            ("parameters", f"{self.parameters_before:,} -> {self.parameters_after:,}"),
        ]
        kept = self.kept()
        table = [(i, *(f"{v:.1%}" for v in row)) for i, row in enumerate(kept)]
        return (
            render.section("Size", rows),
            render.section("Kept, per layer and matrix", table, ("layer", *self.names)),
        )


@dataclass(frozen=True, repr=False, eq=False)
class Pruned(Result):
    """A pruned model; the dense one is untouched.

    Attributes
    ----------
    lm
        Handle of the pruned model.
    recipe, report
        What was done, and what it did.
    seconds, cpu_seconds
        Wall time and processor time of pruning.
    peak_bytes
        Largest resident memory of the process meanwhile.
    """

    lm: LM
    recipe: Recipe
    report: Report
    seconds: float
    cpu_seconds: float
    peak_bytes: int

    def masks(self) -> dict[tuple[int, str], np.ndarray]:
        """Where weights are zero, by (layer, short name): bool ``[out, in]``, of the pruned model as it is."""
        from workbench.architecture import matrix

        a = self.lm.architecture
        return {
            (i, name): (matrix(m) == 0).cpu().numpy() for i in range(a.num_layers) for name, m in a.linears(i).items()
        }

    def _headline(self) -> str:
        r = self.recipe
        return f"Pruned({r.method}, {self.report._headline()}, {self.seconds:.1f} s)"

    def _sections(self) -> tuple[Section, ...]:
        r = self.recipe
        rows = [
            ("method", f"{r.method} {dict(r.parameters) or ''}".strip()),
            ("asked", f"{r.sparsity:.4g} of {r.of} parameters, {r.pattern}"),
            (
                "stages",
                f"allocation {r.allocation.get('name')}, repair {r.repair.get('name')}, apply {r.apply}",
            ),
            ("calibration", r.calibration.get("text", "none")),
            ("wall time (s)", round(self.seconds, 2)),
            ("peak memory (MiB)", round(self.peak_bytes / 2**20)),
        ]
        return (render.section("Recipe", rows), *self.report._sections())

    def to_dict(self) -> dict[str, Any]:
        """Recipe, report and cost, ready for JSON; not the model."""
        return {
            "recipe": json.loads(self.recipe.to_json()),
            "sparsity": self.recipe.sparsity,
            "true_sparsity": self.report.true_sparsity,
            "parameters_before": self.report.parameters_before,
            "parameters_after": self.report.parameters_after,
            "parameters_removed": self.report.removed,
            "parameters_zeroed": self.report.zeroed,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "peak_bytes": self.peak_bytes,
        }
