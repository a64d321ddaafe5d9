"""A model as what differs from its dense original: shared tensors, masks as bits, and tensors that changed.

    every tensor:   the same bits as the dense one       -> "same", nothing is kept
                    the dense one with zeros in it       -> "masked", one bit a weight
                    anything else                        -> "stored", as it is

so that ten masked variants of a model take ten times a 32nd of its bytes. `build` is exact, bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from workbench._per_layer import build_per_layer, per_layer_config
from workbench.models import LM
from workbench.prune.apply import shared_copy

Tensors = dict[str, torch.Tensor]
_INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """What `build` needs besides the dense model.

    Attributes
    ----------
    kinds
        ``"same"``, ``"masked"`` or ``"stored"`` by name of the tensor.
    masks
        Uint8, one bit per weight, the first in the highest bit; 1 is kept.
    stored
        Tensors that changed.
    config
        config.json of a per-layer checkpoint where shapes differ from the dense model's, else None.
    """

    kinds: Mapping[str, str]
    masks: Tensors
    stored: Tensors
    config: Mapping[str, Any] | None

    @property
    def nbytes(self) -> int:
        """Of masks and stored tensors."""
        return sum(t.numel() * t.element_size() for t in (*self.masks.values(), *self.stored.values()))


def pack(lm: LM, dense: LM) -> Packed:
    """Describe a model by its dense original; neither is changed, stored tensors are shared with ``lm``."""
    base, own = _state(dense), _state(lm)
    kinds: dict[str, str] = {}
    masks: Tensors = {}
    stored: Tensors = {}
    for name, tensor in own.items():
        before = base.get(name)
        kinds[name] = "stored"
        if before is not None and before.shape == tensor.shape and before.dtype == tensor.dtype:
            kept = _bits(tensor) == _bits(before)
            if bool(kept.all()):
                kinds[name] = "same"
                continue
            if bool((kept | (_bits(tensor) == 0)).all()):
                kinds[name] = "masked"
                masks[name] = torch.from_numpy(np.packbits(kept.cpu().numpy().reshape(-1)))
                continue
        stored[name] = tensor.detach().cpu()
    reshaped = any(name not in own or own[name].shape != base[name].shape for name in base)
    return Packed(kinds, masks, stored, per_layer_config(lm.architecture) if reshaped else None)


def build(packed: Packed, dense: LM) -> LM:
    """The model again; what is the same is shared with ``dense``."""
    base, tensors = _state(dense), {}
    for name, kind in packed.kinds.items():
        if kind == "same":
            tensors[name] = base[name]
        elif kind == "masked":
            kept = np.unpackbits(packed.masks[name].numpy(), count=base[name].numel()).astype(bool)
            mask = torch.from_numpy(kept).reshape(base[name].shape).to(base[name].device)
            tensors[name] = torch.where(mask, base[name], torch.zeros((), dtype=base[name].dtype))
        else:
            tensors[name] = packed.stored[name].to(dense.device)
    if packed.config is not None:
        dtype = dense.module.dtype
        module = build_per_layer(dict(packed.config), tensors, dtype, "what was kept of this variant")
        module.generation_config = dense.module.generation_config
    else:
        module = shared_copy(dense.module)
        for name, tensor in tensors.items():
            if packed.kinds[name] != "same":
                _put(module, name, tensor)
        module.tie_weights()
    return LM(module.eval(), dense.tokenizer, dense.source)


def relink(lm: LM, dense: LM, packed: Packed) -> None:
    """Let a model share with its original whatever is the same, so that it is in memory once."""
    parts = dict(dense.module.named_parameters()) | dict(dense.module.named_buffers())
    for name, kind in packed.kinds.items():
        if kind == "same" and name in parts:
            _put(lm.module, name, parts[name])
    lm.module.tie_weights()


def _put(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    if leaf in owner._buffers:
        owner._buffers[leaf] = tensor
    else:
        owner._parameters[leaf] = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)


def _state(lm: LM) -> Tensors:
    """Tensors by name; what is tied is there once."""
    tied = set(getattr(lm.module, "all_tied_weights_keys", None) or ())
    return {k: v.detach() for k, v in lm.module.state_dict().items() if k not in tied}


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(_INTEGER[tensor.element_size()])
