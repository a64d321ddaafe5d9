"""From a transformers model of Llama's shape to the arrays of a `workbench_kernels.decoder`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from workbench_kernels.decoder import Layer, Weights
from workbench_kernels.formats import WeightFormat

from workbench.errors import ModelError
from workbench.measure.memory import give_back
from workbench.models import LM

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
STATIC_ROPE = ("default", "linear", "llama3", "yarn")

Encode = Callable[[str, np.ndarray], WeightFormat]


def check_family(lm: LM) -> None:
    """Raise `ModelError` unless a compiled program computes what this model computes."""
    config = lm.module.config
    kind = getattr(config, "model_type", type(lm.module).__name__)
    if kind not in FAMILIES:
        raise ModelError(f"model family {kind!r} has no compiled runtime; it has one for {', '.join(FAMILIES)}")
    if config.hidden_act != "silu":
        raise ModelError(f"hidden_act={config.hidden_act!r}: the compiled runtime computes silu only")
    rope = getattr(rotary(lm), "rope_type", "default")
    if rope not in STATIC_ROPE:
        raise ModelError(f"rope_type={rope!r} depends on the length of the text; compiled: {', '.join(STATIC_ROPE)}")


def rotary(lm: LM) -> Any:
    """The module that makes rotary tables."""
    return lm.module.get_submodule("model.rotary_emb")


def array(tensor: torch.Tensor | None) -> np.ndarray:
    """A parameter as a contiguous float32 array, empty for None; shares memory where it can."""
    if tensor is None:
        return np.empty(0, np.float32)
    return np.ascontiguousarray(tensor.detach().to("cpu", torch.float32).numpy())


def window_of(config: Any, context: int) -> int:
    """Keys that a token sees, 0 for all; one window for all layers."""
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention" if window is None else "sliding_attention"])
    if window is None or window >= context or kinds == {"full_attention"}:
        return 0
    if len(kinds) > 1:
        raise ModelError(
            f"layers differ in what they see ({', '.join(sorted(kinds))}): not compiled; context <= {window} is"
        )
    return int(window)


def rows_of(block: Any, paths: tuple[str, ...]) -> np.ndarray:
    """Weights that share their inputs, one under the other."""
    return np.concatenate([dense(block.get_submodule(path)) for path in paths])


def dense(module: Any) -> np.ndarray:
    """The matrix ``[out, in]`` of a linear layer, or of what took its place."""
    weight = getattr(module, "weight", None)
    if isinstance(weight, torch.Tensor):
        return array(weight)
    stored = getattr(module, "stored", None)
    if isinstance(stored, WeightFormat):
        return stored.to_dense()
    raise ModelError(f"{type(module).__name__} has no weight matrix")


def biases(block: Any, paths: tuple[str, ...]) -> np.ndarray:
    """Biases of the same, empty if none has any."""
    found = [getattr(block.get_submodule(path), "bias", None) for path in paths]
    if all(b is None for b in found):
        return array(None)
    modules = [block.get_submodule(path) for path in paths]
    zeros = [np.zeros(len(dense(m)), np.float32) for m in modules]
    return np.concatenate([z if b is None else array(b) for z, b in zip(zeros, found, strict=True)])


QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
GATE_UP = ("mlp.gate_proj", "mlp.up_proj")


def layer_of(lm: LM, number: int, encode: Encode) -> Layer:
    """One layer; ``encode(name, matrix)`` chooses the format of every matrix."""
    block: Any = lm.architecture.layers[number]
    attention = block.self_attn
    if biases(block, GATE_UP).size:
        raise ModelError(f"layer {number}: gate and up have biases: not compiled")
    q_norm, k_norm = (getattr(attention, name, None) for name in ("q_norm", "k_norm"))
    return Layer(
        attention_norm=array(block.input_layernorm.weight),
        qkv=encode("qkv", rows_of(block, QKV)),
        o=encode("o", rows_of(block, ("self_attn.o_proj",))),
        mlp_norm=array(block.post_attention_layernorm.weight),
        gate_up=encode("gate_up", rows_of(block, GATE_UP)),
        down=encode("down", rows_of(block, ("mlp.down_proj",))),
        heads=lm.architecture.kv_heads(number),
        qkv_bias=biases(block, QKV),
        o_bias=biases(block, ("self_attn.o_proj",)),
        down_bias=biases(block, ("mlp.down_proj",)),
        q_norm=array(None if q_norm is None else q_norm.weight),
        k_norm=array(None if k_norm is None else k_norm.weight),
        rotary=bool(getattr(attention, "use_rope", True)),
    )


def tables(lm: LM, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines ``[context, D]``, as the model computes them."""
    positions = torch.arange(context)[None]
    with torch.no_grad():
        cosine, sine = rotary(lm)(torch.zeros(1, context, 1), positions)
    return array(cosine[0]), array(sine[0])


def weights_of(lm: LM, context: int, encode: Encode, done: Callable[[int], None]) -> Weights:
    """Everything; ``done(layers)`` hears after each layer."""
    check_family(lm)
    architecture, config = lm.architecture, lm.module.config
    layers = []
    for number in range(architecture.num_layers):
        layers.append(layer_of(lm, number, encode))
        done(number + 1)
    cosine, sine = tables(lm, context)
    attention: Any = architecture.layers[0].get_submodule("self_attn")
    inputs, outputs = lm.module.get_input_embeddings(), lm.module.get_output_embeddings()
    give_back()  # what packing the layers took, before the largest matrix
    embedding = array(inputs.weight)  # type: ignore[arg-type]
    tied = (
        getattr(outputs, "weight", None) is inputs.weight
    )  # then one copy is enough, and it may be the largest matrix
    return Weights(
        embedding=embedding,
        layers=tuple(layers),
        norm=array(lm.module.get_submodule("model.norm").weight),  # type: ignore[arg-type]
        head=encode("head", embedding if tied else dense(outputs)),
        cosine=cosine,
        sine=sine,
        head_dim=architecture.head_dim,
        group=architecture.heads_per_group,
        epsilon=float(config.rms_norm_eps),
        scale=float(attention.scaling),
        window=window_of(config, context),
    )
