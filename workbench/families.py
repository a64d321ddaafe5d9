"""The families of models that are described: one row each says where the weights are.

What differs between families is only *where* things are and *how a fused weight is laid out*:

    separate      q, k, v are three weights                              Llama, Mistral, Qwen, Gemma, OLMo2, OPT ...
    stacked       one weight, rows [all q | all k | all v]               Phi-3, GPT-2
    interleaved   one weight, rows [q0 k0 v0 | q1 k1 v1 | ...]           GPT-NeoX
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Family:
    """Where a family of models keeps its weights.

    Attributes
    ----------
    layers
        Path of the layer list in the causal LM; all other paths are within one layer.
    q, k, v, o
        Attention; a fused weight is ``q`` alone.
    up, down
        MLP: what makes the neurons (gate and up), and what carries them back.
    layout
        Of the attention weights: ``"separate"``, ``"stacked"`` or ``"interleaved"``.
    fused_gate
        Whether gate and up are stacked in one weight.
    flat_norms
        Norms over the entries of all query and all key heads.
    sizes
        Configuration keys of the MLP's width, the query heads and the key/value heads.
    """

    layers: str
    q: tuple[str, ...]
    o: str
    up: tuple[str, ...]
    down: str
    k: str = ""
    v: str = ""
    layout: str = "separate"
    fused_gate: bool = False
    flat_norms: tuple[str, str] | None = None
    sizes: tuple[str, str, str] = ("intermediate_size", "num_attention_heads", "num_key_value_heads")


_LLAMA = Family(
    layers="model.layers",
    q=("self_attn.q_proj",),
    k="self_attn.k_proj",
    v="self_attn.v_proj",
    o="self_attn.o_proj",
    up=("mlp.gate_proj", "mlp.up_proj"),
    down="mlp.down_proj",
)
_OLMO2 = replace(_LLAMA, flat_norms=("self_attn.q_norm", "self_attn.k_norm"))
_PHI3 = Family(
    layers="model.layers",
    q=("self_attn.qkv_proj",),
    o="self_attn.o_proj",
    up=("mlp.gate_up_proj",),
    down="mlp.down_proj",
    layout="stacked",
    fused_gate=True,
)
_GPT2 = Family(
    layers="transformer.h",
    q=("attn.c_attn",),
    o="attn.c_proj",
    up=("mlp.c_fc",),
    down="mlp.c_proj",
    layout="stacked",
    sizes=("n_inner", "n_head", ""),
)
_NEOX = Family(
    layers="gpt_neox.layers",
    q=("attention.query_key_value",),
    o="attention.dense",
    up=("mlp.dense_h_to_4h",),
    down="mlp.dense_4h_to_h",
    layout="interleaved",
    sizes=("intermediate_size", "num_attention_heads", ""),
)
_OPT = Family(
    layers="model.decoder.layers",
    q=("self_attn.q_proj",),
    k="self_attn.k_proj",
    v="self_attn.v_proj",
    o="self_attn.out_proj",
    up=("fc1",),
    down="fc2",
    sizes=("ffn_dim", "num_attention_heads", ""),
)
FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": _LLAMA,
    "gemma3_text": _LLAMA,
    "smollm3": _LLAMA,
    "olmo2": _OLMO2,
    "phi3": _PHI3,
    "gpt2": _GPT2,
    "gpt_neox": _NEOX,
    "opt": _OPT,
}
