"""Jobs: progress, partial results, and cancelling within a second; whatever ends one is handed over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from torch import nn
from workbench_kernels import _jit

from workbench.errors import ArgumentError, Cancelled
from workbench.jobs import Job, Progress, Step
from workbench.testing import tiny_lm


def until(true, seconds=5.0):
    end = time.perf_counter() + seconds
    while not true():
        assert time.perf_counter() < end, "it took too long"
        time.sleep(0.002)


class Slow(nn.Module):
    """A layer that takes its time."""

    def forward(self, x):
        time.sleep(0.02)
        return x


def hooks(module):
    return sum(len(m._forward_pre_hooks) for m in module.modules())


def test_steps_and_partial_results_arrive_in_order():
    steps = []

    def work(progress):
        for i in range(3):
            progress.step("count", i + 1, 3, partial=i * 10)
        return "value"

    job = Job(work, listener=steps.append)
    assert job.result() == "value"
    assert job.state == "done"
    assert [(s.what, s.done, s.total, s.partial) for s in steps] == [("count", i + 1, 3, 10 * i) for i in range(3)]
    assert job.last is steps[-1]
    assert 0 <= steps[0].seconds <= steps[-1].seconds < 5


def test_fraction():
    assert Step("x", 1, 4, 0.0).fraction == 0.25
    assert Step("x", 5, 4, 0.0).fraction == 1
    assert Step("x", 0, 0, 0.0).fraction == 1


def test_arguments_are_passed_on():
    assert Job(lambda a, *, b, progress: (a, b, progress.cancelled), 1, b=2).result() == (1, 2, False)


def test_only_a_function_is_a_job():
    with pytest.raises(ArgumentError, match="function=3 is not callable"):
        Job(3)


def test_exceptions_are_handed_over():
    def work(progress):
        raise ValueError("no such thing")

    job = Job(work)
    for _ in range(2):
        with pytest.raises(ValueError, match="no such thing"):
            job.result()
    assert job.state == "failed"
    assert isinstance(job.error, ValueError)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), MemoryError()])
def test_even_what_would_end_the_program_is_handed_over(error):
    def work(progress):
        raise error

    job = Job(work)
    with pytest.raises(type(error)):
        job.result()


def test_an_exception_of_the_listener_ends_the_job():
    def listener(step):
        raise RuntimeError("the view is gone")

    job = Job(lambda progress: progress.step("x", 1, 2), listener=listener)
    with pytest.raises(RuntimeError, match="the view is gone"):
        job.result()


def test_timeout_and_then_the_value():
    release = threading.Event()
    job = Job(lambda progress: release.wait(10))
    with pytest.raises(TimeoutError, match=r"not ended after 0\.01 s; it goes on"):
        job.result(timeout=0.01)
    assert job.state == "running"
    release.set()
    assert job.result(timeout=10) is True


def test_cancelling_between_steps():
    started = threading.Event()

    def work(progress):
        while True:
            progress.step("wait", 0, 1)
            started.set()
            time.sleep(0.002)

    job = Job(work)
    assert started.wait(5)
    job.cancel()
    with pytest.raises(Cancelled, match="nothing was changed"):
        job.result(timeout=1)
    assert job.state == "cancelled"
    assert job.error is None


def test_cancelling_inside_one_long_forward():
    model = nn.Sequential(*(Slow() for _ in range(500)))  # 10 s
    started = threading.Event()
    model[0].register_forward_hook(lambda *_: started.set())

    def work(progress):
        with progress.interrupting(model):
            return model(torch.zeros(1))

    job = Job(work)
    assert started.wait(5)
    start = time.perf_counter()
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(timeout=5)
    assert time.perf_counter() - start < 1
    assert hooks(model) == 0


def test_interrupting_leaves_no_hooks_and_changes_nothing():
    lm = tiny_lm()
    ids = torch.arange(8)[None]
    with torch.no_grad():
        wanted = lm.module(ids).logits
        before = hooks(lm.module)
        with Progress().interrupting(lm.module):
            assert torch.equal(lm.module(ids).logits, wanted)
            assert hooks(lm.module) > before
    assert hooks(lm.module) == before
    with pytest.raises(ZeroDivisionError), Progress().interrupting(lm.module):
        raise ZeroDivisionError
    assert hooks(lm.module) == before


def test_cancelling_after_the_end_changes_nothing():
    job = Job(lambda progress: 5)
    assert job.result() == 5
    job.cancel()
    assert job.result() == 5
    assert job.state == "done"


@pytest.mark.parametrize("outcome", ["done", "cancelled", "failed"])
def test_the_callback_sees_the_end_once(outcome):
    seen = []

    def work(progress):
        if outcome == "cancelled":
            progress.cancel()
            progress.check()
        if outcome == "failed":
            raise OSError("broken")

    job = Job(work, done=lambda j: seen.append(j.state))
    until(lambda: seen)
    until(lambda: not job._thread.is_alive())
    assert seen == [outcome]


def test_an_interrupt_of_the_waiting_thread_cancels_the_job():
    started = threading.Event()

    def work(progress):
        started.set()
        while True:
            progress.check()
            time.sleep(0.002)

    job = Job(work)
    assert started.wait(5)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        job.result()
    until(lambda: job.state == "cancelled")
    timer.join()


def test_progress_without_a_listener():
    progress = Progress()
    progress.step("x", 1, 2)
    assert not progress.cancelled
    progress.cancel()
    assert progress.cancelled
    with pytest.raises(Cancelled):
        progress.step("x", 2, 2)


def test_jobs_run_side_by_side():
    barrier = threading.Barrier(3, timeout=5)
    jobs = [Job(lambda progress: barrier.wait()) for _ in range(3)]
    assert sorted(job.result() for job in jobs) == [0, 1, 2]


def test_kernels_that_are_compiled_are_told_and_a_job_stops_between_two(monkeypatch, tmp_path):
    monkeypatch.setattr(_jit, "folder", lambda: tmp_path)  # nothing is there: everything is compiled

    @_jit.kernel
    def first(x):
        return x + 1

    @_jit.kernel
    def second(x):
        return first(x) + 1

    steps, wanted = [], []

    def heard(step):
        steps.append((step.what, step.done, step.total))
        if wanted:
            wanted.pop().cancel()

    stopped = Job(lambda progress: second(1), listener=lambda step: (wanted.append(stopped), heard(step)))
    with pytest.raises(Cancelled):
        stopped.result()
    assert steps == [("compiling kernels, once", 1, 0)]  # not the one inside it
    steps.clear()
    assert Job(lambda progress: second(1), listener=heard).result() == 3
    assert [done for _, done, _ in steps] == [1, 2]
    assert second(2) == 4  # compiled; nobody is told any more


def test_python_ends_well_while_a_job_runs():
    script = """
import threading
import torch
from workbench.jobs import Job
began = threading.Event()
def work(progress):
    try:
        while True:
            torch.ones(300, 300) @ torch.ones(300, 300)
            began.set()
            progress.check()
    finally:
        print("stopped", flush=True)
job = Job(work)
began.wait()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")
