"""Checkpoints whose layers have sizes of their own: their config.json, and how they are read.

    config.json        the dense sizes, and under ``per_layer_config`` each layer's own (transformers' schema)
    *.safetensors      the tensors, whose shapes alone determine the model

transformers 5 knows the schema, but none of its models builds from it yet: it refuses such a folder as soon as one
size differs from the global one. Where none does (only biases were added, say) it would drop what it does not know
without an error; the global width is written as 0 there, so that it refuses these folders too.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.pytorch_utils import Conv1D

from workbench._quiet import quiet
from workbench._sources import read_config
from workbench.architecture import UNIT_KINDS, Architecture, describe, matrix
from workbench.errors import ModelError
from workbench.families import FAMILIES

Tensors = dict[str, torch.Tensor]


def sizes_of(arch: Architecture, layer: int) -> tuple[int, int, int]:
    """MLP width, query heads and key/value heads of a layer, in the order of `Family.sizes`."""
    return arch.neurons(layer), arch.query_heads(layer), arch.kv_heads(layer)


def per_layer_config(arch: Architecture) -> dict[str, Any]:
    """config.json of a per-layer checkpoint."""
    config = arch.module.config.to_dict()
    keys = arch.family.sizes
    own = {str(i): {k: v for k, v in zip(keys, sizes_of(arch, i), strict=True) if k} for i in range(arch.num_layers)}
    if all(config.get(key) == value for sizes in own.values() for key, value in sizes.items()):
        config[keys[0]] = 0
    return config | {"per_layer_config": own, "architectures": [type(arch.module).__name__]}


def load_per_layer(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Read a checkpoint whose layers have sizes of their own; the tensors' shapes say them.

    Raises
    ------
    ModelError
        If tensors are missing, unknown, or of shapes that fit no model of the family.
    """
    tensors: Tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    module = build_per_layer(read_config(folder), tensors, dtype, str(folder))
    if (folder / "generation_config.json").is_file():
        module.generation_config = type(module.generation_config).from_pretrained(folder)
    return module


def build_per_layer(raw: dict[str, Any], tensors: Tensors, dtype: torch.dtype, folder: str) -> PreTrainedModel:
    """The model of a config.json and tensors of that dtype, which it holds without copying; errors name ``folder``."""
    module = _dense(raw, folder, dtype)
    _fill(module, tensors, dtype, folder)
    module.tie_weights()
    arch = describe(module)
    for layer in range(arch.num_layers):
        _check_layer(arch, layer, folder)
        arch.resize(layer)
    return module.eval()


def _dense(raw: dict[str, Any], folder: str, dtype: torch.dtype) -> PreTrainedModel:
    """The model of the dense sizes; its weights are neither drawn nor read."""
    own, kind = raw.pop("per_layer_config", None), raw.pop("model_type", None)
    if kind not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise ModelError(f"{folder} is of the model family {kind!r}, which is not described. Described: {known}")
    width = FAMILIES[kind].sizes[0]
    if raw.get(width) == 0 and isinstance(own, dict) and isinstance(own.get("0"), dict):
        raw[width] = own["0"].get(width)
    with no_init_weights(), quiet():
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **raw), dtype=dtype)


def _fill(module: PreTrainedModel, tensors: Tensors, dtype: torch.dtype, folder: str) -> None:
    tied = set(getattr(module, "all_tied_weights_keys", None) or ())
    wanted = set(module.state_dict()) - tied
    biases = _possible_biases(describe(module)) & set(tensors) - wanted
    missing, extra = sorted(wanted - set(tensors)), sorted(set(tensors) - wanted - biases)
    if missing or extra:
        raise ModelError(
            f"{folder} does not hold this model: missing {missing[:3] or 'nothing'}, unknown {extra[:3] or 'nothing'}"
        )
    _check_shapes(module, {name: tensors[name] for name in sorted(wanted | biases)}, folder)
    for name in sorted(wanted | biases):
        path, _, leaf = name.rpartition(".")
        owner, value = module.get_submodule(path), tensors[name].to(dtype)
        if leaf in owner._buffers:
            owner._buffers[leaf] = value
        else:
            owner.register_parameter(leaf, nn.Parameter(value))


def _possible_biases(arch: Architecture) -> set[str]:
    """Biases that a repair may have given to linears which had none."""
    names = range(arch.num_layers)
    return {f"{arch.family.layers}.{i}.{path}.bias" for i in names for path in arch.linear_paths}


def _check_shapes(module: PreTrainedModel, tensors: Tensors, folder: str) -> None:
    """Refuse tensors that differ from the dense model's in more than the number of units."""
    dense, free = module.state_dict(), _free_axes(describe(module))
    for name, tensor in tensors.items():
        weight = tensors.get(name.removesuffix("bias") + "weight")
        if name in dense:
            shape: tuple[int, ...] = tuple(dense[name].shape)
        else:  # a bias that the dense model lacks: one entry per output of its weight
            shape = (weight.shape[0] if weight is not None and weight.ndim else 0,)
        fits = tensor.ndim == len(shape) and all(
            have == want or axis in free[name]
            for axis, (have, want) in enumerate(zip(tensor.shape, shape, strict=False))
        )
        if not fits or not tensor.is_floating_point():
            raise ModelError(
                f"{folder} is damaged: {name} is {tuple(tensor.shape)} of {tensor.dtype}, which does not fit "
                f"{shape} by its config.json"
            )


def _free_axes(arch: Architecture) -> dict[str, set[int]]:
    """The axes of each tensor along which units may have been removed."""
    free: dict[str, set[int]] = defaultdict(set)
    for layer in range(arch.num_layers):
        for slot in (s for kind in UNIT_KINDS for s in arch.slots(kind, layer)):
            owner, name = arch.linear(layer, slot.module), f"{arch.family.layers}.{layer}.{slot.module}"
            free[f"{name}.weight"].add(1 - slot.axis if isinstance(owner, Conv1D) else slot.axis)
            if slot.axis == 0:
                free[f"{name}.bias"].add(0)
    return free


def _check_layer(arch: Architecture, layer: int, folder: str) -> None:
    """Refuse shapes that do not belong together."""
    problem = ""
    if matrix(arch.linear(layer, arch.family.o)).shape[1] % (arch.head_dim * arch.heads_per_group):
        problem = "its output projection does not hold whole KV groups"
    for kind in UNIT_KINDS:
        if not problem and not arch.units(kind, layer):
            problem = f"it has no {kind} left"
        for slot in arch.slots(kind, layer):
            owner, units = arch.linear(layer, slot.module), slot.index.numel()
            size = owner.weight.shape[0] if owner.weight.ndim == 1 else matrix(owner).shape[slot.axis]
            bias = getattr(owner, "bias", None) if slot.axis == 0 else None
            if not problem and size != units:
                problem = f"{slot.module} has {size} entries where {units} belong"
            if not problem and bias is not None and bias.numel() != units:
                problem = f"the bias of {slot.module} has {bias.numel()} entries where {units} belong"
    if problem:
        raise ModelError(f"{folder} is damaged in layer {layer}: {problem}")
