"""Whom the kernels are timed against. Every peer is optional; some have variants, of which the fastest is timed.

All take row-major float32 activations ``[T, K]`` and give row-major ``[T, N]``, and all work on layouts counts. Where a
peer is given more (bf16 activations, quantised ones), its name or variant says so: that favours the peer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from measure import Call, quickest
from problem import Prepared, Problem
from shapes import BF16, DENSE, FP32, INT8
from workbench_kernels._kernel import KERNELS

Build = Callable[[Problem, int], Prepared]
TOLERANCE = {"fp32": 1e-4, "bf16": 3e-2, "int8": 6e-2}  # of the largest output


@dataclass(frozen=True, slots=True)
class Peer:
    """A named opponent.

    Attributes
    ----------
    name : str
    needs : tuple of str
        Modules.
    variants : dict
        Name to ``build(problem, threads)``.
    precision : str
        How exactly its result must agree before it is timed.
    fits
        Whether it can do a problem.
    quick : bool
        Whether the quick run asks it.
    family : str
        Of the cases that it can do.
    """

    name: str
    needs: tuple[str, ...]
    variants: dict[str, Build]
    precision: str = "fp32"
    fits: Callable[[Problem], bool] = field(default=lambda problem: True)  # noqa: ARG005
    quick: bool = True
    family: str = "matmul"

    def missing(self) -> str | None:
        """Why it cannot be asked at all, or None."""
        for name in self.needs:
            try:
                import_module(name)
            except ImportError as error:
                return "not installed" if isinstance(error, ModuleNotFoundError) else f"does not load: {error}"
        return None

    def prepare(self, problem: Problem, threads: int) -> tuple[str, Prepared]:
        """Build all variants, check each against the reference, return the fastest with its name.

        Raises
        ------
        ArithmeticError
            If a result is wrong.
        """
        best: tuple[float, str, Prepared] | None = None
        for variant, build in self.variants.items():
            made = build(problem, threads)
            call = made.copy()
            self._check(made.finish(call()), problem.want, variant)
            duration = quickest(call, 5)
            if best is None or duration < best[0]:
                best = duration, variant, made
        if best is None:
            raise ArithmeticError(f"{self.name} has no variant")
        return best[1], best[2]

    def _check(self, got: np.ndarray, want: np.ndarray, variant: str) -> None:
        if got.shape != want.shape:
            raise ArithmeticError(f"{self.name} ({variant}) gives shape {got.shape}, not {want.shape}")
        error, scale = np.abs(got - want).max(initial=0), np.abs(want).max(initial=0)
        if not error <= TOLERANCE[self.precision] * scale:
            raise ArithmeticError(f"{self.name} ({variant}) is off by {error / max(scale, 1e-30):.2g} of the largest")


def _numpy(result: Any) -> np.ndarray:
    return np.asarray(result.float().numpy())


def _linear(dtype: str, cast: bool = False) -> Build:
    def build(problem: Problem, _threads: int) -> Prepared:
        import torch
        from torch.nn.functional import linear

        kind = getattr(torch, dtype)
        weight, x = torch.from_numpy(problem.dense).to(kind), torch.from_numpy(problem.inputs["x"])
        given = x if cast else x.to(kind)

        def fresh() -> Call:
            w = weight.clone()
            return (lambda: linear(given.to(kind), w).float()) if cast else (lambda: linear(given, w))

        return Prepared(fresh, weight.nbytes, _numpy)

    return build


def _packed(dtype: str) -> Build:
    """OneDNN with weights in its own blocked layout, as torch.compile stores them when it freezes a model."""

    def build(problem: Problem, _threads: int) -> Prepared:
        import torch

        ops, kind = torch.ops.mkldnn, getattr(torch, dtype)
        weight, x = torch.from_numpy(problem.dense).to(kind), torch.from_numpy(problem.inputs["x"]).to(kind)

        def fresh() -> Call:
            w = ops._reorder_linear_weight(weight, problem.case.tokens)
            return lambda: ops._linear_pointwise(x, w, None, "none", [], "")

        return Prepared(fresh, weight.nbytes, _numpy)

    return build


def _int8_inputs(problem: Problem) -> tuple[Any, Any, Any]:
    import torch

    weight, x = torch.from_numpy(problem.dense), torch.from_numpy(problem.inputs["x"])
    scale = (weight.abs().amax(1) / 127).clamp_min(1e-12)
    return x, (weight / scale[:, None]).round_().to(torch.int8), scale


def _int8_eager(problem: Problem, _threads: int) -> Prepared:
    import torch

    x, quantised, scale = _int8_inputs(problem)

    def fresh() -> Call:
        w = quantised.clone().t()

        def run() -> Any:
            s = x.abs().amax(1, keepdim=True) / 127
            return torch._int_mm((x / s).round_().to(torch.int8), w).float().mul_(s).mul_(scale)

        return run

    return Prepared(fresh, quantised.nbytes, _numpy)


def _int8_fused(problem: Problem, _threads: int) -> Prepared:
    """The quantised linear layer of torch.ao, which measures the activations' range and rounds them on the way."""
    import torch

    x, _, scale = _int8_inputs(problem)
    torch.backends.quantized.engine = "onednn"
    zero, weight = torch.zeros(len(scale), dtype=torch.long), torch.from_numpy(problem.dense)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is to move to another package
        quantised = torch.quantize_per_channel(weight, scale.double(), zero, 0, torch.qint8)

    def fresh() -> Call:
        w = torch.ops.quantized.linear_prepack(quantised, None)
        return lambda: torch.ops.quantized.linear_dynamic(x, w, False)

    return Prepared(fresh, weight.numel(), _numpy)


