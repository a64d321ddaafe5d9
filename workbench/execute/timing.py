"""Kernels of one matrix against each other and against torch: check first, then time.

    matrix --(formats that suit it)--> kernels --(hold each to its reference)--> interleaved timing --> KernelTimings

Nothing is timed that has not just matched its reference. All contestants multiply the same activations; bf16 of torch
gets them as bf16, ours as float32, whose rounding is part of the time.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from workbench_kernels import KernelError
from workbench_kernels.matmul import matmul, matmul_bound, matmul_reference

from workbench.errors import ArgumentError
from workbench.execute import patterns
from workbench.execute._clock import check_count, check_threads, check_tokens, clock, rounds, speedup, torch_threads
from workbench.execute._target import Target, target_of
from workbench.execute.forms import Form, check_values, named_forms
from workbench.execute.reports import BreakEven, KernelRow, KernelTimings
from workbench.jobs import Progress
from workbench.results import Provenance

TORCH, TORCH_CSR = "torch", "torch-csr"


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to multiply: what runs, and what is known of it before it runs.

    Attributes
    ----------
    prepare
        ``prepare(x)``: from activations float32 ``[T, K]`` to a function without arguments that multiplies them.
    computes
        The type that is multiplied.
    stored, weight_bytes : int
    width : int
        Bytes of an activation and of an output.
    weight
        The format, or None for torch.
    """

    format: str
    values: str
    prepare: Callable[[np.ndarray], Callable[[], Any]]
    computes: str
    stored: int
    weight_bytes: int
    width: int = 4
    weight: Any = None

    @property
    def name(self) -> str:
        """Format and values."""
        return self.format if self.values == "fp32" else f"{self.format}-{self.values}"


