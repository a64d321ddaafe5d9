"""The roofline: its arithmetic, and that measuring gives every figure (how large it is the machine decides)."""

from __future__ import annotations

import dataclasses
import math

import pytest
from workbench_kernels import roofline
from workbench_kernels._errors import KernelError
from workbench_kernels._pool import cores

ROOF = roofline.Roofline(2, 100.0, 200.0, 400.0, 90.0, 70.0, 30.0, 1 << 20, 32 << 20)


@pytest.mark.parametrize(("values", "seconds"), [("fp32", 0.02), ("bf16", 0.01), ("int8", 0.005)])
def test_much_arithmetic_is_bound_by_the_peak_of_its_type(values: str, seconds: float) -> None:
    assert ROOF.bound_seconds(2e9, 1000, values) == pytest.approx(seconds)


def test_many_bytes_are_bound_by_memory_or_by_the_cache_that_holds_them() -> None:
    assert ROOF.bound_seconds(0, 600_000, "fp32") == pytest.approx(600_000 / 30e9)
    assert ROOF.bound_seconds(0, 600_000, "fp32", warm=True) == pytest.approx(600_000 / 90e9)
    assert ROOF.bound_seconds(0, 10 << 20, "fp32", warm=True) == pytest.approx((10 << 20) / 70e9)
    assert ROOF.bound_seconds(0, 64 << 20, "fp32", warm=True) == pytest.approx((64 << 20) / 30e9)
    assert ROOF.bound_seconds(3e6, 600_000, "fp32") == max(3e-5, 600_000 / 30e9)


def test_unknown_values_are_refused() -> None:
    with pytest.raises(KernelError, match="values='fp64'"):
        ROOF.bound_seconds(1, 1, "fp64")
    with pytest.raises(KernelError, match="threads=0"):
        roofline.measure(0)


def test_a_roofline_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ROOF.fp32 = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("threads", [1, 2])
def test_measuring_gives_every_figure(threads: int) -> None:
    roof = roofline.measure(threads, seconds=0.01)
    assert roof.threads == threads
    figures = [getattr(roof, f) for f in ("fp32", "bf16", "int8", "cache_l2", "cache_l3", "dram")]
    assert all(math.isfinite(f) and f > 0 for f in figures)
    assert 0 < roof.l2_bytes <= roof.l3_bytes


def test_this_machine_is_measured_once() -> None:
    first = roofline.bound_seconds(1e9, 8, "fp32")
    assert roofline.bound_seconds(1e9, 8, "fp32") == first > 0
    assert roofline.measured(1) is roofline.measured(1)


@pytest.mark.parametrize("threads", [1, 3])
def test_reading_memory_reads_all_of_it(threads: int) -> None:
    read, nbytes = roofline.memory_read(threads)
    assert nbytes > 3 * roofline.cache_sizes()[1]
    read()


def test_thread_counts_double_up_to_all_cores() -> None:
    counts = roofline.all_threads()
    assert counts[0] == 1
    assert counts[-1] == cores()
    assert list(counts) == sorted(set(counts))
