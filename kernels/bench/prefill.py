"""Prefill: the kernel over kept blocks against torch's dense attention and our own.

The peers attend to every block, which is the work that leaving blocks out saves. Each is held to a float64 reference of
what it computes, the kernel to its own; at the timed length both look at some blocks of queries of each head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from measure import Call
from peers import Build, Peer
from problem import Prepared, Problem, clone
from shapes import OWN_ATTENTION, SDPA, Case
from workbench_kernels._attention_check import attend_bound, attend_reference
from workbench_kernels._attention_tiles import BLOCK
from workbench_kernels._kernel import KERNELS

ROWS = 96  # queries of each head that are compared


def prefill_problem(case: Case, shape: tuple[int, ...], threads: int, seed: int = 0) -> Problem:
    """Random queries, keys, values and kept blocks, the diagonal always kept; the kernel compared on some queries.

    Raises
    ------
    AssertionError
        If the kernel and its reference differ by more than the kernel's bound.
    """
    kernel, rng = KERNELS[case.kernel], np.random.default_rng(seed)
    inputs = dict(kernel.make(rng, shape, 1 - case.sparsity))
    blocks = inputs["blocks"]
    mask = blocks.to_mask()
    mask[:, np.arange(mask.shape[1]), np.arange(mask.shape[1])] = True
    blocks = inputs["blocks"] = type(blocks).from_mask(mask, blocks.length)
    out = np.full(inputs["q"].shape, np.nan, np.float32)
    kernel.run(**inputs, threads=threads, out=out)
    rows = np.sort(rng.choice(blocks.length, min(ROWS, blocks.length), replace=False))
    error = _worst(inputs, rows, out, lambda head, row: mask[head, row // BLOCK].repeat(BLOCK)[: blocks.length])
    if not error <= 1:
        raise AssertionError(f"{kernel.name} {shape}: off by {error:.3g} times the bound")
    want = np.stack([_expected(inputs, head, rows, None)[0] for head in range(len(mask))])
    size = kernel.flops(inputs), kernel.bytes(inputs)
    ours = Prepared(_fresh(kernel.run, inputs, threads), sum(inputs[name].nbytes for name in "qkv"))
    given, none = {**inputs, "rows": rows}, np.empty((0, 0), np.float32)
    return Problem(case, shape, 1 - blocks.kept, want, none, given, *size, "fp32", ours)


def _fresh(run: Callable[..., Any], inputs: dict[str, Any], threads: int) -> Callable[[], Call]:
    def fresh() -> Call:
        own = {name: clone(value) for name, value in inputs.items()}
        return lambda: run(**own, threads=threads)

    return fresh


def _expected(inputs: dict[str, Any], head: int, rows: np.ndarray, seen: Any) -> tuple[np.ndarray, np.ndarray]:
    """Reference and bound of some queries of a head; ``seen(head, row)`` bool [S], None for all keys before."""
    q, k, v = inputs["q"], inputs["k"], inputs["v"]
    shared, length = head // (len(q) // len(k)), q.shape[1]
    past = np.arange(length) <= rows[:, None]
    mask = past if seen is None else past & np.stack([seen(head, row) for row in rows])
    given = q[head, rows], k[shared], v[shared], mask, q.shape[2] ** -0.5
    return attend_reference(*given), attend_bound(*given)


def _worst(inputs: dict[str, Any], rows: np.ndarray, got: np.ndarray, seen: Any) -> float:
    """The largest error in units of the bound; infinite where something was not written."""
    worst = 0.0
    for head in range(len(got)):
        want, bound = _expected(inputs, head, rows, seen)
        error = np.abs(got[head, rows] - want) / np.maximum(bound, 1e-300)
        worst = max(worst, float(np.where(np.isfinite(error), error, np.inf).max(initial=0)))
    return worst if np.isfinite(got).all() else np.inf


def _sdpa(dtype: str, repeated: bool) -> Build:
    """Torch's attention; ``repeated``: keys and values were repeated for each query head beforehand, untimed."""

    def build(problem: Problem, _threads: int) -> Prepared:
        import torch
        from torch.nn.functional import scaled_dot_product_attention as attend

        kind, rows = getattr(torch, dtype), torch.from_numpy(problem.inputs["rows"])
        q, k, v = (torch.from_numpy(problem.inputs[name])[None].to(kind) for name in "qkv")
        if repeated:
            k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
        shares = not repeated

        def fresh() -> Call:
            a, b, c = q.clone(), k.clone(), v.clone()
            return lambda: attend(a, b, c, is_causal=True, enable_gqa=shares)

        return Prepared(fresh, q.nbytes + k.nbytes + v.nbytes, lambda y: y[0][:, rows].float().numpy())

    return build


def _own_prefill(problem: Problem, threads: int) -> Prepared:
    inputs = {name: problem.inputs[name] for name in "qkv"}
    run, rows = KERNELS[problem.case.kernel].run, problem.inputs["rows"]
    return Prepared(_fresh(run, inputs, threads), sum(a.nbytes for a in inputs.values()), lambda y: y[:, rows])


def _variants(dtype: str) -> dict[str, Build]:
    return {"shared heads": _sdpa(dtype, repeated=False), "repeated heads": _sdpa(dtype, repeated=True)}


PEERS = (
    Peer(SDPA, ("torch",), _variants("float32"), family="prefill"),
    Peer("torch SDPA bf16", ("torch",), _variants("bfloat16"), "bf16", family="prefill", quick=False),
    Peer(OWN_ATTENTION, (), {"all blocks": _own_prefill}, family="prefill"),
)