def time_kernels(
    layer_or_shape: Any,
    *,
    pattern: str | None = None,
    sparsity: float | None = None,
    formats: Sequence[str] | str | None = None,
    values: Sequence[str] | str = ("fp32",),
    tokens: Sequence[int] | int = (1, 16, 128),
    threads: int | None = 1,
    repeats: int = 9,
    cold: bool = False,
    break_even: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> KernelTimings:
    """Time every kernel that suits a matrix, against torch and against our own dense kernel.

    Parameters
    ----------
    layer_or_shape
        ``(model, "layers.3.mlp.up_proj")``: that weight as it is, e.g. of a pruned result; or a shape
        ``(outputs, inputs)``, for random weights under ``pattern``.
    pattern, sparsity
        Only with a shape: ``"unstructured"``, ``"2:4"``, ``"16x1"``, ``"4x1"``, ``"bsr16"``, ``"bsr32"`` or another
        N:M or block, and the share of weights that go (0.8 unless the pattern fixes it).
    formats
        Names such as ``"16x1"`` or ``"bitmap"``; None: all that suit the pattern. The dense kernel always runs.
    values
        ``"fp32"``, ``"bf16"``, ``"int8"``: how weights are stored.
    tokens
        How many tokens come together.
    threads
        For kernels and torch; None: as many as torch uses now.
    repeats
        Interleaved samples of each kernel.
    cold
        Whether caches are emptied before every call, as if the weights came from memory.
    break_even
        Whether to find out from which sparsity on each kernel pays (see `break_even`).
    seed
        Of random weights and activations.
    progress
        Hears after every repeat, with all that is known so far as a partial `KernelTimings`; cancels within a second.

    Raises
    ------
    ArgumentError
        If an argument or a name is wrong.
    Cancelled
        If the job was cancelled.

    Examples
    --------
    >>> workbench.time_kernels((1536, 576), pattern="16x1", sparsity=0.8)              # doctest: +SKIP
    KernelTimings(1536 x 576, 16x1, 80 % zero; fastest at 1 tokens: 16x1 4.1x, ...)
    """
    begun, progress = time.perf_counter(), progress or Progress()
    kinds = [check_values(v) for v in dict.fromkeys((values,) if isinstance(values, str) else values)]
    counts, repeats, workers = check_tokens(tokens), check_count("repeats", repeats), check_threads(threads)
    target = target_of(layer_or_shape, pattern, sparsity, seed)
    state = _State(target, counts, workers, repeats, cold, seed, begun, progress)
    with torch_threads(workers), torch.inference_mode():
        state.gather(kinds, formats)
        for count in counts:
            state.run(count)
        found = state.balance(kinds, formats) if break_even else None
    return replace(state.result(), break_even=found, seconds=time.perf_counter() - begun)


class _State:
    """One call of `time_kernels` while it runs."""

    def __init__(
        self, target: Target, tokens: tuple[int, ...], threads: int, repeats: int, cold: bool, seed: int,
        begun: float, progress: Progress,
    ) -> None:  # fmt: skip
        from workbench_kernels.roofline import measured

        self.target, self.tokens, self.threads, self.repeats = target, tokens, threads, repeats
        self.cold, self.seed, self.begun, self.progress = cold, seed, begun, progress
        progress.step("measure the machine", 0, 1)
        self.roofline = measured(threads)
        self.picture = patterns.picture(target.weight)
        self.pattern = patterns.pattern_of(target.weight)
        self.provenance = Provenance.here(seed=seed)
        self.contestants: list[Contestant] = []
        self.skipped: dict[str, str] = {}
        self.rows: list[KernelRow] = []
        self.done = 0

    def gather(self, kinds: Sequence[str], formats: Sequence[str] | str | None) -> None:
        """Build every contestant; what cannot be built is skipped, saying why."""
        weight = self.target.weight
        self.contestants = [torch_dense(weight, "fp32"), torch_dense(weight, "bf16")]
        try:
            self.contestants.append(torch_csr(weight))
        except RuntimeError as error:
            self.skipped[TORCH_CSR] = str(error).split("\n")[0]
        for values in kinds:
            chosen = named_forms(formats, weight, values)
            for form in chosen:
                self.progress.step("convert", len(self.contestants), len(self.contestants) + len(chosen))
                try:
                    self.contestants.append(ours(form, weight, values, self.threads))
                except ArgumentError as error:
                    self.skipped[form.named(values)] = str(error)

    def run(self, tokens: int) -> None:
        """Check and time all contestants at one number of tokens."""
        rng = np.random.default_rng([self.seed, tokens])
        x = rng.standard_normal((tokens, self.target.weight.shape[1])).astype(np.float32)
        works, errors, entered = {}, {}, []
        for one in self.contestants:
            self.progress.check()
            try:
                work = one.prepare(x)
                errors[one.name] = error_of(one, work, x)
            except RuntimeError as error:  # torch lacks the operation
                self.skipped[f"{one.name}, {tokens} tokens"] = str(error).split("\n")[0]
                continue
            if one.weight is not None and not errors[one.name] <= 1:
                self.skipped[f"{one.name}, {tokens} tokens"] = (
                    f"refused: off by {errors[one.name]:.3g} times the bound from its reference"
                )
                continue
            works[one.name] = work
            entered.append(one)
        kept, total = list(self.rows), len(self.tokens) * self.repeats
        for samples in rounds(works, self.repeats, self.threads, self.progress, cold=self.cold):
            self.rows = kept + [self.row(one, tokens, samples, errors[one.name]) for one in entered]
            self.done += 1
            self.progress.step("time kernels", self.done, total, self.result())

    def row(self, one: Contestant, tokens: int, samples: dict[str, list[float]], error: float) -> KernelRow:
        """One row from its samples."""
        ms = float(np.median(samples[one.name]))
        moved = one.weight_bytes + one.width * tokens * sum(self.target.weight.shape)
        flops = 2 * one.stored * tokens
        own = samples.get("dense" if one.values == "fp32" else f"dense-{one.values}")
        bound = self.roofline.bound_seconds(flops, moved, one.computes, warm=not self.cold)
        return KernelRow(
            one.format, one.values, tokens, ms, *speedup(samples[TORCH], samples[one.name]),
            own_ratio=speedup(own, samples[one.name])[0] if own else float("nan"),
            gflops=flops / ms / 1e6, gbytes=moved / ms / 1e6, roofline=1e3 * bound / ms, intensity=flops / moved,
            computes=one.computes, bytes_moved=moved, weight_bytes=one.weight_bytes, stored=one.stored, error=error,
        )  # fmt: skip

    def balance(self, kinds: Sequence[str], formats: Sequence[str] | str | None) -> BreakEven | None:
        """Where sparsity begins to pay, on random masks of the same pattern."""
        from workbench.execute.balance import break_even, swept

        pattern = self.target.pattern or self.pattern
        if not swept(pattern):
            self.skipped["break-even"] = f"{pattern} leaves no choice of sparsity"
            return None
        return break_even(
            self.target.weight.shape, pattern=pattern, formats=formats, values=kinds, tokens=self.tokens,
            threads=self.threads, repeats=max(3, self.repeats // 2), seed=self.seed, progress=self.progress,
        )  # fmt: skip

    def result(self) -> KernelTimings:
        """All that is known so far."""
        weight = self.target.weight
        return KernelTimings(
            self.target.title, (int(weight.shape[0]), int(weight.shape[1])), self.pattern,
            1 - np.count_nonzero(weight) / weight.size, self.tokens, self.threads, self.repeats, self.cold,
            clock(self.threads).name, tuple(self.rows), dict(self.skipped), self.roofline, self.picture, None,
            time.perf_counter() - self.begun, self.provenance,
        )  # fmt: skip


def ours(form: Form, weight: np.ndarray, values: str, threads: int) -> Contestant:
    """A format of ours."""
    built = form.build(weight, values)

    def prepare(x: np.ndarray) -> Callable[[], Any]:
        out = np.empty((x.shape[0], weight.shape[0]), np.float32)
        return lambda: matmul(built, x, out=out, threads=threads)

    computes = built.sees.partition("-")[0]
    return Contestant(form.name, values, prepare, computes, built.stored, built.nbytes, weight=built)


def torch_dense(weight: np.ndarray, values: str) -> Contestant:
    """Torch's dense layer in float32 or bf16."""
    kind = torch.float32 if values == "fp32" else torch.bfloat16
    held = torch.from_numpy(weight).to(kind)

    def prepare(x: np.ndarray) -> Callable[[], Any]:
        given = torch.from_numpy(x).to(kind)
        return lambda: torch.nn.functional.linear(given, held)

    return Contestant(TORCH, values, prepare, values, weight.size, held.nbytes, held.element_size())


def torch_csr(weight: np.ndarray) -> Contestant:
    """Torch's sparse rows times dense columns, float32; activations are handed over transposed, as it wants them.

    Raises
    ------
    RuntimeError
        If this build of torch cannot.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says once that its CSR is in beta state
        held = torch.from_numpy(weight).to_sparse_csr()
    size = held.values().nbytes + held.col_indices().nbytes + held.crow_indices().nbytes

    def prepare(x: np.ndarray) -> Callable[[], Any]:
        columns = torch.from_numpy(x).T.contiguous()
        return lambda: torch.mm(held, columns)

    return Contestant(TORCH_CSR, "fp32", prepare, "fp32", int(np.count_nonzero(weight)), size)


def error_of(one: Contestant, work: Callable[[], Any], x: np.ndarray) -> float:
    """Run once; the largest error over the bound for our kernels, NaN for torch's.

    Raises
    ------
    ArgumentError
        If the kernel refuses its arguments.
    """
    try:
        got = work()
    except KernelError as error:
        raise ArgumentError(f"{one.name}: {error}") from error
    if one.weight is None:
        return float("nan")
    wrong = np.abs(got - matmul_reference(one.weight, x))
    return float((wrong / np.maximum(matmul_bound(one.weight, x), 1e-300)).max(initial=0.0))
