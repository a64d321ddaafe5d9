"""Tiny models of every family, and one battery of checks for every method: for our tests and for plug-ins.

>>> from workbench.testing import check_method, tiny_lm
>>> check_method("magnitude", tiny_lm("llama"))                                  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from workbench.architecture import FAMILIES, describe, matrix
from workbench.data import Tokens
from workbench.decode._battery import check_decoder
from workbench.errors import WorkbenchError, unknown
from workbench.models import LM, fingerprint, wrap
from workbench.prune import resolve
from workbench.prune.pipeline import prune

__all__ = [
    "CheckFailed",
    "check_decoder",
    "check_method",
    "logits",
    "tiny_lm",
    "tiny_tokenizer",
    "tiny_tokens",
    "zeros",
]
VOCABULARY = 97
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_OWN: dict[str, dict[str, Any]] = {
    "gemma2": {"head_dim": 4, "query_pre_attn_scalar": 4, "sliding_window": 8},
    "gemma3_text": {"head_dim": 4, "query_pre_attn_scalar": 4, "sliding_window": 8},
    "qwen3": {"head_dim": 4},
    "smollm3": {"no_rope_layer_interval": 2},
    "gpt2": {
        "n_embd": 32, "n_inner": 48, "n_layer": 4, "n_head": 8, "n_positions": 64,
        "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
    },
    "gpt_neox": {"rotary_pct": 0.5},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0},
}  # fmt: skip


class CheckFailed(WorkbenchError):
    """A method broke a rule of the battery; the message says which."""


def tiny_lm(family: str = "llama", *, gqa: bool = True, tied: bool = False, seed: int = 0, **changes: Any) -> LM:
    """A random model of a family with some ten thousand parameters, without tokenizer.

    Parameters
    ----------
    gqa
        Two query heads read each key/value head; else one (families without grouped queries ignore it).
    tied
        Whether the head shares the embeddings.
    changes
        Further configuration.
    """
    if family not in FAMILIES:
        raise unknown("family", family, FAMILIES)
    values = _COMMON | _OWN.get(family, {}) | {"tie_word_embeddings": tied} | changes
    if family in ("gpt2", "gpt_neox", "opt"):
        values.pop("num_key_value_heads")
    elif not gqa:
        values["num_key_value_heads"] = values["num_attention_heads"]
    if family == "gpt2":
        for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
            values.pop(key)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **values))
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():  # no bias at zero, no scale at one: those hide mistakes
        if parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return wrap(module, source=f"tiny-{family}")


def tiny_tokenizer(vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """One token per printable character; the first three are for padding, beginning and end."""
    letters = [" ", *map(chr, range(33, 127))][: vocabulary - 3]
    named = {c: n for n, c in enumerate(["<pad>", "<s>", "</s>", *letters])}
    inner = Tokenizer(models.BPE(vocab=named, merges=[]))
    inner.decoder = decoders.Fuse()
    names = dict(zip(("pad_token", "bos_token", "eos_token"), named, strict=False))
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names)


def tiny_tokens(samples: int = 6, seqlen: int = 12, seed: int = 0, vocabulary: int = VOCABULARY) -> Tokens:
    """Random token ids ``[samples, seqlen]``."""
    ids = np.random.default_rng(seed).integers(3, vocabulary, (samples, seqlen))
    return Tokens.of(ids, name="random ids")


def logits(lm: LM, tokens: Tokens | None = None) -> torch.Tensor:
    """Logits ``[samples, seqlen, vocabulary]`` of a model on some tokens, without a cache."""
    with torch.no_grad():
        return lm.module(torch.from_numpy((tokens or tiny_tokens()).ids), use_cache=False).logits


def check_method(method: Any, lm: LM | None = None, tokens: Tokens | None = None) -> None:
    """Hold a method to the rules that every method keeps.

    The input stays untouched; the same call gives the same result; nothing asked, nothing done; the budget is met to
    within one unit; what is switched off, what is removed and what is reported agree.

    Raises
    ------
    CheckFailed
        Naming the rule that was broken.
    """
    chosen, lm, tokens = resolve(method), lm or tiny_lm(), tokens or tiny_tokens()
    before = lm.fingerprint
    first = prune(lm, chosen, 0.4, calibration=tokens)
    _require(lm.fingerprint == before, "the input model was changed", chosen)
    again = prune(lm, chosen, 0.4, calibration=tokens)
    _require(fingerprint(first.lm.module) == fingerprint(again.lm.module), "two equal calls differ", chosen)
    nothing = prune(lm, chosen, 0.0, calibration=tokens)
    _require(bool(torch.equal(logits(nothing.lm), logits(lm))), "sparsity 0 is not the identity", chosen)
    for sparsity in (0.25, 0.4):
        _check_budget(chosen, lm, tokens, sparsity)
    if chosen.family != "weights":
        masked = prune(lm, chosen, 0.4, calibration=tokens, apply="zero")
        gap = float((logits(masked.lm) - logits(first.lm)).abs().max())
        _require(gap <= 1e-4, f"masked and removed differ by {gap:.2g}", chosen)


def _check_budget(method: Any, lm: LM, tokens: Tokens, sparsity: float) -> None:
    report = prune(lm, method, sparsity, calibration=tokens).report
    arch = describe(lm.module)
    unit = {
        "weights": 1,
        "channels": max(arch.unit_parameters(k, 0) for k in ("neuron", "kv_group")),
        "layers": arch.layer_parameters(0),
    }[method.family]
    miss = abs(report.true_sparsity - sparsity) * report.base
    _require(
        miss <= unit,
        f"the budget at {sparsity} is missed by {miss:.0f} parameters (a unit is {unit})",
        method,
    )
    if method.family == "weights":
        counted = sum(m.zeroed for m in report.modules)
        _require(counted == report.zeroed, "the report does not add up", method)


def _require(held: bool, broken: str, method: Any) -> None:
    if not held:
        raise CheckFailed(f"{method.name}: {broken}")


def zeros(lm: LM) -> int:
    """Zeros in the prunable weights of a model."""
    arch = lm.architecture
    return sum(int((matrix(m) == 0).sum()) for i in range(arch.num_layers) for m in arch.linears(i).values())
