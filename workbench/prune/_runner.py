"""Run a causal LM layer by layer over many sequences, holding one hidden state per token and nothing else.

    tokens -> embeddings -> [layer 0] -> [layer 1] -> ... -> final norm, head

The arguments that a model gives its layers (masks, rotary tables, ...) are recorded once per batch size while the
layers are replaced by stubs, so that any family of models runs here unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from workbench.architecture import Architecture
from workbench.data import Tokens
from workbench.jobs import Progress

BATCH_TOKENS = 2048


class Stop(Exception):
    """Raised by a hook once nothing after it is needed."""


class LayerRunner:
    """Hidden states of all sequences, moved through the layers one at a time.

    Parameters
    ----------
    architecture
        Of the model to run.
    tokens
        The sequences, ``[samples, seqlen]``.
    progress
        Checked before every submodule's forward.

    Attributes
    ----------
    hidden : Tensor [samples, seqlen, hidden]
        Inputs of the layer that runs next.
    """

    def __init__(self, architecture: Architecture, tokens: Tokens, progress: Progress) -> None:
        self.architecture, self.progress = architecture, progress
        device = architecture.module.device
        self.ids = torch.from_numpy(tokens.ids).to(device)
        size = max(1, BATCH_TOKENS // tokens.seqlen)
        self.batches = [slice(s, min(s + size, tokens.samples)) for s in range(0, tokens.samples, size)]
        self._calls: dict[int, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {}
        self.hidden = self._embed()

    def _embed(self) -> torch.Tensor:
        first: torch.Tensor | None = None
        for batch in self.batches:
            calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
            inputs: list[torch.Tensor] = []

            def record(_: int, hidden: torch.Tensor, args: Any, kwargs: Any, c: Any = calls, i: Any = inputs) -> Any:
                c.append((args, kwargs))
                i.append(hidden)
                return hidden

            with stubbed(self.architecture.layers, record), torch.no_grad(), self._interrupting():
                self.architecture.module.base_model(self.ids[batch], use_cache=False)
            self._calls[inputs[0].shape[0]] = calls
            if first is None:
                first = inputs[0].new_empty((*self.ids.shape, inputs[0].shape[-1]))
            first[batch] = inputs[0]
        if first is None:
            raise RuntimeError("no sequences to run")
        return first

    def _interrupting(self) -> Any:
        return self.progress.interrupting(self.architecture.module)

    def layer(self, index: int, hidden: torch.Tensor) -> torch.Tensor:
        """Output ``[batch, seqlen, hidden]`` of one layer for one batch; gradients flow if they are on."""
        args, kwargs = self._calls[hidden.shape[0]][index]
        out = self.architecture.layers[index](hidden, *args, **kwargs)
        return out[0] if isinstance(out, tuple) else out

    def run(
        self,
        index: int,
        *,
        keep: bool = True,
        each: Callable[[torch.Tensor, torch.Tensor], None] | None = None,
    ) -> None:
        """Run layer ``index`` over all batches.

        Parameters
        ----------
        keep
            Whether its outputs become `hidden`; without, hooks may raise `Stop` to skip the rest of a batch.
        each
            Called with the inputs and outputs of every batch.
        """
        with torch.no_grad(), self._interrupting():
            for batch in self.batches:
                hidden = self.hidden[batch]
                try:
                    out = self.layer(index, hidden)
                except Stop:
                    continue
                if each is not None:
                    each(hidden, out)
                if keep:
                    self.hidden[batch] = out

    def logits(self, batch: slice, hidden: torch.Tensor) -> torch.Tensor:
        """What norm and head make of the last layer's output: ``[batch, seqlen, vocabulary]``."""

        def tail(index: int, given: torch.Tensor, *_: Any) -> torch.Tensor:
            return hidden if index == 0 else given

        with stubbed(self.architecture.layers, tail):
            return self.architecture.module(self.ids[batch], use_cache=False).logits

    def losses(self, batch: slice, hidden: torch.Tensor) -> torch.Tensor:
        """Next-token negative log-likelihood in nats, ``[batch * (seqlen - 1)]``."""
        logits = self.logits(batch, hidden)[:, :-1].float()
        return nn.functional.cross_entropy(logits.flatten(0, 1), self.ids[batch][:, 1:].flatten(), reduction="none")


@contextmanager
def stubbed(layers: nn.ModuleList, stub: Callable[..., torch.Tensor]) -> Iterator[None]:
    """Replace the forward of every layer by ``stub(index, hidden, args, kwargs)``, and put them back."""

    def forward(index: int) -> Callable[..., torch.Tensor]:
        return lambda hidden, *args, **kwargs: stub(index, hidden, args, kwargs)

    for index, layer in enumerate(layers):
        layer.forward = forward(index)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
