"""Slow, independent references: hooks on whole forward passes, loops over tokens, float64."""

from __future__ import annotations

import numpy as np
import torch

from workbench.data import Tokens
from workbench.models import LM

EPS = float(np.finfo(np.float32).eps)


def weight_of(lm: LM, layer: int, name: str) -> np.ndarray:
    """The float64 weight ``[out, in]`` of a linear by its short name."""
    module = lm.architecture.linears(layer)[name]
    weight = module.weight.detach().double().numpy()
    return weight.T if type(module).__name__ == "Conv1D" else weight


def inputs_of(lm: LM, tokens: Tokens) -> dict[tuple[int, str], np.ndarray]:
    """What every linear multiplies, ``[tokens, in]``, from whole forwards of one sequence each."""
    seen: dict[tuple[int, str], list[torch.Tensor]] = {}
    hooks = []
    for layer in range(lm.architecture.num_layers):
        for name, module in lm.architecture.linears(layer).items():
            rows = seen.setdefault((layer, name), [])
            hooks.append(module.register_forward_pre_hook(lambda _, args, rows=rows: rows.append(args[0][0].detach())))
    _forward(lm, tokens, hooks)
    return {key: torch.cat(rows).double().numpy() for key, rows in seen.items()}


def streams_of(lm: LM, tokens: Tokens) -> list[tuple[np.ndarray, np.ndarray]]:
    """Input and output of every layer, ``[tokens, hidden]``, as the layer itself gives them."""
    pairs: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []
    hooks = []
    for layer in lm.architecture.layers:
        came: list[torch.Tensor] = []
        went: list[torch.Tensor] = []
        pairs.append((came, went))

        def hook(_, args, out, came=came, went=went):
            came.append(args[0][0].detach())
            went.append((out[0] if isinstance(out, tuple) else out)[0].detach())

        hooks.append(layer.register_forward_hook(hook))
    _forward(lm, tokens, hooks)
    return [(torch.cat(a).double().numpy(), torch.cat(b).double().numpy()) for a, b in pairs]


def _forward(lm: LM, tokens: Tokens, hooks: list) -> None:
    with torch.no_grad():
        for row in tokens.ids:
            lm.module(torch.from_numpy(row)[None], use_cache=False)
    for hook in hooks:
        hook.remove()


def mean_losses(module: torch.nn.Module, tokens: Tokens) -> torch.Tensor:
    """Mean next-token loss of every sequence, ``[samples]``; gradients flow."""
    out = []
    for row in tokens.ids:
        ids = torch.from_numpy(row)[None]
        logits = module(ids, use_cache=False).logits[0, :-1].float()
        out.append(torch.nn.functional.cross_entropy(logits, ids[0, 1:]))
    return torch.stack(out)


def gradients_of(lm: LM, tokens: Tokens) -> dict[str, torch.Tensor]:
    """Gradient of the summed `mean_losses` by parameter name: plain autograd through the whole model."""
    own = dict(lm.module.named_parameters())
    with torch.enable_grad():
        found = torch.autograd.grad(mean_losses(lm.module, tokens).sum(), list(own.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(own.items(), found, strict=True)}


def damped_hessian(X: np.ndarray, damp: float) -> np.ndarray:
    """SparseGPT's ``H`` of inputs ``[tokens, in]``: the mean of ``x x^T`` and ``damp`` of its mean diagonal."""
    H = X.T @ X / len(X)
    return H + damp * np.mean(np.diag(H)) * np.eye(len(H))


def sparsegpt(W, X, *, damp=0.01, block=128, count=None, nm=None, mask=None):
    """SparseGPT from its definition: H is cut down and inverted anew for every column.

    ``count`` weights of the matrix go, shared out over blocks by their width; or N of every M (``nm``: keep, of); or
    what ``mask`` says. Returns the new weight and the mask.
    """
    W, H = W.astype(np.float64).copy(), damped_hessian(X.astype(np.float64), damp)
    rows, columns = W.shape
    inverses = [np.linalg.inv(H[j:, j:]) for j in range(columns)]
    d = np.array([inverse[0, 0] for inverse in inverses])  # [H_F^-1]_jj, F = {j, j + 1, ...}
    M = np.zeros(W.shape, bool) if mask is None else mask.copy()
    for j in range(columns):
        if count is not None and j % block == 0:
            stop = min(j + block, columns)
            share = count * stop // columns - count * j // columns
            scores = W[:, j:stop] ** 2 / d[j:stop]
            chosen = np.zeros(scores.size, bool)
            chosen[np.argsort(scores, axis=None, kind="stable")[:share]] = True
            M[:, j:stop] = chosen.reshape(scores.shape)
        if nm is not None and j % nm[1] == 0:
            for r in range(rows):
                scores = W[r, j : j + nm[1]] ** 2 / d[j : j + nm[1]]
                M[r, j + np.argsort(scores, kind="stable")[: nm[1] - nm[0]]] = True
        error = np.where(M[:, j], W[:, j], 0.0) / d[j]
        W[:, j:] -= np.outer(error, inverses[j][0])
    W[M] = 0.0
    return W, M


def obs_tolerance(W: np.ndarray, H: np.ndarray) -> float:
    """Bound on what float32 makes of a sweep: a backward-stable solve with ``H``, errors scaled by its condition."""
    return float(len(H) * EPS * np.linalg.cond(H) * np.abs(W).max())


def lowest_of(scores: np.ndarray, count: int) -> set[int]:
    """Flat positions of the ``count`` lowest, by a full sort."""
    return set(np.argsort(scores, axis=None, kind="stable")[:count].tolist())
