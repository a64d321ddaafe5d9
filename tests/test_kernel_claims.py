"""Claims about kernels: they can hold, fail and stay open, what is timed is right, the ledger shows them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from workbench_kernels import KERNELS

from workbench import _ledger, claims
from workbench.claims import HELD, INCONCLUSIVE, NOT_HELD, Claim, Measurement, replicate
from workbench.commands import replicate as command
from workbench.errors import ArgumentError, Cancelled, ResourceError
from workbench.execute.claims import Comparison, KernelContext, _opponents, published, registry
from workbench.execute.claims._duel import Contest, compare, faster
from workbench.execute.claims.block_spmm import FasterBlocks
from workbench.execute.claims.condensed import FasterFanIn, constant_fan_in
from workbench.execute.claims.mustafar import SmallerAndFaster
from workbench.jobs import Progress
from workbench.prune import registry as methods

TINY: dict[str, Any] = {
    "block-spmm": FasterBlocks(layers=((32, 48),), tokens=5),
    "condensed": FasterFanIn(layers=((32, 40),)),
    "bitmap-attention": SmallerAndFaster(heads=1, group=2, length=1100, dim=32, window=8),
}
FILES = {"block-spmm": "block_spmm", "condensed": "condensed", "bitmap-attention": "mustafar"}


def timer(factor: Callable[[str, int], float], noise: float = 0.01) -> Any:
    """A clock that says what it is told: 1 ms for the first call, ``factor(name, round)`` for the others."""

    rng = np.random.default_rng(0)

    def fake(
        calls: dict[str, Callable[[], Any]], repeats: int, threads: int, progress: Progress, *, cold: bool
    ) -> Iterator[dict[str, list[float]]]:
        assert (threads, cold) == (1, cold)
        first = next(iter(calls))
        times = {n: [1.0 if n == first else factor(n, r) for r in range(repeats)] for n in calls}
        yield {n: [t * math.exp(rng.normal(0, noise)) for t in ts] for n, ts in times.items()}

    return fake


def judged(factor: Callable[[str, int], float], noise: float = 0.01, **context: Any) -> Measurement:
    """Our kernel against two opponents on fabricated times."""
    calls: dict[str, Callable[[], Any]] = {name: lambda: None for name in ("ours", "dense", "sparse")}
    return faster(
        KernelContext(timer=timer(factor, noise), **context), lambda seed: [Contest("a layer", "ours", calls)], "asked"
    )


def test_the_verdict_follows_the_least_ratio() -> None:
    found = judged(lambda name, _: {"dense": 3.0, "sparse": 1.5}[name])
    assert (found.status, found.quantity) == (HELD, "least of 2 speed ratios")
    assert found.estimate == pytest.approx(1.5, rel=0.02)
    assert 1 < found.low < found.estimate < found.high < 1.6
    assert found.note == "the least is against sparse, a layer"
    assert [(r.than, round(r.ratio, 1), r.ms) for r in found.runs] == [
        ("dense", 3.0, pytest.approx(1, rel=0.02)),
        ("sparse", 1.5, pytest.approx(1, rel=0.02)),
    ]
    one_fails = judged(lambda name, _: {"dense": 3.0, "sparse": 0.8}[name])
    assert one_fails.status == NOT_HELD
    assert one_fails.high < 1
    assert judged(lambda name, _: {"dense": 3.0, "sparse": 1.0}[name], noise=0.3).status == INCONCLUSIVE


def test_a_seed_that_disagrees_leaves_it_open() -> None:
    rounds = iter(range(10**6))
    found = judged(lambda name, _: 0.9 if name == "dense" and next(rounds) < 21 else 1.2, noise=0.0)
    assert found.status == INCONCLUSIVE
    assert found.low == pytest.approx(0.9)


def test_too_few_rounds_decide_nothing() -> None:
    found = judged(lambda name, _: 3.0, repeats=2, seeds=(0,))
    assert (found.status, found.note) == (INCONCLUSIVE, "there are too few rounds for an interval")
    assert found.estimate == pytest.approx(3, rel=0.05)
    assert math.isnan(found.low)


def test_intervals_hold_together() -> None:
    """Of 8 equally fast opponents, hardly ever does one look slower or faster."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(40):
        both = rng.lognormal(0, 0.1, (8, 2, 3, 21))
        times = {("ours", "a", str(i)): [(s[0], s[1]) for s in pair.swapaxes(0, 1)] for i, pair in enumerate(both)}
        wrong += any(not c.low <= 1 <= c.high for c in compare(times))
    assert wrong <= 4


@pytest.mark.parametrize("name", TINY)
def test_tiny_checks_run_on_the_clock(name: str) -> None:
    context, steps = KernelContext(repeats=3, seeds=(0, 1)), []
    context.progress.listener = steps.append
    with context.active():
        found = TINY[name](context, name)
    assert found.status in (HELD, NOT_HELD, INCONCLUSIVE)
    assert len(found.runs) == {"block-spmm": 5, "condensed": 4, "bitmap-attention": 2}[name]
    assert {r.kernel for r in found.runs} <= set(registry()[name].kernels)
    assert all(r.ratio > 0 and r.ms > 0 and r.than_ms > 0 for r in found.runs)
    assert steps


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(("factor", "status"), [(2.0, HELD), (0.5, NOT_HELD)])
def test_every_claim_can_hold_and_fail(name: str, factor: float, status: str) -> None:
    context = KernelContext(repeats=8, seeds=(0, 1), timer=timer(lambda *_: factor))
    with context.active():
        assert TINY[name](context, name).status == status


