"""What a forward pass costs, counted from the modules as they are: parameters, bytes, FLOPs, bytes moved.

For ``n`` new tokens after ``c`` cached ones, in each of ``b`` sequences:

    linear map [out, in]     2 * out * in * n * b FLOPs; its weight is read once
    attention of a layer     4 * heads * head_dim * pairs * b FLOPs (scores and values), where
                             pairs = sum over the new tokens of the positions they may see: p + 1, at most the
                             sliding window where the layer has one
    KV cache of a layer      2 * kv_heads * head_dim * (c + n) * b values read, n * b of them written first

Embeddings are looked up, not multiplied. Norms, activations and softmax are left out: they are below one
per cent of the FLOPs, and activations stay in the processor's cache in decoding. A zero counts like any other
number: only what is removed is cheaper here, and only measuring says what a kernel makes of zeros. A sparse layer
(`workbench.sparsify`) costs the weights and bytes that its format stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers.pytorch_utils import Conv1D

from workbench import render
from workbench.architecture import Architecture
from workbench.errors import ArgumentError
from workbench.models import as_lm
from workbench.results import Result


@dataclass(frozen=True, eq=False, repr=False)
class Size(Result):
    """How large a model is.

    Attributes
    ----------
    parameters : int
        All; what is shared (tied embeddings) counts once.
    embedding_parameters : int
        Of these, in embeddings and output head.
    nonzero_parameters : int
        Of all, those that are not exactly zero.
    weight_bytes : int
        Of all parameters in the types they have; what safetensors writes, but for its header.
    """

    parameters: int
    embedding_parameters: int
    nonzero_parameters: int
    weight_bytes: int

    @property
    def non_embedding_parameters(self) -> int:
        """Parameters outside embeddings and head."""
        return self.parameters - self.embedding_parameters

    @property
    def zero_parameters(self) -> int:
        """Parameters that are exactly zero: still stored, still multiplied."""
        return self.parameters - self.nonzero_parameters

    def _sections(self) -> tuple[render.Section, ...]:
        rows = [
            ("parameters", self.parameters),
            ("of which embeddings and head", self.embedding_parameters),
            ("of which zero", self.zero_parameters),
            ("bytes of weights", render.amount(self.weight_bytes)),
        ]
        return (render.section("Size", rows),)


@dataclass(frozen=True, eq=False, repr=False)
class Cost(Result):
    """What one forward pass computes and moves.

    Attributes
    ----------
    tokens, context, batch : int
        New and cached tokens of each sequence; sequences.
    flops, bytes_moved : int
        Of the whole pass.
    flops_per_token, bytes_per_token : float
        The same per new token.
    kv_cache_bytes : int
        What the cache holds after the pass.
    by_module : mapping of str to (FLOPs, bytes)
        By the name that a linear map has within its layer, with ``"attention"`` and ``"kv_cache"``.
    """

    tokens: int
    context: int
    batch: int
    flops: int
    bytes_moved: int
    flops_per_token: float
    bytes_per_token: float
    kv_cache_bytes: int
    by_module: Mapping[str, tuple[int, int]] = field(repr=False)

    def _sections(self) -> tuple[render.Section, ...]:
        rows = [
            ("new tokens", self.tokens),
            ("cached tokens", self.context),
            ("sequences", self.batch),
            ("FLOPs per token", self.flops_per_token),
            ("bytes moved per token", render.amount(self.bytes_per_token)),
            ("KV cache", render.amount(self.kv_cache_bytes)),
        ]
        parts = [(k, f"{f / 1e6:,.1f} MFLOP", render.amount(b)) for k, (f, b) in self.by_module.items()]
        picture = render.bars(
            list(self.by_module), [f / 1e6 for f, _ in self.by_module.values()], title="FLOPs", unit=" MFLOP"
        )
        return (
            render.section("Cost", rows),
            render.section("By module", parts, ("module", "FLOPs", "bytes"), picture=picture),
        )


def size(model: Any) -> Size:
    """Count parameters and bytes.

    Examples
    --------
    >>> size(lm)                                                                     # doctest: +SKIP
    Size(parameters=134,515,008, embedding_parameters=28,311,552, nonzero_parameters=134,515,008, ...)
    """
    lm = as_lm(model)
    own = list(lm.module.parameters())  # each once, however often it is used
    stored = [h for m in lm.module.modules() if (h := getattr(m, "held", None)) is not None]  # of sparse layers
    nonzero = sum(int(torch.count_nonzero(p.detach())) for p in own) + sum(h.nonzero for h in stored)
    held = sum(p.numel() * p.element_size() for p in own) + sum(h.bytes for h in stored)
    count = sum(p.numel() for p in own) + sum(h.parameters for h in stored)
    return Size(count, lm.architecture.embedding_parameters(), nonzero, held)


def cost(model: Any, *, tokens: int = 1, context: int = 0, batch: int = 1, all_logits: bool = True) -> Cost:
    """Count the FLOPs and bytes of one forward pass.

    Parameters
    ----------
    model
        A model handle, a pruned result or a transformers causal LM; layers may differ in width.
    tokens, context, batch
        New tokens and cached tokens of each sequence; number of sequences.
    all_logits
        Whether the head runs for every new token, or only for the last (as in generation).

    Raises
    ------
    ArgumentError
        If ``tokens`` or ``batch`` is below 1, or ``context`` below 0.
    """
    for name, value, least in (("tokens", tokens, 1), ("context", context, 0), ("batch", batch, 1)):
        if not isinstance(value, int | np.integer) or value < least:
            raise ArgumentError(f"{name}={value!r}: a whole number of at least {least}")
    lm = as_lm(model)
    parts = _linears(lm.module, tokens * batch, batch if not all_logits else tokens * batch)
    attention, moved, held = _attention(lm.architecture, tokens, context, batch)
    parts |= {"attention": (attention, 0), "kv_cache": (0, moved)}
    flops, total = (sum(part[i] for part in parts.values()) for i in (0, 1))
    count = tokens * batch
    return Cost(tokens, context, batch, flops, total, flops / count, total / count, held, parts)


def _linears(module: Any, rows: int, head_rows: int) -> dict[str, tuple[int, int]]:
    parts: dict[str, tuple[int, int]] = {}
    head = module.get_output_embeddings()
    for path, part in module.named_modules():
        if isinstance(part, torch.nn.Embedding):
            flops, moved = 0, rows * part.embedding_dim * part.weight.element_size()
        elif isinstance(part, torch.nn.Linear | Conv1D):
            weight = part.weight
            flops = 2 * weight.numel() * (head_rows if part is head else rows)
            moved = weight.numel() * weight.element_size()
        elif (stored := getattr(part, "held", None)) is not None:  # a sparse layer
            flops = 2 * stored.stored * (head_rows if part is head else rows)
            moved = stored.bytes
        else:
            continue
        name = path.rsplit(".", 1)[-1]
        before = parts.get(name, (0, 0))
        parts[name] = (before[0] + flops, before[1] + moved)
    return parts


def _attention(arch: Architecture, tokens: int, context: int, batch: int) -> tuple[int, int, int]:
    """FLOPs of scores and values, bytes of the KV cache moved, bytes it holds afterwards."""
    flops = moved = held = 0
    value = next(arch.module.parameters()).element_size()
    for i in range(arch.num_layers):
        window = _window(arch, i)
        seen = np.minimum(np.arange(context, context + tokens) + 1, window or context + tokens)
        flops += 4 * arch.query_heads(i) * arch.head_dim * int(seen.sum()) * batch
        row = 2 * arch.kv_heads(i) * arch.head_dim * value * batch
        kept = min(context + tokens, window or context + tokens)
        held += row * kept
        moved += row * (kept + tokens)
    return flops, moved, held


def _window(arch: Architecture, layer: int) -> int | None:
    """The sliding window of a layer, in tokens; None where it sees everything."""
    config = arch.module.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if window is None or not getattr(config, "use_sliding_window", True):
        return None
    kind = kinds[layer] if kinds and layer < len(kinds) else "sliding_attention"
    return int(window) if kind == "sliding_attention" else None
