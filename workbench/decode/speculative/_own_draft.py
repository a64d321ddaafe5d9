"""Draft models made of the target itself: rounded to int8, or without some of its layers.

They are made once, and kept as long as the target's model lives. Should its weights be changed meanwhile, drafts get
worse, and texts stay right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from workbench_kernels.decoder import Decoder as Runtime

from workbench.architecture import describe
from workbench.decode.target import CompiledTarget, Target, TransformersTarget
from workbench.errors import ArgumentError, ModelError
from workbench.execute._encode import Encoder
from workbench.execute.compiled import Compiled, compile  # noqa: A004
from workbench.models import LM
from workbench.prune.apply import remove_layers, shared_copy


def own_draft(target: Target) -> Any:
    """A draft model made of the target, once: its weights in int8 on the compiled runtime.

    Where there is no compiled runtime for it, or it is in int8 already: the target without a tenth of its layers.

    Raises
    ------
    ArgumentError
        If it is a target of another kind.
    """
    if not isinstance(target, CompiledTarget | TransformersTarget):
        raise ArgumentError(f"draft=None: no draft can be made of a {type(target).__name__}; name a model")
    key = target.compiled.decoder if isinstance(target, CompiledTarget) else target.module
    if key not in _rounded:
        if isinstance(target, CompiledTarget):
            _rounded[key] = rounded(target.compiled) if target.compiled.values != "int8" else None
        else:
            _rounded[key] = _compiled_int8(target.lm)
    if _rounded[key] is None:
        return without_layers(target, middle(target, 0.1))
    return _rounded[key]


_rounded: WeakKeyDictionary[Any, Compiled | None] = WeakKeyDictionary()


def _compiled_int8(lm: LM) -> Compiled | None:
    try:
        return compile(lm, "auto", "int8")
    except (ArgumentError, ModelError):  # a family or sizes that are not compiled
        return None


def rounded(compiled: Compiled) -> Compiled:
    """A copy of a compiled model with int8 weights and a cache of its own; each matrix in the smallest format."""
    encoder, weights = Encoder("auto", "int8", "int8"), compiled.decoder.weights
    names = ("qkv", "o", "gate_up", "down")
    layers = []
    for layer in weights.layers:
        matrices: dict[str, Any] = {name: encoder(name, getattr(layer, name).to_dense()) for name in names}
        layers.append(replace(layer, **matrices))
    weights = replace(weights, layers=tuple(layers), head=encoder("head", weights.head.to_dense()))
    size = sum(w.nbytes for w in weights.formats)
    runtime = Runtime(weights, compiled.context, compiled.threads)
    return replace(
        compiled, format="auto", values="int8", stored=encoder.stored, nbytes=size, decoder=runtime,
        source=f"{compiled.source}, rounded to int8",
    )  # fmt: skip


def middle(target: Target, fraction: float) -> tuple[int, ...]:
    """So large a part of a model's layers, at least one unless it is 0, around the middle of the stack."""
    total = _count(target)
    count = 0 if not fraction else min(total - 1, max(1, round(fraction * total)))
    start = (total - count) // 2
    return tuple(range(start, start + count))


def without_layers(target: Target, layers: Sequence[int]) -> LM | Compiled:
    """The model of a target without some layers; weights are shared, the cache is its own, the target is untouched.

    It is made once for each set of layers, and kept as long as the target's model lives.

    Raises
    ------
    ArgumentError
        If a number is no layer, or none would be left.
    """
    total, gone = _count(target), frozenset(int(n) for n in layers)
    if not gone <= set(range(total)) or len(gone) == total:
        raise ArgumentError(f"layers {sorted(gone)} cannot be skipped: some of 0 to {total - 1}, not all")
    key = target.compiled.decoder if isinstance(target, CompiledTarget) else getattr(target, "module", None)
    made = _thinned.setdefault(key, {})
    if gone not in made:
        if isinstance(target, CompiledTarget):
            made[gone] = _compiled_without(target.compiled, gone)
        elif isinstance(target, TransformersTarget):
            module = shared_copy(target.module)
            remove_layers(describe(module), gone)
            made[gone] = LM(module.eval(), target.tokenizer, f"{target.source}, {len(gone)} layers skipped")
    return made[gone]


_thinned: WeakKeyDictionary[Any, dict[frozenset[int], LM | Compiled]] = WeakKeyDictionary()


def _compiled_without(compiled: Compiled, gone: frozenset[int]) -> Compiled:
    weights = compiled.decoder.weights
    kept = tuple(layer for n, layer in enumerate(weights.layers) if n not in gone)
    weights = replace(weights, layers=kept)
    runtime = Runtime(weights, compiled.context, compiled.threads)
    size = sum(w.nbytes for w in weights.formats)
    source = f"{compiled.source}, {len(gone)} layers skipped"
    return replace(compiled, decoder=runtime, nbytes=size, source=source)


def _count(target: Target) -> int:
    if isinstance(target, CompiledTarget):
        return len(target.compiled.decoder.weights.layers)
    if isinstance(target, TransformersTarget):
        return int(target.lm.architecture.num_layers)
    raise ArgumentError(f"the layers of a {type(target).__name__} are not known: pass a model or a compiled one")