def test_a_cache_that_stays_large_is_no_success() -> None:
    check = SmallerAndFaster(heads=1, group=1, length=1100, dim=32, window=1000, sparsities=(0.7,))
    found = check(KernelContext(repeats=12, seeds=(0,), timer=timer(lambda *_: 2.0)), "bitmap-attention")
    assert found.low > 1
    assert found.status == NOT_HELD
    assert "at 70 % the cache takes 9" in found.note
    small = SmallerAndFaster(heads=1, length=4096, dim=128).taken(0.7)
    assert small == pytest.approx(0.3 + 1 / 16, abs=0.02)  # bf16 that are left, and a bit for each


def test_wrong_or_missing_opponents_are_not_timed() -> None:
    weight, x = constant_fan_in((16, 20), 0.5, 0), np.ones((1, 20), np.float32)

    def lacking(*_: np.ndarray) -> Any:
        raise RuntimeError("no such operator\nstack")

    for broken, said in ((lambda w, x: lambda: torch.zeros(1, 16), "is wrong by"), (lacking, r"no such operator\)")):
        with pytest.raises(ResourceError, match=said):
            _opponents.contest("w", ("csr",), "fp32", weight, x, {"other": broken})
    assert set(_opponents.contest("w", ("condensed", "csr"), "fp32", weight, x, {}).calls) == {"condensed", "our csr"}


def test_fan_in_is_constant() -> None:
    weight = constant_fan_in((30, 40), 0.9, 1)
    assert (np.count_nonzero(weight, axis=1) == 4).all()
    assert (weight != constant_fan_in((30, 40), 0.9, 2)).any()


def test_published_kernels_are_listed_beside_methods() -> None:
    known = claims.claims()
    assert set(registry()) == set(FILES) == set(TINY)
    assert not set(registry()) & set(methods())
    folder = Path(_opponents.__file__).parent
    assert {p.stem for p in folder.glob("*.py") if not p.stem.startswith("_")} == set(FILES.values())
    for name, one in registry().items():
        assert known[name] is one.claim
        assert one.claim.needs is KernelContext
        assert one.claim.statement.endswith(".")
        assert set(one.kernels) <= set(KERNELS)
        header = " ".join((folder / f"{FILES[name]}.py").read_text(encoding="utf-8").split('"""')[1].split())
        for said in (one.citation.authors, one.citation.title, str(one.citation.year), one.citation.arxiv, "Departs"):
            assert said in header
    with pytest.raises(ArgumentError, match="'bitmap-attention' is taken by Mustafar"):
        published(registry()["bitmap-attention"])


def test_contexts_are_checked() -> None:
    with pytest.raises(ArgumentError, match="context is a object, but the claim of condensed is checked on a Kernel"):
        replicate("condensed", object())
    with pytest.raises(ArgumentError, match="seeds is empty"):
        KernelContext(seeds=())
    with pytest.raises(ArgumentError, match="repeats=0"):
        KernelContext(repeats=0)
    progress = Progress()
    progress.cancel()
    with pytest.raises(Cancelled):
        judged(lambda *_: 1.0, progress=progress)


def test_torch_keeps_its_threads() -> None:
    before = torch.get_num_threads(), torch.backends.quantized.engine
    with KernelContext(threads=before[0] + 1).active():
        assert torch.get_num_threads() == before[0] + 1
    _opponents.int8_layer(np.ones((8, 8), np.float32), np.ones((2, 8), np.float32))
    assert (torch.get_num_threads(), torch.backends.quantized.engine) == before


def test_the_command_records_kernels_without_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"condensed": Claim("Faster.", "A CPU", TINY["condensed"])}
    monkeypatch.setattr(claims, "claims", lambda: known)
    monkeypatch.setattr(command, "load_model", lambda *_: pytest.fail("no model is needed"))
    line = ["replicate", "condensed", "--repeats", "3", "--ledger", str(tmp_path), "--json", str(tmp_path / "x")]
    from workbench import cli

    assert cli.main(line) == 0
    assert "interleaved rounds for each seed" in capsys.readouterr().out
    record = json.loads((tmp_path / "condensed.json").read_text())
    assert record["conditions"]["threads"] == record["provenance"]["torch_threads"] == 1
    assert record["conditions"]["repeats"] == 3
    assert record["table"]["header"] == list(Comparison.HEADER)
    page = (tmp_path / "README.md").read_text()
    assert page == _ledger.page(_ledger.recorded(tmp_path))
    assert "3 interleaved rounds for each of the seeds 0, 1, 2, timed by the thread clock" in page
    assert "| `condensed` | 32 x 40 | torch fp32 |" in page
    assert json.loads((tmp_path / "x").read_text())["claims"][0]["method"] == "condensed"
