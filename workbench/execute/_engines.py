"""What `whole.time_model` times: engines that append tokens to a cache of their own."""

from __future__ import annotations

import copy
from typing import Any, Protocol

import numpy as np
import torch
from transformers import DynamicCache

from workbench.execute import _llama
from workbench.execute.compiled import Compiled
from workbench.models import LM

CONTEXT, VERIFY = 512, (8, 16)
BASELINE = "transformers fp32"


class Engine(Protocol):
    """Appends tokens to a cache of its own."""

    def reset(self) -> None:
        """Forget all tokens."""

    def forward(self, ids: np.ndarray) -> None:
        """Append tokens."""


class Transformers:
    """The model as transformers runs it."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.reset()

    def reset(self) -> None:
        """Forget all tokens."""
        self.cache = DynamicCache(config=self.module.config)

    def forward(self, ids: np.ndarray) -> None:
        """Append tokens."""
        tokens = torch.from_numpy(ids)[None]
        with torch.no_grad():
            self.module(input_ids=tokens, past_key_values=self.cache, use_cache=True, logits_to_keep=1)


class Own:
    """The compiled model."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled

    def reset(self) -> None:
        """Forget all tokens."""
        self.compiled.crop()

    def forward(self, ids: np.ndarray) -> None:
        """Append tokens."""
        self.compiled.forward(ids, last=len(ids) > max(VERIFY))


def engines_of(name: str, compiled: Compiled, dense: LM, threads: int) -> dict[str, Engine]:
    """The compiled model, transformers in two types, and llama.cpp where it is installed."""
    engines: dict[str, Engine] = {name: Own(compiled), BASELINE: Transformers(dense.module.float())}
    engines["transformers bf16"] = Transformers(copy.deepcopy(dense.module).bfloat16())
    if dense.source == "default" and _llama.available():
        for kind in _llama.TYPES:
            path = _llama.model_file(kind)
            if path is not None:
                engines[f"llama.cpp {kind}"] = _llama.Llama(path, threads, CONTEXT)
    return engines
