"""The benchmark: its arithmetic, its records and its plumbing. No test looks at how long anything took."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workbench_kernels._kernel import KERNELS
from workbench_kernels.roofline import Roofline

BENCH = Path(__file__).resolve().parents[1] / "kernels" / "bench"
ROOF = Roofline(1, 100.0, 200.0, 400.0, 90.0, 70.0, 30.0, 1 << 16, 1 << 17)


@pytest.fixture(scope="module", autouse=True)
def _scripts():
    """The scripts lie beside each other and are no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        before = set(sys.modules)
        yield
        for name in set(sys.modules) - before:
            if str(BENCH) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


@pytest.fixture
def small(monkeypatch):
    """A roofline that was not measured, and no changes of the environment that outlast the test."""
    import run
    from workbench_kernels import roofline

    monkeypatch.setattr(roofline, "measure", lambda threads: replace(ROOF, threads=threads))
    monkeypatch.setattr(run, "environment", lambda threads: None)


# ------------------------------------------------------------------------------------------------ intervals


@pytest.mark.parametrize(("n", "low", "high"), [(1, 1, 1), (5, 1, 5), (6, 1, 6), (9, 2, 8), (15, 4, 12), (25, 8, 18)])
def test_the_interval_is_that_of_the_sign_test(n: int, low: int, high: int) -> None:
    from measure import median_interval

    found = median_interval(np.random.default_rng(n).permutation(np.arange(1.0, n + 1)))
    assert (found.low, found.middle, found.high) == (low, (n + 1) / 2, high)


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    from measure import median_interval

    rng = np.random.default_rng(0)
    found = [median_interval(rng.lognormal(size=15)) for _ in range(2000)]
    covered = np.mean([i.low <= 1.0 <= i.high for i in found])  # exactly 1 - 2 P(Binomial(15, 1/2) < 4) = 0.9648
    assert abs(covered - 0.9648) < 4 * np.sqrt(0.9648 * 0.0352 / 2000)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40))
def test_the_median_lies_in_its_interval_and_scales_with_the_values(values: list[float]) -> None:
    from measure import median_interval

    found = median_interval(np.array(values))
    assert min(values) <= found.low <= found.middle <= found.high <= max(values)
    assert median_interval(4 * np.array(values)).high == pytest.approx(4 * found.high)


def test_ratios_are_paired() -> None:
    from measure import paired_ratio

    speed = np.array([1.0, 50.0, 2.0, 9.0, 1.0, 30.0, 4.0])  # the machine changes, the ratio does not
    found = paired_ratio(3 * speed, speed)
    assert (found.low, found.middle, found.high) == pytest.approx((3, 3, 3))
    assert not found.noisy


def test_wide_intervals_are_called_noisy() -> None:
    from measure import Interval

    assert Interval(1.2, 1.0, 1.5).noisy
    assert not Interval(1.1, 1.0, 1.2).noisy
    assert Interval(1.0, float("nan"), 1.0).noisy


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((3, 2.9, 3.1), "met"),
        ((2, 1.9, 2.1), "not met"),
        ((2.5, 2.4, 2.6), "unclear"),
        ((2.5, 2, 3), "too noisy"),
        ((9, 5, 99), "too noisy"),
    ],
)
def test_a_goal_is_met_only_where_the_whole_interval_is_above(interval: tuple[float, ...], verdict: str) -> None:
    from measure import Interval
    from report import judge

    assert judge(Interval(*interval), 2.5) == verdict
    assert judge(Interval(*interval), None) is None


# ------------------------------------------------------------------------------------------------ interleaving


