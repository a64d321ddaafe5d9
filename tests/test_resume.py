"""A pruning run that is killed goes on where it was, and ends where it would have ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import workbench
from workbench.models import fingerprint
from workbench.prune import _runner, statistics
from workbench.testing import tiny_lm, tiny_tokens

CHILD = """
import sys, time
import torch, workbench
from workbench.prune import statistics
from workbench.testing import tiny_lm, tiny_tokens
statistics.CHECKPOINT_SECONDS = 0.0
torch.set_num_threads(1)  # as the parent: a product of matrices depends on how many threads share it
def slow(step):
    print(step.what, step.done, flush=True)
    time.sleep(0.3)
workbench.prune(tiny_lm(), sys.argv[1], 0.4, calibration=tiny_tokens(), progress=workbench.Progress(slow))
"""


def start_and_kill(method, folder, after):
    environment = dict(os.environ, WORKBENCH_STATISTICS=str(folder))
    command = [sys.executable, "-c", CHILD, method]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as child:
        for line in child.stdout:
            if line.strip() == after:
                time.sleep(0.1)
                child.send_signal(signal.SIGKILL)
                break
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize("method", ["wanda", "sparsegpt", "wanda-sp"])
def test_a_killed_run_goes_on(method, tmp_path, monkeypatch):
    lm, tokens = tiny_lm(), tiny_tokens()
    whole = fingerprint(workbench.prune(lm, method, 0.4, calibration=tokens).lm.module)
    start_and_kill(method, tmp_path, "pruning 2")
    assert list(Path(tmp_path).glob("*/run-*/layer_001.safetensors"))
    monkeypatch.setenv("WORKBENCH_STATISTICS", str(tmp_path))
    ran = []
    plain = _runner.LayerRunner.run
    monkeypatch.setattr(_runner.LayerRunner, "run", lambda self, i, **k: (ran.append(i), plain(self, i, **k))[1])
    again = workbench.prune(lm, method, 0.4, calibration=tokens)
    assert fingerprint(again.lm.module) == whole
    assert sorted(set(ran)) == [2, 3]
    assert not list(Path(tmp_path).glob("*/run-*"))


def test_other_settings_do_not_resume(tmp_path, monkeypatch):
    start_and_kill("wanda", tmp_path, "pruning 2")
    monkeypatch.setenv("WORKBENCH_STATISTICS", str(tmp_path))
    wanted = fingerprint(workbench.prune(tiny_lm(), "wanda", 0.3, calibration=tiny_tokens()).lm.module)
    monkeypatch.setenv("WORKBENCH_STATISTICS", str(tmp_path / "empty"))
    assert fingerprint(workbench.prune(tiny_lm(), "wanda", 0.3, calibration=tiny_tokens()).lm.module) == wanted


def test_a_damaged_journal_only_costs_time(tmp_path, monkeypatch):
    start_and_kill("wanda", tmp_path, "pruning 2")
    for file in Path(tmp_path).glob("*/run-*/layer_001.safetensors"):
        file.write_bytes(b"not a tensor")
    monkeypatch.setenv("WORKBENCH_STATISTICS", str(tmp_path))
    assert statistics.home() == tmp_path
    lm, tokens = tiny_lm(), tiny_tokens()
    resumed = fingerprint(workbench.prune(lm, "wanda", 0.4, calibration=tokens).lm.module)
    monkeypatch.setenv("WORKBENCH_STATISTICS", str(tmp_path / "empty"))
    assert fingerprint(workbench.prune(lm, "wanda", 0.4, calibration=tokens).lm.module) == resumed
