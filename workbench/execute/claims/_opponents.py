"""Torch's ways to multiply by a weight, as opponents: each is checked before it is timed.

All take row-major float32 activations ``[T, K]``. Where one is given more than our kernels are, it says so: that
favours the opponent.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from workbench.errors import ResourceError
from workbench.execute.claims._duel import Contest
from workbench.execute.forms import form
from workbench.execute.timing import Contestant, error_of, ours

Call = Callable[[], Any]
Opponent = Callable[[np.ndarray, np.ndarray], Call]
TOLERANCE = {"fp32": 1e-4, "int8": 6e-2}  # of the largest output


def dense(weight: np.ndarray, x: np.ndarray) -> Call:
    """``torch.nn.functional.linear`` in float32."""
    w, given = torch.from_numpy(weight), torch.from_numpy(x)
    return lambda: torch.nn.functional.linear(given, w)


def dense_packed(weight: np.ndarray, x: np.ndarray) -> Call:
    """OneDNN in float32 on weights in its own blocked layout, as a frozen ``torch.compile`` model has them."""
    ops, given = torch.ops.mkldnn, torch.from_numpy(x)
    w = ops._reorder_linear_weight(torch.from_numpy(weight), len(x))
    return lambda: ops._linear_pointwise(given, w, None, "none", [], "")


def sparse_rows(weight: np.ndarray, x: np.ndarray) -> Call:
    """Torch's CSR: times a vector for one token, else times activations that already are columns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says once that its CSR is in beta state
        w = torch.from_numpy(weight).to_sparse_csr()
    if len(x) == 1:
        vector = torch.from_numpy(x[0])
        return lambda: torch.mv(w, vector)
    columns = torch.from_numpy(x).T.contiguous()
    return lambda: torch.mm(w, columns)


def int8_rounding(weight: np.ndarray, x: np.ndarray) -> Call:
    """``torch._int_mm`` between rounding the activations per token and scaling the outputs."""
    w, given = torch.from_numpy(weight), torch.from_numpy(x)
    scale = (w.abs().amax(1) / 127).clamp_min(1e-12)
    rounded = (w / scale[:, None]).round_().to(torch.int8).t()

    def run() -> torch.Tensor:
        s = (given.abs().amax(1, keepdim=True) / 127).clamp_min(1e-12)
        sums: torch.Tensor = torch._int_mm((given / s).round_().to(torch.int8), rounded)
        return sums.float().mul_(s).mul_(scale)

    return run


def int8_layer(weight: np.ndarray, x: np.ndarray) -> Call:
    """The dynamically quantised linear layer of torch.ao on oneDNN: one scale for all activations."""
    w, given = torch.from_numpy(weight), torch.from_numpy(x)
    scale = (w.abs().amax(1).double() / 127).clamp_min(1e-12)
    zero = torch.zeros(len(w), dtype=torch.long)
    with _engine("onednn"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is to move to another package
        held = torch.quantize_per_channel(w, scale, zero, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(held, None)
    return lambda: torch.ops.quantized.linear_dynamic(given, packed, False)


@contextmanager
def _engine(name: str) -> Iterator[None]:
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = name
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


DENSE: dict[str, Opponent] = {"torch fp32": dense, "oneDNN fp32, packed": dense_packed}
SPARSE: dict[str, Opponent] = {"torch.sparse CSR": sparse_rows}
INT8: dict[str, Opponent] = {"torch int8 (rounding, _int_mm)": int8_rounding, "torch int8 (dynamic layer)": int8_layer}


def contest(
    work: str,
    formats: tuple[str, ...],
    values: str,
    weight: np.ndarray,
    x: np.ndarray,
    opponents: Mapping[str, Opponent],
) -> Contest:
    """Our kernel of the first format, against opponents and our kernels of the other formats, all checked.

    Raises
    ------
    ResourceError
        If this build of torch lacks an opponent, or a result is wrong.
    """
    own = [ours(form(name), weight, values, torch.get_num_threads()) for name in formats]
    calls: dict[str, Call] = {}
    for one in own:
        calls[one.name if one is own[0] else f"our {one.name}"] = _checked(one, x)
    want = x.astype(np.float64) @ weight.astype(np.float64).T
    for name, build in opponents.items():
        try:
            call = build(weight, x)
            got = np.asarray(call())
        except (RuntimeError, AttributeError) as error:
            reason = str(error).split("\n")[0]
            raise ResourceError(f"this torch cannot do {name} ({reason}): the claim cannot be checked here") from error
        off = np.abs(got.reshape(want.shape) - want) if len(x) == 1 else np.abs(_rows(got, want) - want)
        if not off.max() <= TOLERANCE[values] * np.abs(want).max():
            raise ResourceError(f"{name} is wrong by {off.max():.3g} on this machine: the claim cannot be checked here")
        calls[name] = call
    return Contest(work, own[0].name, calls)


def _checked(one: Contestant, x: np.ndarray) -> Call:
    call = one.prepare(x)
    error = error_of(one, call, x)
    if not error <= 1:
        raise ResourceError(f"{one.name} is off by {error:.3g} times the bound from its reference: it is not timed")
    return call


def _rows(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Outputs ``[T, N]``, which sparse opponents leave transposed."""
    return got if got.shape == want.shape else got.T
