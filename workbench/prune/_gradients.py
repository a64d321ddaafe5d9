"""Gradients of the calibration loss, one layer's at a time.

The forward pass keeps every layer's input; the backward pass then goes down the layers, runs each again with
gradients on and adds up over all sequences before it moves on. So memory holds the layers' inputs
(4 * layers * tokens * hidden bytes) and the gradients of one layer, never those of the whole model.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from workbench.architecture import Architecture
from workbench.data import Tokens
from workbench.jobs import Progress
from workbench.prune._runner import LayerRunner


def gradients(
    architecture: Architecture, tokens: Tokens, progress: Progress
) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
    """Sum over sequences of the gradient of the mean next-token loss of a sequence, from the last layer to the first.

    Yields
    ------
    index : int
        Of the layer.
    gradients : dict of Tensor
        By parameter name within the layer, in the parameter's own layout.
    """
    count = architecture.num_layers
    runner = LayerRunner(architecture, tokens, progress)
    inputs = []
    for index in range(count):
        progress.step("forward", index, 2 * count)
        inputs.append(runner.hidden.clone())
        runner.run(index)
    upstream = _loss_gradient(runner)
    for index in reversed(range(count)):
        progress.step("backward", 2 * count - index - 1, 2 * count)
        layer = architecture.layers[index]
        own = dict(layer.named_parameters())
        sums = {name: torch.zeros_like(p) for name, p in own.items()}
        for batch in runner.batches:
            progress.check()
            with torch.enable_grad(), _training(own):
                hidden = inputs[index][batch].requires_grad_()
                out = runner.layer(index, hidden)
                found = torch.autograd.grad(out, [hidden, *own.values()], upstream[batch], allow_unused=True)
            upstream[batch] = found[0]
            for name, gradient in zip(own, found[1:], strict=True):
                if gradient is not None:
                    sums[name] += gradient
        inputs.pop()
        yield index, sums
    progress.step("backward", 2 * count, 2 * count)


def _loss_gradient(runner: LayerRunner) -> torch.Tensor:
    """dLoss/d(last layer's output) ``[samples, seqlen, hidden]``, a sequence at a time (logits are large)."""
    upstream = torch.empty_like(runner.hidden)
    for s in range(runner.hidden.shape[0]):
        runner.progress.check()
        one = slice(s, s + 1)
        with torch.enable_grad():
            hidden = runner.hidden[one].clone().requires_grad_()
            (upstream[one],) = torch.autograd.grad(runner.losses(one, hidden).mean(), hidden)
    return upstream


class _training:  # noqa: N801 - reads as a word in a with statement
    """Turn on gradients of some parameters, and put them back as they were."""

    def __init__(self, parameters: dict[str, torch.nn.Parameter]) -> None:
        self._before = {p: p.requires_grad for p in parameters.values()}

    def __enter__(self) -> None:
        for parameter in self._before:
            parameter.requires_grad_()

    def __exit__(self, *_: object) -> None:
        for parameter, before in self._before.items():
            parameter.requires_grad_(before)
