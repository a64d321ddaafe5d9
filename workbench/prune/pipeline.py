"""``workbench.prune``: one call from a model to a pruned one, whatever the method."""

from __future__ import annotations

import time
from dataclasses import asdict
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from workbench import data
from workbench.architecture import UNIT_KINDS, Architecture, describe, matrix
from workbench.data import Text, Tokens
from workbench.errors import ArgumentError, unknown
from workbench.jobs import Progress
from workbench.measure.memory import peak_memory, require_memory
from workbench.models import LM, as_lm
from workbench.prune import apply as change
from workbench.prune._method import LayerMethod, Method, resolve
from workbench.prune._stages import Work
from workbench.prune.allocations import Allocation, resolve_allocation
from workbench.prune.masks import Pattern
from workbench.prune.repair import Repair, resolve_repair
from workbench.prune.result import ModuleReport, Pruned, Recipe, Report


def prune(
    model: Any,
    method: str | Method = "wanda",
    sparsity: float | None = None,
    *,
    pattern: str | None = None,
    units: tuple[str, ...] | str | None = None,
    allocation: str | Allocation | None = None,
    repair: str | Repair | None = None,
    calibration: Tokens | Text | str | Path | None = None,
    of: str = "non-embedding",
    propagate: bool | None = None,
    apply: str = "remove",
    seed: int = 0,
    inplace: bool = False,
    progress: Progress | None = None,
) -> Pruned:
    """Prune a model; the one that you pass stays as it is.

    Parameters
    ----------
    model
        A handle, a pruned result or a transformers causal LM.
    method
        A name from `methods()` or an instance with hyper-parameters of your choice.
    sparsity
        Fraction of true parameters that goes, in [0, 1); default 0.5, or what the pattern fixes.
    pattern
        Weights only: None, N:M as ``"2:4"``, or blocks as ``"16x1"`` (rows x columns).
    units
        Channels only: ``"neuron"``, ``"kv_group"`` or both (default).
    allocation, repair
        Stages by name or instance; default: the paper's own.
    calibration
        Text or windows for methods that need data; default: 16 windows of 512 tokens of the built-in text.
    of
        What the fraction is of: ``"non-embedding"`` parameters or ``"all"``.
    propagate
        Score a layer on what the pruned layers before it put out; default: as the paper does.
    apply
        Units and layers only: ``"remove"`` really shrinks tensors, ``"zero"`` keeps shapes.
    seed
        Of the calibration windows, where they are drawn here.
    inplace
        Change the model that you passed, to save memory; a cancelled or failed run then leaves it half pruned.
    progress
        Reports and cancelling.

    Raises
    ------
    ArgumentError
        On an unknown name, a sparsity outside [0, 1) or out of reach, a pattern that does not divide a weight.
    DataError
        If the calibration text is too short.
    ModelError
        If the family is not described.
    ResourceError
        If memory or disk do not suffice.
    Cancelled
        If the job was cancelled; nothing was changed.

    Examples
    --------
    >>> import workbench                                                             # doctest: +SKIP
    >>> workbench.prune(workbench.load(), "wanda", 0.5)                              # doctest: +SKIP
    Pruned(wanda, 50.00% of 106,203,456 non-embedding parameters: 53,101,728 zeroed, 0 removed, 19.8 s)
    """
    started, cpu = time.perf_counter(), time.process_time()
    lm, progress = as_lm(model), progress or Progress()
    dense = lm.architecture
    with peak_memory() as memory:
        work = prepare(
            lm, method, sparsity, pattern=pattern, units=units, allocation=allocation, repair=repair,
            calibration=calibration, of=of, propagate=propagate, apply=apply, seed=seed, progress=progress,
        )  # fmt: skip
        base, before = dense.parameters(of), dense.parameters("all")
        shapes = _shapes(dense)
        if not inplace:
            size = sum(p.numel() * p.element_size() for p in lm.module.parameters())
            require_memory(size, "a pruned copy of the model (inplace=True does without it)")
            work.target = describe(change.shared_copy(lm.module))
        work.run()
        if not inplace:
            change.unshare(work.target.module, lm.module)
        sync_config(work.target)
        report = _report(work, shapes, before, base, of)
    pruned = LM(work.target.module, lm.tokenizer, lm.source)
    recipe = _recipe(work, lm, _asked(sparsity, work.pattern), of, seed)
    seconds = time.perf_counter() - started
    return Pruned(pruned, recipe, report, seconds, time.process_time() - cpu, memory.peak_bytes)


