"""Weights and inputs of a real model's layers as plain arrays, for a look at what an answer does to them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from workbench.architecture import matrix
from workbench.data import calibration
from workbench.errors import unknown
from workbench.execute._target import layer_paths
from workbench.models import as_lm


def real_layers(
    model: Any, paths: Sequence[str], *, tokens: int = 256, seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Weight and inputs of some linear layers.

    Parameters
    ----------
    model
        E.g. ``workbench.load()``.
    paths
        E.g. ``["layers.0.mlp.up_proj"]``.
    tokens
        How many tokens of the calibration text the model reads.

    Returns
    -------
    dict of str to (float32 [N, K], float32 [tokens, K])
        The weight (outputs, inputs), and what went in.

    Raises
    ------
    ArgumentError
        If there is no such layer.
    """
    lm = as_lm(model)
    modules = layer_paths(lm.architecture)
    found: dict[str, np.ndarray] = {}

    def keep(path: str) -> Any:
        def hook(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            found[path] = inputs[0].detach().float().reshape(-1, inputs[0].shape[-1]).cpu().numpy()

        return hook

    with ExitStack() as hooks, torch.no_grad():
        for path in paths:
            if path not in modules:
                raise unknown("layer", path, modules)
            handle = modules[path].register_forward_pre_hook(keep(path))
            hooks.callback(handle.remove)
        ids = calibration(lm, samples=1, seqlen=tokens, seed=seed).ids
        lm.module(torch.from_numpy(ids).to(lm.device), use_cache=False)
    return {path: (matrix(modules[path]).detach().float().cpu().numpy(), found[path]) for path in paths}
