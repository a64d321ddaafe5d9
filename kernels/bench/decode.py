"""Decoding one token over a long cache: selecting blocks and attending to them, against attending to all of it.

Copies of the cache would fill the memory; instead every call brings another query, which selects other blocks.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from measure import Call
from peers import Build, Peer
from problem import Prepared, Problem
from shapes import OWN_ATTENTION, SDPA, Case
from workbench_kernels._kernel import KERNELS, Kernel

QUERIES, SCORES = 8, "score-blocks-mean"


def decode_problem(case: Case, shape: tuple[int, ...], threads: int, seed: int = 0) -> Problem:
    """A random cache and queries; selection and attention are compared with their references for one query.

    Raises
    ------
    AssertionError
        If scores or outputs differ from their references by more than their bounds, or others were selected.
    """
    from workbench_kernels.attention_blocks import score_blocks, select_blocks

    kernel, rng = KERNELS[case.kernel], np.random.default_rng(seed)
    inputs = dict(kernel.make(rng, shape, 1 - case.sparsity))
    cache, keep = inputs["cache"], max(1, round((1 - case.sparsity) * inputs["cache"].blocks))
    queries = [rng.standard_normal(inputs["q"].shape).astype(np.float32) for _ in range(QUERIES)]

    def run(q: np.ndarray) -> np.ndarray:
        index = select_blocks(score_blocks(q, cache, threads=threads), keep)
        return kernel.run(q, cache, index, threads=threads)

    q = queries[0]
    index = select_blocks(_checked(KERNELS[SCORES], {"q": q, "cache": cache}, threads), keep)
    given = {"q": q, "cache": cache, "block_index": index}
    if _checked(kernel, given, threads).tobytes() != run(q).tobytes():
        raise AssertionError(f"{kernel.name} {shape}: the timed call gives other bytes than the checked one")
    scored = {"q": q, "cache": cache, "method": "mean"}
    flops, nbytes = (getattr(kernel, n)(given) + getattr(KERNELS[SCORES], n)(scored) for n in ("flops", "bytes"))
    k, v = cache.to_dense()
    rest = {"queries": queries, "k": k, "v": v, "cache": cache}
    want, none = kernel.reference(q, cache), np.empty((0, 0), np.float32)
    ours = Prepared(_each(run, queries), kernel.bytes(given), same=False)
    return Problem(case, shape, 1 - keep / cache.blocks, want, none, rest, flops, nbytes, "fp32", ours)


def _checked(kernel: Kernel, given: dict[str, Any], threads: int) -> np.ndarray:
    got, want, bound = kernel.run(**given, threads=threads), kernel.reference(**given), kernel.bound(**given)
    if not (np.abs(got - want) <= bound).all():
        raise AssertionError(f"{kernel.name}: off by {np.abs(got - want).max():.3g}")
    return got


def _each(run: Callable[[Any], Any], queries: list[Any]) -> Callable[[], Call]:
    """Each call that is made brings the next query."""
    turn = itertools.cycle(queries)

    def fresh() -> Call:
        q = next(turn)
        return lambda: run(q)

    return fresh


def _own_dense(problem: Problem, threads: int) -> Prepared:
    run, cache = KERNELS["decode-attention"].run, problem.inputs["cache"]
    every = _each(lambda q: run(q, cache, threads=threads), problem.inputs["queries"])
    return Prepared(every, cache.nbytes, same=False)


def _sdpa(grouped: bool) -> Build:
    """Torch's attention; ``grouped``: the queries that share a head are passed as tokens of one query head."""

    def build(problem: Problem, _threads: int) -> Prepared:
        import torch
        from torch.nn.functional import scaled_dot_product_attention as attend

        k, v = (torch.from_numpy(problem.inputs[name])[None] for name in "kv")
        heads, shared, dim = len(problem.want), k.shape[1], k.shape[3]
        shape = (1, shared, heads // shared, dim) if grouped else (1, heads, 1, dim)
        queries = [torch.from_numpy(q).reshape(shape) for q in problem.inputs["queries"]]
        every = _each(lambda q: attend(q, k, v, enable_gqa=not grouped), queries)
        return Prepared(every, k.nbytes + v.nbytes, lambda y: y.reshape(heads, dim).numpy(), same=False)

    return build


_OWN = Peer(OWN_ATTENTION, (), {"all blocks": _own_dense}, family="decode")
_SDPA = {"shared heads": _sdpa(grouped=False), "grouped queries": _sdpa(grouped=True)}
PEERS = (_OWN, dataclasses.replace(_OWN, name=SDPA, needs=("torch",), variants=_SDPA))