def prepare(
    lm: LM,
    method: str | Method,
    sparsity: float | None,
    *,
    pattern: str | None = None,
    units: tuple[str, ...] | str | None = None,
    allocation: str | Allocation | None = None,
    repair: str | Repair | None = None,
    calibration: Tokens | Text | str | Path | None = None,
    of: str = "non-embedding",
    propagate: bool | None = None,
    apply: str = "remove",
    seed: int = 0,
    progress: Progress,
) -> Work:
    """Check everything that a run was asked for, and gather what it needs; nothing is computed yet."""
    arch, chosen = lm.architecture, resolve(method)
    if any(hasattr(type(part), "held") for part in lm.module.modules()):
        raise ArgumentError("this model runs on sparse layers: prune the model that it was made from, then sparsify")
    form = Pattern.parse(pattern)
    asked = _asked(sparsity, form)
    if apply not in ("remove", "zero"):
        raise unknown("apply", apply, ("remove", "zero"))
    if chosen.family != "weights" and str(form) != "unstructured":
        raise ArgumentError(
            f"pattern={pattern!r} is for methods that prune weights; {chosen.name} prunes {chosen.units}"
        )
    rule = resolve_allocation(allocation or chosen.allocation)
    fix = resolve_repair(repair or chosen.repair)
    if form.is_nm and rule.name != "uniform":
        raise ArgumentError(f"allocation={rule.name!r}: the pattern {form} fixes every matrix's share; leave it out")
    if isinstance(chosen, LayerMethod) and (rule.name != "uniform" or fix.name != "none"):
        raise ArgumentError(f"{chosen.name} removes whole layers: allocation and repair do not apply")
    needs = chosen.needs | rule.needs | fix.needs
    tokens = None
    if needs or isinstance(chosen, LayerMethod):
        tokens = _tokens(lm, calibration, seed)
    return Work(
        dense=arch,
        target=arch,
        method=chosen,
        allocation=rule,
        repair=fix,
        pattern=form,
        kinds=_kinds(chosen, units),
        budget=_budget(arch, asked, of, form),
        tokens=tokens,
        fingerprint=lm.fingerprint,  # now: in place, the dense model is soon gone
        propagate=chosen.propagate if propagate is None else bool(propagate),
        apply=apply,
        progress=progress,
    )


def _budget(arch: Architecture, asked: float, of: str, pattern: Pattern) -> int:
    """Parameters that must go; an N:M pattern only ever speaks of the matrices."""
    if pattern.is_nm:
        return round(asked * sum(n for sizes in _shapes(arch) for n in sizes.values()))
    return round(asked * arch.parameters(of))


def _asked(sparsity: float | None, pattern: Pattern) -> float:
    fixed = pattern.sparsity
    if sparsity is None:
        return 0.5 if fixed is None else fixed
    if isinstance(sparsity, bool) or not isinstance(sparsity, Real) or not 0 <= sparsity < 1:
        raise ArgumentError(f"sparsity={sparsity!r}: want a fraction in [0, 1), e.g. 0.5 for half of the parameters")
    if fixed is not None and abs(sparsity - fixed) > 1e-6 and sparsity:
        raise ArgumentError(f"sparsity={sparsity}: the pattern {pattern} fixes it at {fixed:g}; leave sparsity out")
    return float(sparsity)