def _int8_products(problem: Problem, _threads: int) -> Prepared:
    import torch

    x, quantised, scale = _int8_inputs(problem)
    s = x.abs().amax(1, keepdim=True) / 127
    q = (x / s).round_().to(torch.int8)

    def fresh() -> Call:
        w = quantised.clone().t()
        return lambda: torch._int_mm(q, w)

    return Prepared(fresh, quantised.nbytes, lambda result: _numpy(result.float() * s * scale))


def _torch_sparse(blocks: bool) -> Build:
    def build(problem: Problem, _threads: int) -> Prepared:
        import torch

        weight, x = torch.from_numpy(problem.dense), torch.from_numpy(problem.inputs["x"])
        size = 32 if "32" in problem.case.kernel else 16
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sparse CSR is in beta
            sparse = weight.to_sparse_bsr((size, size)) if blocks else weight.to_sparse_csr()

        def fresh() -> Call:
            w = sparse.clone()
            if len(x) == 1:
                vector = x[0]
                return lambda: (w @ vector)[None]
            return lambda: (w @ x.t()).t().contiguous()

        nbytes = sum(part.nbytes for part in (sparse.values(), sparse.crow_indices(), sparse.col_indices()))
        return Prepared(fresh, nbytes, _numpy)

    return build


def _sparse_array(problem: Problem) -> tuple[Any, int]:
    from scipy.sparse import csr_matrix

    made = csr_matrix(problem.dense)
    return made, made.data.nbytes + made.indices.nbytes + made.indptr.nbytes


def _scipy(problem: Problem, _threads: int) -> Prepared:
    sparse, nbytes = _sparse_array(problem)
    x = problem.inputs["x"]

    def fresh() -> Call:
        w = sparse.copy()
        if len(x) == 1:
            vector = x[0]
            return lambda: (w @ vector)[None]
        return lambda: np.ascontiguousarray((w @ np.ascontiguousarray(x.T)).T)

    return Prepared(fresh, nbytes)


def _mkl(transposed: bool) -> Build:
    def build(problem: Problem, _threads: int) -> Prepared:
        from sparse_dot_mkl import dot_product_mkl

        sparse, nbytes = _sparse_array(problem)
        x = problem.inputs["x"]

        def fresh() -> Call:
            w = sparse.copy()
            if len(x) == 1:
                vector = x[0]
                return lambda: dot_product_mkl(w, vector)[None]
            if transposed:
                return lambda: np.ascontiguousarray(dot_product_mkl(w, np.ascontiguousarray(x.T)).T)
            return lambda: dot_product_mkl(w, x.T).T

        return Prepared(fresh, nbytes)

    return build


def _own_dense(problem: Problem, threads: int) -> Prepared:
    """Our own dense kernel on the same values: what sparsity alone gains."""
    from problem import clone
    from workbench_kernels.formats import Dense
    from workbench_kernels.matmul import matmul

    x = problem.inputs["x"]
    weight = Dense.from_dense(problem.dense, problem.inputs["weight"].values)

    def fresh() -> Call:
        own = clone(weight)
        return lambda: matmul(own, x, threads=threads)

    return Prepared(fresh, weight.nbytes)


def _is_int8(problem: Problem) -> bool:
    return problem.case.kernel.endswith("int8")


def _is_blocks(problem: Problem) -> bool:
    return problem.case.kernel.startswith("bsr")


def _is_whole(problem: Problem) -> bool:
    return not problem.case.kernel.startswith("dense")


def _reference(problem: Problem, _threads: int) -> Prepared:
    kernel = KERNELS[problem.case.kernel]
    return Prepared(lambda: lambda: kernel.reference(**problem.inputs), problem.nbytes)


PEERS = (
    Peer(FP32, ("torch",), {"": _linear("float32")}),
    Peer(BF16, ("torch",), {"bf16 in and out": _linear("bfloat16"), "casts": _linear("bfloat16", cast=True)}, "bf16"),
    Peer("oneDNN fp32 packed", ("torch",), {"": _packed("float32")}),
    Peer("oneDNN bf16 packed", ("torch",), {"bf16 in and out": _packed("bfloat16")}, "bf16", quick=False),
    Peer(INT8, ("torch",), {"eager": _int8_eager, "fused": _int8_fused}, "int8", _is_int8),
    Peer("torch int8, already quantised", ("torch",), {"int32 out": _int8_products}, "int8", _is_int8),
    Peer("torch.sparse CSR", ("torch",), {"": _torch_sparse(blocks=False)}, fits=_is_whole),
    Peer("torch.sparse BSR", ("torch",), {"": _torch_sparse(blocks=True)}, fits=_is_blocks),
    Peer("scipy", ("scipy.sparse",), {"": _scipy}, fits=_is_whole),
    Peer("MKL sparse", ("scipy.sparse", "sparse_dot_mkl"), {"column-major": _mkl(False), "transposed": _mkl(True)},
         fits=_is_whole),
    Peer(DENSE, (), {"": _own_dense}, "int8", fits=_is_whole),
    Peer("numpy reference", (), {"float64": _reference}, family="other"),
)  # fmt: skip