@pytest.mark.parametrize("cold", [False, True])
def test_every_side_gets_the_same_turns(cold: bool) -> None:
    from measure import interleave

    seen: list[str] = []
    sides = {name: [lambda n=n, name=name: seen.append(f"{name}{n}") for n in range(3)] for name in "ab"}
    times = interleave(sides, 4, cold)
    assert set(times) == {"a", "b"}
    assert all(t.cpu.shape == t.wall.shape == (4,) and (t.best_known > 0).all() for t in times.values())
    copies = {"a0", "a1", "a2", "b0", "b1", "b2"}
    assert set(seen) == (copies if cold else {"a0", "b0"})
    if cold:
        walks = [seen[i : i + 3] for i in range(0, len(seen), 3)]
        assert walks.count(["a0", "a1", "a2"]) == walks.count(["b0", "b1", "b2"]) == 4
        assert all(one != two for one, two in itertools.pairwise(walks))  # never twice in a row


def test_one_thread_is_timed_by_its_own_clock() -> None:
    from measure import Times

    cpu, wall = np.ones(3), np.full(3, 2.0)
    assert Times(cpu, wall, 1).best_known is cpu
    assert Times(cpu, wall, 2).best_known is wall
    assert (Times(cpu, wall, 1).clock, Times(cpu, wall, 2).clock) == ("thread CPU", "wall")


