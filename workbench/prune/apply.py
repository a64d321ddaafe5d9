"""Change a model: copy it, zero units or take them out, take layers out.

Unless told to reuse memory, nothing here touches a tensor that it did not make: weights are replaced, never written
into, so that a model and its pruned copy can share what has not changed while the work goes on. `unshare` ends that.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workbench.architecture import Architecture, matrix
from workbench.errors import ArgumentError


def shared_copy(module: PreTrainedModel) -> PreTrainedModel:
    """A copy of a model that shares every tensor with it."""
    tensors = (*module.parameters(), *module.buffers())
    return copy.deepcopy(module, {id(t): t for t in tensors})


def unshare(module: PreTrainedModel, original: PreTrainedModel) -> None:
    """Give ``module`` tensors of its own wherever it still holds those of ``original``; ties stay ties."""
    theirs = {id(t) for t in (*original.parameters(), *original.buffers())}
    own: dict[int, torch.Tensor] = {}
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, tensor in held.items():
                if tensor is None or id(tensor) not in theirs:
                    continue
                if id(tensor) not in own:
                    fresh = tensor.detach().clone()
                    if isinstance(tensor, nn.Parameter):
                        fresh = nn.Parameter(fresh, requires_grad=tensor.requires_grad)
                    own[id(tensor)] = fresh
                held[name] = own[id(tensor)]  # type: ignore[assignment]


def set_matrix(module: Any, weight: torch.Tensor, *, reuse: bool = False) -> None:
    """Replace the weight of a linear map by ``[out, in]``, in the dtype that it had.

    ``reuse`` writes into the memory that is there: for a model that may be changed in place.
    """
    old = module.weight
    if reuse and matrix(module).shape == weight.shape:
        matrix(module).copy_(weight)
        return
    value = (weight.T if isinstance(module, Conv1D) else weight).to(old.dtype).contiguous()
    module.weight = nn.Parameter(value, requires_grad=old.requires_grad)


def add_bias(module: Any, bias: torch.Tensor | None) -> None:
    """Add to the bias of a linear map, making one if there is none."""
    if bias is None:
        return
    old = getattr(module, "bias", None)
    value = bias.to(module.weight.dtype) if old is None else (old.detach() + bias).to(old.dtype)
    module.bias = nn.Parameter(value, requires_grad=module.weight.requires_grad)


def zero_units(architecture: Architecture, layer: int, removed: Mapping[str, torch.Tensor]) -> None:
    """Set every weight of some units to zero; shapes stay.

    Parameters
    ----------
    removed
        Unit indices by kind.
    """
    for kind, units in removed.items():
        for slot in architecture.slots(kind, layer) if len(units) else ():
            module = architecture.linear(layer, slot.module)
            if module.weight.ndim == 1:
                continue  # a norm's scale: what it scales is zero already
            gone = slot.index[units].flatten()
            weight = matrix(module).clone()
            weight[(gone,) if slot.axis == 0 else (slice(None), gone)] = 0
            set_matrix(module, weight)
            if slot.axis == 0 and module.bias is not None:
                bias = module.bias.detach().clone()
                bias[gone] = 0
                module.bias = nn.Parameter(bias, requires_grad=module.weight.requires_grad)


def remove_units(architecture: Architecture, layer: int, removed: Mapping[str, torch.Tensor]) -> None:
    """Take units out of a layer: tensors get smaller, the output is that of `zero_units`.

    A norm over all heads' entries (OLMo2) divides by their number, so its scale is multiplied by
    ``sqrt(entries before / entries after)``; `Architecture.resize` adapts its epsilon.
    """
    plans = [(architecture.slots(kind, layer), units) for kind, units in removed.items() if len(units)]
    for slots, units in plans:
        for slot in slots:
            module = architecture.linear(layer, slot.module)
            keep = _kept(slot.index, units, module.weight.shape[0] if module.weight.ndim == 1 else None)
            if module.weight.ndim == 1:
                scale = (module.weight.numel() / keep.numel()) ** 0.5
                module.weight = nn.Parameter(
                    module.weight.detach()[keep] * scale, requires_grad=module.weight.requires_grad
                )
                continue
            set_matrix(module, matrix(module).index_select(slot.axis, keep.to(module.weight.device)))
            if slot.axis == 0 and module.bias is not None:
                module.bias = nn.Parameter(module.bias.detach()[keep], requires_grad=module.weight.requires_grad)
    if plans:
        architecture.resize(layer)


def _kept(index: torch.Tensor, units: torch.Tensor, size: int | None) -> torch.Tensor:
    """Rows or columns that stay, in their old order."""
    everything = torch.ones(size or int(index.max()) + 1, dtype=torch.bool)
    everything[index[units].flatten()] = False
    return everything.nonzero()[:, 0]


def remove_layers(architecture: Architecture, layers: Iterable[int]) -> None:
    """Take whole layers out and renumber the rest, in the modules and in the configuration.

    Raises
    ------
    ArgumentError
        If no layer would be left.
    """
    gone, config = set(layers), architecture.module.config
    keep = [i for i in range(architecture.num_layers) if i not in gone]
    if not keep:
        raise ArgumentError("every layer would be removed: at least one must stay")
    holder, _, name = architecture.family.layers.rpartition(".")
    stay = nn.ModuleList([architecture.layers[i] for i in keep])
    count = architecture.num_layers
    setattr(architecture.module.get_submodule(holder), name, stay)
    for key in ("layer_types", "no_rope_layers"):
        listed = getattr(config, key, None)
        if isinstance(listed, list) and len(listed) == count:
            setattr(config, key, [listed[i] for i in keep])
    config.num_hidden_layers = len(keep)
    for number, layer in enumerate(stay):
        for part in layer.modules():
            if hasattr(part, "layer_idx"):
                setattr(part, "layer_idx", number)  # noqa: B010 - a module's attributes are typed as tensors
