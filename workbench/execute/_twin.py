"""Whether a compiled model computes what it should: its logits beside those of a float64 twin.

The twin is the transformers model in float64 with the weights as they are stored (rounded, scales applied) and with
the inputs of every matrix rounded as the kernel rounds them. It differs from the compiled model by float32 sums only.

    fp32         tolerance: 4 times how far transformers' own float32 run is from its float64 run. Both add the same
                 products in float32, in different orders; either is within n u sum |w x| of the truth.
    bf16, int8   an input near the border between two rounded values falls to either side in float32 and float64, and
                 later layers spread that: two right computations differ by about what rounding changes. Tolerance:
                 as much as that, root mean square over all logits; without rounded inputs it is far from reached.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from workbench_kernels.formats import WeightFormat
from workbench_kernels.formats._base import round_inputs

from workbench.execute._extract import GATE_UP, QKV
from workbench.models import LM

SLACK_FP32, SLACK_ROUNDED = 4.0, 1.0


@dataclass(frozen=True, slots=True)
class LogitCheck:
    """What the comparison found.

    Attributes
    ----------
    tokens : int
        Compared, each with all its logits.
    error : float
        Root mean square difference to the twin.
    tolerance : float
    rounding : float
        Root mean square difference of the twin to the model without any rounding.
    top1 : float
        Share of tokens whose most likely next token is that of the model without rounding.
    divergence : float
        Mean Kullback-Leibler divergence to it, in nats.
    """

    tokens: int
    error: float
    tolerance: float
    rounding: float
    top1: float
    divergence: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.error <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__} | {"passed": self.passed}


def check_logits(lm: LM, formats: Mapping[str, list[WeightFormat]], got: np.ndarray, ids: np.ndarray) -> LogitCheck:
    """Compare compiled logits with the twin's.

    Parameters
    ----------
    lm
        The model that was compiled.
    formats
        What holds ``qkv``, ``o``, ``gate_up`` and ``down`` of every layer, and ``head`` (one).
    got
        Compiled logits ``[T, V]`` of ``ids`` ``[T]``.
    ids
    """
    exact = copy.deepcopy(lm.module).double()
    truth = _logits(exact, ids)
    rounded = any(w.values != "fp32" for group in formats.values() for w in group)
    if rounded:
        _store(exact, lm, formats)
        with _rounding(exact, lm, formats):
            twin = _logits(exact, ids)
        rounding = _rms(twin - truth)
        tolerance = SLACK_ROUNDED * rounding
    else:
        twin, rounding = truth, 0.0
        tolerance = SLACK_FP32 * _rms(_logits(lm.module.float(), ids) - truth)
    p, q = _log_softmax(truth), _log_softmax(got.astype(np.float64))
    top1 = float((got.argmax(1) == truth.argmax(1)).mean())
    divergence = float((np.exp(p) * (p - q)).sum(1).mean())
    return LogitCheck(len(ids), _rms(got - twin), tolerance, rounding, top1, divergence)


def _logits(module: Any, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits[0].double().numpy()


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def _log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def _groups(lm: LM) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    for n in range(lm.architecture.num_layers):
        yield "qkv", n, QKV
        yield "o", n, ("self_attn.o_proj",)
        yield "gate_up", n, GATE_UP
        yield "down", n, ("mlp.down_proj",)


def _store(module: Any, lm: LM, formats: Mapping[str, list[WeightFormat]]) -> None:
    """Give the twin the weights as they are stored; its embedding stays as it is."""
    layers = module.get_submodule(lm.architecture.family.layers)
    for kind, n, paths in _groups(lm):
        weight, row = torch.from_numpy(formats[kind][n].to_dense()).double(), 0
        for path in paths:
            linear = layers[n].get_submodule(path)
            rows = linear.weight.shape[0]
            linear.weight = torch.nn.Parameter(weight[row : row + rows], requires_grad=False)
            row += rows
    head = module.get_output_embeddings()
    head.weight = torch.nn.Parameter(torch.from_numpy(formats["head"][0].to_dense()).double(), requires_grad=False)


@contextmanager
def _rounding(module: Any, lm: LM, formats: Mapping[str, list[WeightFormat]]) -> Iterator[None]:
    """Round the inputs of every matrix as its kernel does, while the block runs."""
    layers, hooks = module.get_submodule(lm.architecture.family.layers), []
    for kind, n, paths in _groups(lm):
        hooks += [
            layers[n].get_submodule(path).register_forward_pre_hook(_Round(formats[kind][n].sees)) for path in paths
        ]
    hooks.append(module.get_output_embeddings().register_forward_pre_hook(_Round(formats["head"][0].sees)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Round:
    def __init__(self, sees: str) -> None:
        self.sees = sees

    def __call__(self, _module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.sees == "fp32":
            return args
        x = args[0]
        flat = x.float().reshape(-1, x.shape[-1]).numpy()
        return (torch.from_numpy(round_inputs(flat, self.sees)).reshape(x.shape), *args[1:])
