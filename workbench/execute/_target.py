"""Which matrix is meant: a layer of a model, or a shape with a pattern."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench import render
from workbench.architecture import Architecture, matrix
from workbench.errors import ArgumentError
from workbench.execute import patterns
from workbench.models import as_lm

HEAD = "head"


@dataclass(frozen=True, slots=True)
class Target:
    """A matrix to time kernels on.

    Attributes
    ----------
    title
        In words.
    weight
        Float32 ``[N, K]``.
    pattern
        As it was asked for; empty if the matrix is a model's.
    """

    title: str
    weight: np.ndarray
    pattern: str


def target_of(given: Any, pattern: str | None, sparsity: float | None, seed: int) -> Target:
    """The matrix of ``(model, path)`` or of a shape.

    Raises
    ------
    ArgumentError
        If it is neither, or the path names no weight: the near ones are listed.
    """
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ArgumentError(f'{given!r} is neither a shape (outputs, inputs) nor (model, "layers.3.mlp.up_proj")')
    first, second = given
    if isinstance(second, str):
        if pattern is not None or sparsity is not None:
            raise ArgumentError("pattern and sparsity belong to a shape: a layer has its own zeros")
        name, weight = layer_weight(first, second)
        return Target(name, weight, "")
    sizes = [n for n in given if isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 1]
    if len(sizes) != 2:
        raise ArgumentError(f"shape={given!r}: two whole numbers of at least 1, outputs and inputs")
    shape, chosen = (int(sizes[0]), int(sizes[1])), pattern or "unstructured"
    weight = patterns.random_weight(shape, chosen, sparsity, seed)
    zeros = 1 - np.count_nonzero(weight) / weight.size
    return Target(f"{shape[0]} x {shape[1]}, {chosen}, {render.share(round(zeros, 3))} zero", weight, chosen)


def layer_weight(model: Any, path: str) -> tuple[str, np.ndarray]:
    """Name and float32 ``[N, K]`` of a weight of a model."""
    arch = as_lm(model).architecture
    paths = layer_paths(arch)
    short = path.removeprefix(arch.family.layers.rpartition(".")[0] + ".")
    own = arch.family.layers.rpartition(".")[2]
    name = "layers" + short.removeprefix(own) if short.startswith(own + ".") else short
    if name not in paths:
        near = " or ".join(map(repr, difflib.get_close_matches(name, paths, n=3, cutoff=0.5)))
        raise ArgumentError(
            f"unknown layer {path!r}: {f'did you mean {near}? ' if near else ''}"
            f"There are layers 0 to {arch.num_layers - 1} with {', '.join(arch.linear_paths)}, and {HEAD!r}"
        )
    weight = matrix(paths[name]).float().cpu().contiguous().numpy()
    return name, weight


def layer_paths(arch: Architecture) -> dict[str, Any]:
    """Every prunable linear map by a name that all families share, e.g. ``"layers.0.mlp.up_proj"``; and the head."""
    found = {f"layers.{i}.{p}": arch.linear(i, p) for i in range(arch.num_layers) for p in arch.linear_paths}
    head = arch.module.get_output_embeddings()
    return found if head is None else found | {HEAD: head}
