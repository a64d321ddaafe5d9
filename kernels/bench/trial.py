"""The benchmark itself: choose cases, check, prepare all sides, time them, keep records."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import report
from decode import PEERS as DECODE_PEERS
from decode import decode_problem
from measure import Call, Interval, Times, copies, interleave, paired_ratio
from peers import PEERS as MATMUL_PEERS
from peers import Peer
from prefill import PEERS as PREFILL_PEERS
from prefill import prefill_problem
from problem import Prepared, Problem, load_kernels, matmul_problem, multiplications, other_problem
from report import Record
from shapes import CASES, LIBRARIES, MEMORY, QUICK, Case, others
from workbench_kernels import roofline
from workbench_kernels._kernel import KERNELS
from workbench_kernels._pool import cores

PEERS = MATMUL_PEERS + PREFILL_PEERS + DECODE_PEERS
PROBLEMS = {"matmul": matmul_problem, "prefill": prefill_problem, "decode": decode_problem, "other": other_problem}


class Bench:
    """One run.

    Attributes
    ----------
    cases : list of Case
    records : list of Record
    refused : list of str
        Kernels that differ from their reference, and how.
    notes : list of str
        What was left out, and why.
    """

    def __init__(self, options: argparse.Namespace, deadline: float | None = None) -> None:
        self.options, self.deadline = options, deadline
        self.records: list[Record] = []
        self.refused: list[str] = []
        self.notes = [f"left out, does not import: {text}" for text in load_kernels()]
        self.cases = chosen(options)
        self.repeats = options.repeats or (9 if options.quick else 15)

    def run(self) -> None:
        """Measure the roofline, then all cases."""
        threads = self.options.threads
        self._use_threads(threads)
        self.peers = self._available()
        say("measuring the roofline")
        self.roof = roofline.measure(threads)
        self._warn_if_busy(threads)
        self.footprint = (2 if self.peers else 4) * self.roof.l3_bytes
        self.machine, self.versions = report.machine([self.roof]), report.versions()
        work = [(case, shape) for case in self.cases for shape in case.shapes]
        with self._inference():
            for n, (case, shape) in enumerate(work):
                if self.deadline is not None and time.monotonic() > self.deadline:
                    self.notes.append(f"left out, no time: {case.name} {written(shape)}")
                    continue
                say(f"[{n + 1}/{len(work)}] {case.name} {written(shape)}")
                self._measure(case, shape)

    def _warn_if_busy(self, threads: int) -> None:
        busy = report.load()
        if busy is not None and busy + threads > cores() + 0.5:
            self.notes.append(f"the machine is busy (load {busy}): caches and memory are shared with other work")
            say(self.notes[-1])

    def write(self, path: Path) -> None:
        """Write the records as JSON, whole or not at all."""
        report.write(path, self.records)

    def text(self) -> str:
        """Tables of all measurements and of the goals, and what was left out."""
        r, m = self.roof, self.machine
        plural, busy = "s" * (r.threads > 1), "unknown" if report.load() is None else f"{report.load():.1f}"
        head = (
            f"{m['processor']} ({m['target']}), {m['cores']} cores, {r.threads} thread{plural}, load {busy}",
            ", ".join(f"{k} {v}" for k, v in self.versions.items()),
            f"roofline in GFLOP/s: fp32 {r.fp32:.0f}, bf16 {r.bf16:.0f}, int8 {r.int8:.0f}",
            f"roofline in GB/s: second cache {r.cache_l2:.0f}, last cache {r.cache_l3:.0f}, memory {r.dram:.0f}",
            "ratio: how many times longer the peer takes; us: the kernel's median; roof: share of what the machine can",
        )
        wanted = [(case.name, goal) for case in self.cases for goal in case.goals]
        parts = ["\n".join(head), report.table(self.records), report.goals(self.records, wanted)]
        parts += ["\n".join(self.notes)] if self.notes else []
        parts += ["\n".join(f"REFUSED: {text}" for text in self.refused)] if self.refused else []
        return "\n\n".join(parts)

    def _available(self) -> list[Peer]:
        peers, wanted = [], self.options.peer
        families = {case.family for case in self.cases}
        for peer in PEERS:
            if peer.family not in families:
                continue
            if (wanted and not any(w in peer.name for w in wanted)) or (self.options.quick and not peer.quick):
                continue
            reason = peer.missing()
            if reason is None:
                peers.append(peer)
            else:
                self.notes.append(f"{peer.name}: {reason}")
                say(self.notes[-1])
        return peers

    def _measure(self, case: Case, shape: tuple[int, ...]) -> None:
        threads = self.options.threads
        try:
            problem = PROBLEMS[case.family](case, shape, threads)
        except Exception as error:  # noqa: BLE001 - the others are still timed
            text = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            self.refused.append(f"{case.name}: {text}")
            say(f"REFUSED: {self.refused[-1]}")
            return
        sides = {"": ("", problem.ours), **self._opponents(problem)}
        calls = {}
        for name, (_, prepared) in sides.items():
            count = copies(prepared.nbytes, self.footprint) if "cold" in case.states else 1
            calls[name] = [prepared.copy() for _ in range(count)]
        if not self._copies_agree(problem, calls[""]):
            return
        if any(MEMORY in goal.against for goal in case.goals):
            read, self.read_bytes = roofline.memory_read(threads)
            sides[MEMORY], calls[MEMORY] = ("share of it", problem.ours), [read]
        for state in case.states:
            times = interleave(calls, self.repeats, state == "cold", threads)
            variants = {name: variant for name, (variant, _) in sides.items()}
            self.records += self._records(problem, state, times, variants)

    def _opponents(self, problem: Problem) -> dict[str, tuple[str, Prepared]]:
        found = {}
        for peer in self.peers:
            if peer.family != problem.case.family or not peer.fits(problem) or self._spared(peer, problem.case):
                continue
            try:
                found[peer.name] = peer.prepare(problem, self.options.threads)
            except (ArithmeticError, RuntimeError, ValueError, NotImplementedError, AttributeError) as error:
                where = f"{problem.case.name} {written(problem.shape)}"
                self.notes.append(f"{peer.name} left out of {where}: {str(error).splitlines()[0]}")
                say(self.notes[-1])
        return found

    def _spared(self, peer: Peer, case: Case) -> bool:
        """The quick run asks sparse libraries only where a goal names them."""
        named = {name for goal in case.goals for name in goal.against}
        return self.options.quick and peer.name in LIBRARIES and peer.name not in named

    def _copies_agree(self, problem: Problem, calls: list[Call]) -> bool:
        if not problem.ours.same:
            return True
        first = problem.ours.finish(calls[0]()).tobytes()
        if all(problem.ours.finish(call()).tobytes() == first for call in calls[1:]):
            return True
        self.refused.append(f"{problem.case.kernel} {problem.shape}: copies of the same weights give other outputs")
        return False

    def _records(self, problem: Problem, state: str, times: dict[str, Times], variants: dict[str, str]) -> list[Record]:
        ours = times[""]
        made = []
        for peer, theirs in times.items():
            if peer:
                if peer == MEMORY:  # as long as it takes to read what the kernel moves
                    share = problem.nbytes / self.read_bytes
                    theirs = Times(share * theirs.cpu, share * theirs.wall, theirs.threads)  # noqa: PLW2901
                ratio = paired_ratio(theirs.best_known, ours.best_known)
                made.append(self._record(problem, state, peer, variants[peer], ratio, ours, theirs))
        return made

    def _record(
        self, problem: Problem, state: str, peer: str, variant: str, ratio: Interval, ours: Times, theirs: Times
    ) -> Record:
        case, duration = problem.case, float(np.median(ours.best_known))
        goal = next((goal.ratio for goal in case.goals if peer in goal.against), None)
        least = self.roof.bound_seconds(problem.flops, problem.nbytes, problem.values, state == "warm")
        peer_us, peer_wall = (float(np.median(t)) / 1e3 for t in (theirs.best_known, theirs.wall))
        return Record(
            case=case.name, kernel=case.kernel, shape=written(problem.shape), tokens=case.tokens,
            sparsity=round(problem.sparsity, 4), state=state, peer=peer, variant=variant, ratio=ratio.middle,
            ratio_low=ratio.low, ratio_high=ratio.high, noisy=ratio.noisy, goal=goal,
            verdict=report.judge(ratio, goal), kernel_us=duration / 1e3, peer_us=peer_us,
            kernel_wall_us=float(np.median(ours.wall)) / 1e3, peer_wall_us=peer_wall, clock=ours.clock,
            gflops=problem.flops / duration, gbps=problem.nbytes / duration, roofline_percent=1e11 * least / duration,
            threads=ours.threads, repeats=self.repeats, load=report.load(), machine=self.machine,
            versions=self.versions,
        )  # fmt: skip

    @staticmethod
    def _use_threads(threads: int) -> None:
        try:
            import torch
        except ImportError:
            return
        torch.set_num_threads(threads)

    @staticmethod
    def _inference() -> AbstractContextManager[object]:
        try:
            import torch
        except ImportError:
            return nullcontext()
        return torch.inference_mode()


def chosen(options: argparse.Namespace) -> list[Case]:
    """The cases that the options ask for, of the kernels that are registered."""
    cases = [case for case in CASES if case.kernel in KERNELS]
    if options.quick:
        cases = [dataclasses.replace(case, shapes=QUICK[case.name]) for case in cases if case.name in QUICK]
    elif not options.goals_only:
        largest = {name: max(kernel.shapes, key=math.prod) for name, kernel in KERNELS.items()}
        cases += others(largest, multiplications())
    if options.case:
        cases = [case for case in cases if any(text in case.name for text in options.case)]
    if options.kernel:
        cases = [case for case in cases if case.kernel in options.kernel]
    return [changed for case in cases if (changed := _changed(case, options)).shapes]


def _changed(case: Case, options: argparse.Namespace) -> Case:
    """The case with the options' shapes, sparsity and tokens; other work than the goal's has no goal."""
    shapes = case.shapes
    if options.shape:
        shapes = tuple(shape for shape in options.shape if len(shape) == len(case.shapes[0]))
    sparsity = case.sparsity if options.sparsity is None else options.sparsity
    tokens = options.tokens or case.tokens
    if (sparsity, tokens) == (case.sparsity, case.tokens):
        return dataclasses.replace(case, shapes=shapes)
    name = f"{case.kernel} {sparsity:.0%} T={tokens}"
    return dataclasses.replace(case, name=name, shapes=shapes, sparsity=sparsity, tokens=tokens, goals=())


def written(shape: tuple[int, ...]) -> str:
    """A shape as it is given on the command line: ``1536x576``."""
    return "x".join(map(str, shape))


def say(text: str) -> None:
    """Progress, to stderr."""
    print(text, file=sys.stderr, flush=True)