def test_timing_leaves_the_process_as_it_was() -> None:
    import gc
    import os

    from measure import interleave

    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    with pytest.raises(ZeroDivisionError):
        interleave({"a": [lambda: None], "b": [lambda: 1 // 0]}, 3, cold=True)
    assert gc.isenabled()
    assert before is None or os.sched_getaffinity(0) == before


def test_copies_fill_the_footprint() -> None:
    from measure import copies

    assert copies(1 << 20, 64 << 20) == 64
    assert copies(128 << 20, 64 << 20) == 2  # never the same twice in a row
    assert copies(100, 64 << 20) == 4096


# ------------------------------------------------------------------------------------------------ copies of weights


def test_a_copy_shares_no_memory() -> None:
    from problem import clone, load_kernels

    assert load_kernels() == []
    weight = KERNELS["16x1"].make(np.random.default_rng(0), (33, 20, 1), 0.5)["weight"]
    other = clone(weight)
    arrays = [name for name, value in vars(weight).items() if isinstance(value, np.ndarray)]
    assert arrays
    for name in arrays:
        mine, its = getattr(weight, name), getattr(other, name)
        assert not np.shares_memory(mine, its)
        np.testing.assert_array_equal(mine, its)
    assert clone((weight.shape, "x")) == (weight.shape, "x")


# ------------------------------------------------------------------------------------------------ goals and cases


def test_every_goal_of_a_registered_kernel_is_a_case_with_peers() -> None:
    from shapes import CASES, MEMORY, QUICK
    from trial import PEERS, PROBLEMS

    names = {peer.name for peer in PEERS}
    assert len({case.name for case in CASES}) == len(CASES)
    assert set(QUICK) <= {case.name for case in CASES}
    for case in CASES:
        assert case.goals
        assert case.family in PROBLEMS
        for goal in case.goals:
            assert set(goal.against) <= names | {MEMORY}


def test_whatever_is_registered_is_timed() -> None:
    import run
    from problem import load_kernels
    from trial import chosen

    load_kernels()
    assert {case.kernel for case in chosen(run.arguments([]))} == set(KERNELS)
    assert all(case.goals for case in chosen(run.arguments(["--goals-only"])))


def test_options_choose_and_change_cases() -> None:
    import run
    from trial import chosen

    cases = chosen(run.arguments(["--kernel", "16x1", "--shape", "40x24", "--tokens", "16", "--case", "T=16"]))
    assert [case.name for case in cases] == ["16x1 fp32 80% T=16"]
    assert cases[0].goals
    assert cases[0].shapes == ((40, 24),)
    other = chosen(run.arguments(["--kernel", "16x1", "--sparsity", "0.5", "--case", "T=16"]))[0]
    assert other.name == "16x1 50% T=16"
    assert other.goals == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--threads", "0"], "'0' is not a whole number"),
        (["--shape", "40xK"], "'K' is not a whole number"),
        (["--sparsity", "80"], "'80' is not a share"),
        (["--json", "nowhere/x.json"], "there is no folder nowhere"),
    ],
)
def test_wrong_options_are_explained(given: list[str], message: str, capsys) -> None:
    import run

    with pytest.raises(SystemExit):
        run.arguments(given)
    assert message in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ the whole thing

QUICK_RUN = ["--quick", "--shape", "48x40", "--repeats", "2"]


def test_quick_on_tiny_shapes_writes_one_record_a_measurement(small, tmp_path, capsys) -> None:
    import run
    from report import Record

    path = tmp_path / "out.json"
    chosen = ["--case", "16x1 fp32", "--case", "4x1 int8", "--peer", "torch fp32", "--peer", "torch int8"]
    assert run.main([*QUICK_RUN, *chosen, "--json", str(path)]) == 0
    records = json.loads(path.read_text())
    assert path.read_text().count("\n") == len(records) + 2  # a line each
    assert {tuple(record) for record in records} == {tuple(f.name for f in fields(Record))}
    seen = {(r["kernel"], r["tokens"], r["state"], r["peer"]) for r in records}
    assert len(seen) == len(records)
    assert {("16x1", 16, s, "torch fp32") for s in ("warm", "cold")} <= seen
    assert ("16x1", 1, "cold", "DRAM bandwidth") in seen
    assert ("4x1-int8", 128, "warm", "torch int8") in seen
    memory = next(r for r in records if r["peer"] == "DRAM bandwidth")
    assert memory["peer_us"] == pytest.approx(memory["ratio"] * memory["kernel_us"], rel=0.9)  # to read as much
    for r in records:
        assert 0 < r["ratio_low"] <= r["ratio"] <= r["ratio_high"]
        assert r["machine"]["rooflines"][0]["fp32"] == 100.0
        assert r["versions"]["numpy"] == np.__version__
        assert r["roofline_percent"] > 0
    shown = capsys.readouterr()
    assert "5 x torch fp32" in shown.out
    assert "[1/" in shown.err
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_attention_is_checked_and_timed(small, tmp_path) -> None:
    import run

    path = tmp_path / "out.json"
    chosen = ["--shape", "1x2x130x16", "--repeats", "2", "--case", "prefill", "--peer", "fp32", "--peer", "own"]
    assert run.main([*chosen, "--json", str(path)]) == 0
    records = json.loads(path.read_text())
    assert {r["peer"] for r in records} == {"torch SDPA fp32", "own dense attention"}
    assert {r["shape"] for r in records} == {"1x2x130x16"}


def test_decoding_brings_another_query_with_every_call(small, tmp_path) -> None:
    import run

    path = tmp_path / "out.json"
    chosen = ["--shape", "1x2x300x16", "--repeats", "2", "--case", "decode 32k", "--json", str(path)]
    assert run.main(chosen) == 0
    records = json.loads(path.read_text())
    assert {(r["peer"], r["state"]) for r in records} == {
        ("torch SDPA fp32", "cold"),
        ("own dense attention", "cold"),
    }
    assert all(r["sparsity"] == 0.8 for r in records)  # one of five blocks


def test_a_kernel_of_no_known_family_is_held_against_numpy(small, monkeypatch, tmp_path) -> None:
    import run
    from problem import load_kernels

    load_kernels()
    right = KERNELS["16x1"]

    def reference(weight: Any, x: np.ndarray) -> np.ndarray:
        return right.reference(weight, x)

    odd = replace(right, name="odd", reference=reference)
    monkeypatch.setitem(KERNELS, "odd", odd)
    path = tmp_path / "out.json"
    assert run.main(["--kernel", "odd", "--repeats", "2", "--json", str(path)]) == 0
    records = json.loads(path.read_text())
    assert [(r["kernel"], r["peer"], r["shape"]) for r in records] == [("odd", "numpy reference", "70x200x66")]


def test_a_kernel_that_raises_does_not_end_the_run(small, monkeypatch, capsys) -> None:
    import run
    from problem import load_kernels

    load_kernels()

    def matmul_broken(*_: Any, **__: Any) -> np.ndarray:
        raise IndexError("beyond the end")

    monkeypatch.setitem(KERNELS, "4x1", replace(KERNELS["4x1"], run=matmul_broken))
    assert run.main([*QUICK_RUN, "--case", "4x1 fp32", "--case", "16x1 fp32 80% T=1", "--peer", "own dense"]) == 1
    shown = capsys.readouterr().out
    assert "REFUSED: 4x1 fp32 80% T=16: IndexError: beyond the end" in shown
    assert "own dense" in shown


def test_wrong_attention_is_refused(small, monkeypatch, capsys) -> None:
    import run
    from problem import load_kernels

    load_kernels()
    right = KERNELS["prefill-blocks"]

    def late(*args: Any, **named: Any) -> np.ndarray:
        out = right.run(*args, **named)
        out[-1] *= 1.001
        return out

    monkeypatch.setitem(KERNELS, "prefill-blocks", replace(right, run=late))
    assert run.main(["--shape", "1x2x130x16", "--repeats", "2", "--case", "prefill 4k 10%", "--peer", "own"]) == 1
    assert "REFUSED: prefill 4k 10% kept: prefill-blocks (1, 2, 130, 16): off by" in capsys.readouterr().out


def test_a_kernel_that_differs_from_its_reference_is_not_timed(small, monkeypatch, capsys) -> None:
    import run
    from problem import load_kernels

    load_kernels()
    right = KERNELS["16x1"]

    def matmul_wrong(*args: Any, **named: Any) -> np.ndarray:
        out = right.run(*args, **named)
        out[0] += 1
        return out

    monkeypatch.setitem(KERNELS, "16x1", replace(right, run=matmul_wrong))
    assert run.main([*QUICK_RUN, "--case", "16x1 fp32 80% T=16", "--peer", "torch fp32"]) == 1
    shown = capsys.readouterr().out
    assert "REFUSED: 16x1 fp32 80% T=16: 16x1 48x40 T=16: off by 1" in shown
    assert "not measured" in shown


def test_missing_peers_are_named_and_wrong_ones_left_out(small, monkeypatch, capsys) -> None:
    import run
    import trial
    from peers import Peer
    from problem import Prepared

    wrong = Prepared(lambda: lambda: np.zeros((16, 48), np.float32), 100)
    peers = (
        Peer("absent", ("a_module_that_nobody_has",), {}),
        Peer("wrong", (), {"": lambda problem, threads: wrong}),
    )
    monkeypatch.setattr(trial, "PEERS", peers)
    assert run.main([*QUICK_RUN, "--case", "16x1 fp32 80% T=16"]) == 0
    shown = capsys.readouterr().out
    assert "absent: not installed" in shown
    assert "wrong left out" in shown
    assert "is off by 1 of the largest" in shown


def test_an_interrupted_run_writes_nothing(small, monkeypatch, tmp_path, capsys) -> None:
    import run
    from trial import Bench

    path = tmp_path / "out.json"
    path.write_text("of before")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Bench, "_measure", interrupt)
    assert run.main([*QUICK_RUN, "--json", str(path)]) == 130
    assert path.read_text() == "of before"
    assert "interrupted" in capsys.readouterr().err


def test_a_file_is_written_whole_or_not_at_all(monkeypatch, tmp_path) -> None:
    import report

    path = tmp_path / "out.json"
    report.write(path, [])
    assert json.loads(path.read_text()) == []

    def full(*_: Any) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        report.write(path, [])
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_quick_stops_at_its_deadline(small) -> None:
    import run
    from trial import Bench

    bench = Bench(run.arguments([*QUICK_RUN, "--peer", "none of them"]), deadline=0.0)
    bench.run()
    assert bench.records == []
    assert "left out, no time: 16x1 fp32 80% T=16 48x40" in bench.text()


def test_a_roofline_can_be_stored() -> None:
    assert json.loads(json.dumps(asdict(ROOF)))["dram"] == 30.0
