"""Compiled code that comes from the disk can never take the place of other code of this process."""

from __future__ import annotations

import re

import numpy as np
import pytest
from workbench_kernels import _jit


def make(step: float):
    @_jit.kernel
    def run(x):
        for i in range(x.size):
            x[i] += step

    return run


def symbol(compiled) -> str:
    """The name that the linker sees, without numba's count of functions: in another process that may be any number."""
    compiled(np.zeros(3))
    (result,) = compiled.overloads.values()
    return re.sub(r"B\d+v\d+", "", result.fndesc.mangled_name)


def test_functions_that_close_over_different_values_never_share_a_symbol():
    assert symbol(make(1.0)) != symbol(make(8.0))
    assert symbol(make(1.0)) == symbol(make(1.0))


@pytest.mark.parametrize("step", [1.0, 8.0])
def test_a_second_process_would_load_what_the_first_one_kept(step, tmp_path, monkeypatch):
    monkeypatch.setattr(_jit, "folder", lambda: tmp_path)
    for hits in (0, 1):
        x, run = np.zeros(3), make(step)
        run(x)
        assert x.tolist() == [step] * 3
        assert sum(run.stats.cache_hits.values()) == hits
