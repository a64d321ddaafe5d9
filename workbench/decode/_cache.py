"""What is done to the cache and the head of a transformers model beneath every target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DynamicCache


def cached_layers(cache: DynamicCache) -> list[Any]:
    """Those that hold anything."""
    layers: list[Any] = list(cache.layers)
    return [layer for layer in layers if layer.is_initialized]


def cut(cache: DynamicCache, length: int) -> None:
    """Keep the first ``length`` rows of every layer."""
    for layer in cached_layers(cache):
        if layer.keys.shape[-2] > length:
            layer.keys, layer.values = layer.keys[..., :length, :], layer.values[..., :length, :]


@contextmanager
def listening(head: torch.nn.Module, wanted: bool) -> Iterator[list[torch.Tensor]]:
    """What the output head is given, while the block runs."""
    heard: list[torch.Tensor] = []
    if not wanted:
        yield heard
        return
    hook = head.register_forward_pre_hook(lambda _module, args: heard.append(args[0]))
    try:
        yield heard
    finally:
        hook.remove()
