"""Do again what a recipe says, and check that it comes out the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench import data
from workbench._registry import Registry
from workbench.data import Text, Tokens
from workbench.errors import ArgumentError, DataError
from workbench.jobs import Progress
from workbench.models import LM, as_lm
from workbench.prune._method import resolve
from workbench.prune.allocations import ALLOCATIONS
from workbench.prune.pipeline import prune
from workbench.prune.repair import REPAIRS
from workbench.prune.result import Pruned, Recipe


def repeat(
    model: Any,
    recipe: Recipe | str | Path,
    *,
    calibration: Tokens | Text | str | Path | None = None,
    inplace: bool = False,
    progress: Progress | None = None,
) -> Pruned:
    """Prune a model as a recipe says.

    Parameters
    ----------
    model
        The dense model that the recipe was made with.
    recipe
        A recipe, or the path of a ``recipe.json``.
    calibration
        The text that the recipe names; None if that was the built-in one, or if none was needed.
    inplace, progress
        As `workbench.prune` takes them.

    Raises
    ------
    ArgumentError
        If the model is another one, or the outcome differs from what the recipe lists.
    DataError
        If the calibration windows are not those of the recipe.
    """
    if not isinstance(recipe, Recipe):
        recipe = Recipe.from_json(Path(recipe).read_text(encoding="utf-8"))
    lm = as_lm(model)
    if lm.fingerprint != recipe.fingerprint:
        raise ArgumentError(
            f"model={lm!r} is not the one of the recipe ({recipe.source!r}, {recipe.fingerprint[:12]}): load that"
        )
    again = prune(
        lm,
        resolve(recipe.method, recipe.parameters),
        recipe.sparsity,
        pattern=None if recipe.pattern == "unstructured" else recipe.pattern,
        units=recipe.units,
        allocation=_stage(ALLOCATIONS, recipe.allocation),
        repair=_stage(REPAIRS, recipe.repair),
        calibration=_windows(lm, recipe, calibration),
        of=recipe.of,
        propagate=recipe.propagate,
        apply=recipe.apply,
        seed=recipe.seed,
        inplace=inplace,
        progress=progress,
    )
    differs = set(again.recipe.diff(recipe)) & {"removed", "removed_layers"}
    if differs:
        raise ArgumentError(
            f"the outcome differs from the recipe in {', '.join(sorted(differs))}: other versions made it?"
        )
    return again


def _stage(known: Registry[Any], said: Mapping[str, Any]) -> Any:
    given = dict(said)
    return known.resolve(given.pop("name", ""), given)


def _windows(lm: LM, recipe: Recipe, given: Tokens | Text | str | Path | None) -> Tokens | None:
    """The calibration windows of the recipe, drawn again and compared."""
    said = recipe.calibration
    if not said:
        return None
    tokens = given
    if not isinstance(tokens, Tokens):
        text = data.load_text(tokens) if isinstance(tokens, str | Path) else tokens
        tokens = data.calibration(lm, text, samples=said["samples"], seqlen=said["seqlen"], seed=said["seed"])
    if tokens.hash != said["hash"]:
        raise DataError(
            f"calibration: {tokens!r} is not what the recipe was made with ({said['text']!r}, {said['selection']}, "
            f"hash {said['hash'][:8]}): pass that text"
        )
    return tokens