def _kinds(method: Method, units: tuple[str, ...] | str | None) -> tuple[str, ...]:
    if method.family != "channels":
        if units is not None and tuple([units] if isinstance(units, str) else units) != method.units:
            raise ArgumentError(f"units={units!r}: {method.name} prunes {method.units}")
        return ()
    asked = method.units if units is None else (units,) if isinstance(units, str) else tuple(units)
    for kind in asked:
        if kind not in UNIT_KINDS:
            raise unknown("unit", kind, UNIT_KINDS)
    if not asked:
        raise ArgumentError(f"units=(): {method.name} prunes nothing then; want some of {', '.join(UNIT_KINDS)}")
    return tuple(dict.fromkeys(asked))


def _tokens(lm: LM, calibration: Tokens | Text | str | Path | None, seed: int) -> Tokens:
    if isinstance(calibration, Tokens):
        data.check_fits(lm, calibration)
        return calibration
    text = data.load_text(calibration) if isinstance(calibration, str | Path) else calibration
    return data.calibration(lm, text, seed=seed)


def _shapes(arch: Architecture) -> list[dict[str, int]]:
    return [{n: matrix(m).numel() for n, m in arch.linears(i).items()} for i in range(arch.num_layers)]


def _report(work: Work, shapes: list[dict[str, int]], before: int, base: int, of: str) -> Report:
    """Count what is gone. Zeros count for methods that prune weights; a unit kept in shape counts whole."""
    target, names = work.target, work.target.linear_names
    gone = set(work.removed_layers) if work.apply == "remove" else set()
    modules, position = [], 0
    for layer, sizes in enumerate(shapes):
        if layer in gone:
            modules += [ModuleReport(layer, name, 0, 0, size) for name, size in sizes.items()]
            continue
        for name, path in zip(names, target.linear_paths, strict=True):
            left = matrix(target.linear(position, path))
            zeroed = _zeroed(work, layer, path, left)
            modules.append(ModuleReport(layer, name, left.numel() - zeroed, zeroed, sizes[name] - left.numel()))
        position += 1
    after = target.parameters("all")
    return Report(tuple(modules), before, after, _all_zeroed(work, modules), before - after, base, of)


def _zeroed(work: Work, layer: int, path: str, left: torch.Tensor) -> int:
    """Weights of one matrix that are there but switched off."""
    if work.method.family == "weights":
        return int((left == 0).sum())
    if work.apply == "remove":
        return 0
    if layer in work.removed_layers:
        return left.numel()
    units = work.removed[layer] if work.removed else {}
    slots = [(s, len(u)) for k, u in units.items() for s in work.target.slots(k, layer) if s.module == path]
    return sum(n * s.index.shape[1] * int(left.shape[1 - s.axis]) for s, n in slots)


def _all_zeroed(work: Work, modules: list[ModuleReport]) -> int:
    """Parameters switched off, biases and norms of whole units included."""
    if work.method.family == "weights":
        return sum(m.zeroed for m in modules)
    if work.apply == "remove":
        return 0
    target = work.target
    units = sum(len(u) * target.unit_parameters(k, i) for i, r in enumerate(work.removed) for k, u in r.items())
    return units + sum(target.layer_parameters(i) for i in work.removed_layers)


def _recipe(work: Work, lm: LM, asked: float, of: str, seed: int) -> Recipe:
    return Recipe(
        method=work.method.name,
        parameters=work.method.parameters,
        sparsity=asked,
        of=of,
        pattern=str(work.pattern),
        units=work.kinds or work.method.units,
        propagate=work.propagate,
        apply=work.apply,
        seed=seed,
        source=lm.source,
        fingerprint=work.fingerprint,
        calibration=work.tokens.provenance if work.tokens is not None else {},
        removed=tuple({k: tuple(v.tolist()) for k, v in r.items()} for r in work.removed),
        removed_layers=work.removed_layers,
        allocation={"name": work.allocation.name, **asdict(work.allocation)},
        repair={"name": work.repair.name, **asdict(work.repair)},
    )


def sync_config(arch: Architecture) -> None:
    """Let the configuration of a model in memory say its sizes, where one number serves all layers."""
    from workbench.checkpoint import plain_config

    plain = plain_config(arch)
    if plain is not None and plain.model_type == arch.module.config.model_type:
        for key in arch.family.sizes:
            if key:
                setattr(arch.module.config, key, getattr(plain, key))
