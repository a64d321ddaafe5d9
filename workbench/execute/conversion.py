"""A model whose linear layers run on sparse kernels: the masks become speed, or it is said why they do not.

for every linear layer of the decoder:   weight --(candidates, timed)--> format --> SparseLinear, or as it was
then, all at once:                       a copy that shares every other tensor gets the new layers
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from workbench.architecture import matrix
from workbench.errors import ArgumentError
from workbench.execute._choose import Chooser, LayerChoice
from workbench.execute._clock import check_threads, check_tokens, clock, torch_threads
from workbench.execute._target import layer_paths
from workbench.execute.forms import Form, check_values, form, kept
from workbench.execute.linear import DTYPES, SparseLinear
from workbench.execute.patterns import pattern_of
from workbench.execute.sparsified import Sparsified
from workbench.jobs import Progress
from workbench.models import LM, as_lm
from workbench.prune.apply import shared_copy
from workbench.results import Provenance

REPEATS = 5


def sparsify(
    model: Any,
    format: str = "auto",  # noqa: A002 - it is what users call it
    values: str = "fp32",
    *,
    tokens: Sequence[int] | int = (1, 16, 128),
    threads: int | None = None,
    head: bool = False,
    inplace: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Sparsified:
    """Let the linear layers of a model run on sparse kernels.

    Parameters
    ----------
    model
        A pruned result, a handle or a transformers causal LM, on the CPU in float32 or bfloat16.
    format
        ``"auto"``: each layer gets the format that is fastest on its own weight, by the geometric mean over
        ``tokens``, or stays torch's if none is certainly faster. Or one format for all layers, such as ``"bitmap"``.
    values
        ``"fp32"`` keeps every weight as it is; ``"bf16"`` and ``"int8"`` round the weights and the activations.
    tokens
        How many tokens come together: 1 is decoding, many are a prompt.
    threads
        For kernels; None: as many as torch uses, at every call.
    head
        Whether the output head is a layer like the others.
    inplace
        Change the given model, all of it or nothing, instead of a copy that shares all other tensors.
    seed
        Of the activations that kernels are timed with.
    progress
        Hears after every layer, whose record is the partial result; cancelling leaves the model as it was.

    Returns
    -------
    Sparsified
        Takes the model's place everywhere: `workbench.speed`, `workbench.perplexity`, ``.module.generate``.

    Raises
    ------
    ArgumentError
        If a name is wrong, a layer does not fit the format, or the model is elsewhere than on the CPU.
    Cancelled
        If the job was cancelled.

    Examples
    --------
    >>> pruned = workbench.prune(lm, "magnitude", 0.8, pattern="16x1")                 # doctest: +SKIP
    >>> workbench.sparsify(pruned)                                                     # doctest: +SKIP
    Sparsified(210 of 210 layers sparse: 16x1 210; 425 MB -> 90.3 MB)
    """
    begun, progress = time.perf_counter(), progress or Progress()
    check_values(values)
    chosen = None if format == "auto" else form(format)
    counts, workers = check_tokens(tokens), check_threads(threads)
    given = as_lm(model)
    layers = _layers(given, head)
    chooser = Chooser(values, counts, workers, REPEATS, seed, progress)
    records: list[LayerChoice] = []
    fresh: dict[str, SparseLinear] = {}
    with torch_threads(workers), torch.no_grad():
        for n, (name, layer) in enumerate(layers.items()):
            if chosen is not None:
                record, module = _fixed(name, layer, chosen, values, threads)
            else:
                record, module = chooser.choose(name, layer, partial(_made, layer, values=values, threads=threads))
            records.append(record)
            if module is not None:
                fresh[name] = module
            progress.step("sparsify", n + 1, len(layers), record)
    lm = given if inplace else replace(given, module=shared_copy(given.module))
    _exchange(lm, fresh)
    return Sparsified(
        lm, tuple(records), format, values, counts, workers, "" if chosen else clock(workers).name,
        time.perf_counter() - begun, getattr(model, "recipe", None), Provenance.here(seed=seed),
    )  # fmt: skip


def _layers(lm: LM, head: bool) -> dict[str, nn.Module]:
    """The layers to convert by name; raises ArgumentError if kernels cannot run this model."""
    found = layer_paths(lm.architecture)
    if head and "head" not in found:
        raise ArgumentError("head=True: this model has no output head that could be converted")
    layers = {name: layer for name, layer in found.items() if head or name != "head"}
    for name, layer in layers.items():
        if isinstance(layer, SparseLinear):
            raise ArgumentError(f"{name} is sparse already: pass the pruned model that it was made from")
        if not isinstance(layer, nn.Linear | Conv1D):
            raise ArgumentError(f"{name} is a {type(layer).__name__}, not a linear layer that could be converted")
        weight = matrix(layer)
        if weight.dtype not in DTYPES or weight.device.type != "cpu":
            raise ArgumentError(
                f"{name} is {weight.dtype} on {weight.device}: kernels run on the CPU in float32 or bfloat16; "
                "load the model so, e.g. workbench.load(source, dtype=torch.float32, device='cpu')"
            )
    return layers


def _made(layer: Any, chosen: Form, *, values: str, threads: int | None) -> SparseLinear:
    """The sparse twin of a layer."""
    weight = matrix(layer)
    built = chosen.build(weight.float().contiguous().numpy(), values)
    bias = getattr(layer, "bias", None)
    transposed = isinstance(layer, Conv1D)
    return SparseLinear(built, chosen.name, bias, threads=threads, dtype=weight.dtype, transposed=transposed)


def _fixed(
    name: str, layer: Any, chosen: Form, values: str, threads: int | None
) -> tuple[LayerChoice, SparseLinear | None]:
    """One layer in the format that was asked for, unmeasured."""
    try:
        module = _made(layer, chosen, values=values, threads=threads)
    except ArgumentError as error:
        raise ArgumentError(f"{name}: {error}") from error
    weight = matrix(layer)
    mask = (weight != 0).numpy()
    before = weight.numel() * weight.element_size()
    record = LayerChoice(
        name, (int(weight.shape[0]), int(weight.shape[1])), 1 - kept(mask) / mask.size, pattern_of(mask), (),
        chosen.named(values), float("nan"), "asked for", before, module.format.nbytes,
    )  # fmt: skip
    return record, module


def _exchange(lm: LM, fresh: dict[str, SparseLinear]) -> None:
    """Put the new layers into their places: nothing here can fail halfway."""
    where = dict(_places(lm))
    for name, module in fresh.items():
        parent, last = where[name]
        module.train(parent.training)
        setattr(parent, last, module)


def _places(lm: LM) -> Iterator[tuple[str, tuple[nn.Module, str]]]:
    """Where each layer of `layer_paths` hangs: its parent and its name there."""
    arch = lm.architecture
    for i, block in enumerate(arch.layers):
        for path in arch.linear_paths:
            above, _, last = path.rpartition(".")
            yield f"layers.{i}.{path}", (block.get_submodule(above), last)
    head = lm.module.get_output_embeddings()
    for parent in lm.module.modules() if head is not None else ():
        for last, child in parent.named_children():
            if child is head:
                yield "head", (parent, last)
