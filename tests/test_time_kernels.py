"""Kernels side by side: what is timed was checked first, partial results stream, cancelling is prompt."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from workbench_kernels import KernelError, features
from workbench_kernels.inspection import inner_loop

import workbench
from workbench.errors import ArgumentError, Cancelled
from workbench.execute import break_even, candidates, instructions, pattern_of, timing
from workbench.execute.balance import line_crosses
from workbench.execute.forms import FORMS
from workbench.execute.patterns import picture, random_mask, random_weight
from workbench.jobs import Job, Progress
from workbench.testing import tiny_lm

SHAPE = (64, 48)
FEW: dict[str, Any] = {"tokens": (1, 5), "repeats": 2}


def test_a_shape_is_timed_against_torch_and_our_dense() -> None:
    steps = []
    result = workbench.time_kernels(SHAPE, pattern="16x1", sparsity=0.75, progress=Progress(steps.append), **FEW)
    names = {r.name for r in result.rows}
    assert {"torch", "torch-bf16", "dense", "bitmap", "16x1", "4x1"} <= names
    assert not {"bsr16", "bsr32", "2:4"} & names
    assert (result.shape, result.pattern, result.tokens) == (SHAPE, "16x1", (1, 5))
    assert result.sparsity == pytest.approx(0.75, abs=0.01)
    for row in result.rows:
        assert row.ms > 0
        assert row.low <= row.ratio <= row.high
        assert np.isnan(row.error) if row.format.startswith("torch") else 0 <= row.error <= 1
    assert result.row("torch", 1).ratio == 1
    assert result.row("dense", 5).own_ratio == 1
    assert result.row("16x1", 1).stored == np.count_nonzero(random_mask(SHAPE, "16x1", 0.75, 0))
    partial = [s.partial for s in steps if s.partial is not None]
    assert [len({r.tokens for r in p.rows}) for p in partial] == [1, 1, 2, 2]
    assert [s.done for s in steps if s.partial is not None] == [1, 2, 3, 4]


def test_text_and_html_say_what_was_measured() -> None:
    result = workbench.time_kernels(SHAPE, formats="bitmap", values=("fp32", "bf16"), **FEW)
    text, html = result.to_text(), result.to_html()
    for said in ("bitmap-bf16", "interleaved", "thread", "Roofline", "of the bound"):
        assert said in text
        assert said in html
    assert html.count("<svg") == 3
    assert "data:image/png" in html
    assert result.to_dict()["rows"][0]["format"] == "torch"
    assert "fastest at" in repr(result)


def test_a_layer_is_timed_with_its_own_zeros() -> None:
    lm = tiny_lm()
    pruned = workbench.prune(lm, "magnitude", 0.5, pattern="2:4")
    result = workbench.time_kernels((pruned, "layers.3.mlp.up_proj"), tokens=1, repeats=1)
    assert (result.title, result.shape, result.pattern) == ("layers.3.mlp.up_proj", (48, 32), "2:4")
    assert "2:4" in {r.name for r in result.rows}
    same = workbench.time_kernels((pruned.lm.module, "model.layers.3.mlp.up_proj"), tokens=1, repeats=1)
    assert np.array_equal(same.picture, result.picture)
    gpt2 = tiny_lm("gpt2")
    assert workbench.time_kernels((gpt2, "layers.0.mlp.c_fc"), tokens=1, repeats=1).shape == (48, 32)
    assert workbench.time_kernels((gpt2, "head"), tokens=1, repeats=1).shape == (97, 32)


def test_what_does_not_match_its_reference_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(weight: Any, x: Any, **rest: Any) -> Any:
        y = right(weight, x, **rest)
        if weight.kind == "bitmap":
            y[0, 0] += 1
        return y

    right = timing.matmul
    monkeypatch.setattr(timing, "matmul", wrong)
    result = workbench.time_kernels(SHAPE, formats="bitmap", **FEW)
    assert "bitmap" not in {r.name for r in result.rows}
    assert "refused: off by" in result.skipped["bitmap, 1 tokens"]
    assert "dense" in {r.name for r in result.rows}


def test_a_format_that_cannot_hold_the_pattern_is_skipped_with_the_reason() -> None:
    result = workbench.time_kernels(SHAPE, sparsity=0.3, formats=("2:4", "bitmap"), **FEW)
    assert "2:4 allows 2" in result.skipped["2:4"]
    assert "bitmap" in {r.name for r in result.rows}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formats": "bitmp"}, "unknown format 'bitmp': did you mean 'bitmap'"),
        ({"values": "fp16"}, "unknown values 'fp16'"),
        ({"tokens": 0}, "tokens=0: a whole number of at least 1"),
        ({"tokens": ()}, "whole numbers of at least 1"),
        ({"repeats": 0}, "repeats=0"),
        ({"threads": 0}, "threads=0"),
        ({"pattern": "16y1"}, "want N:M"),
        ({"pattern": "2:4", "sparsity": 0.7}, "the pattern 2:4 fixes 0.5"),
        ({"sparsity": 2}, "a share of the weights"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        workbench.time_kernels(SHAPE, **arguments)


def test_wrong_targets() -> None:
    lm = tiny_lm()
    with pytest.raises(ArgumentError, match=r"did you mean 'layers\.1\.mlp\.up_proj'"):
        workbench.time_kernels((lm, "layers.1.mlp.up_prj"))
    with pytest.raises(ArgumentError, match="a layer has its own zeros"):
        workbench.time_kernels((lm, "layers.1.mlp.up_proj"), sparsity=0.5)
    with pytest.raises(ArgumentError, match="outputs and inputs"):
        workbench.time_kernels((0, 3))
    with pytest.raises(ArgumentError, match="neither a shape"):
        workbench.time_kernels("layers.1.mlp.up_proj")


def test_cancelling_is_prompt_and_gives_torch_its_threads_back() -> None:
    before = torch.get_num_threads()
    progress = Progress(lambda step: progress.cancel() if step.what == "time kernels" else None)
    with pytest.raises(Cancelled):
        workbench.time_kernels(SHAPE, threads=2, progress=progress, **FEW)
    assert torch.get_num_threads() == before
    job = Job(workbench.time_kernels, SHAPE, repeats=100_000)
    deadline = time.monotonic() + 60
    while job.last is None or job.last.what != "time kernels":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(timeout=10)


def test_cold_caches_and_break_even() -> None:
    result = workbench.time_kernels(SHAPE, pattern="16x1", formats="16x1", tokens=1, repeats=1, cold=True)
    assert result.cold
    assert "emptied" in result.to_text()
    found = workbench.time_kernels(SHAPE, pattern="16x1", formats="16x1", tokens=1, repeats=3, break_even=True)
    assert found.break_even is not None
    (row,) = found.break_even.rows
    assert (row.name, row.tokens, len(row.densities)) == ("16x1", 1, 5)
    assert "Break-even with torch" in found.to_html()
    fixed = workbench.time_kernels(SHAPE, pattern="2:4", formats="2:4", tokens=1, repeats=1, break_even=True)
    assert fixed.break_even is None
    assert "no choice of sparsity" in fixed.skipped["break-even"]


def test_break_even_checks_what_it_is_asked() -> None:
    with pytest.raises(ArgumentError, match="unknown peer"):
        break_even(SHAPE, peer="scipy")
    with pytest.raises(ArgumentError, match="leaves no choice"):
        break_even(SHAPE, pattern="2:4")
    with pytest.raises(ArgumentError, match="make a line"):
        break_even(SHAPE, sparsities=(0.5, 0.5))
    assert line_crosses(0.2, 2.0) == pytest.approx(0.6)
    assert line_crosses(0.1, 0.5) == 0
    assert np.isnan(line_crosses(1.1, 0.5))


@pytest.mark.parametrize(("name", "values", "tokens"), [("16x1", "fp32", 8), ("bitmap", "int8", 1), ("4x1", "int8", 1)])
def test_the_inner_loop_multiplies(name: str, values: str, tokens: int) -> None:
    found = instructions(name, values, tokens)
    assert not features().wide or any(
        ("fma" in k or "fmla" in k or "dp" in k or "mul" in k or "dot" in k) and n >= 1 for k, n in found.items()
    )
    assert list(found.values()) == sorted(found.values(), reverse=True)
    if features().dot_int8 and values == "int8":
        assert found["vpdpbusd"] >= 2
    assert instructions(name, values, tokens) == found


def test_instructions_checks_names() -> None:
    with pytest.raises(ArgumentError, match="unknown format '16y1': did you mean '16x1'"):
        instructions("16y1")
    code = ".L1:\n\tvaddps\t%zmm1, %zmm2, %zmm2\n.L2:\n\tvfmadd231ps\t%zmm1, %zmm2, %zmm3\n\tdecq\t%rax\n"
    assert inner_loop(code + "\tjne\t.L2\n\tjmp\t.L1\n")[0] == ".L2:"
    with pytest.raises(KernelError, match="no loop"):
        inner_loop(code)


@pytest.mark.parametrize("pattern", ["2:4", "16x1", "4x1", "bsr16", "bsr32", "unstructured"])
def test_a_pattern_is_found_again_and_its_format_suits(pattern: str) -> None:
    weight = random_weight((96, 128), pattern, None, seed=3)
    assert pattern_of(weight) == pattern
    suited = {f.name for f in candidates(weight)}
    assert suited >= {"dense", "bitmap", *({pattern} & set(FORMS))}
    for form in candidates(weight):
        stored = form.build(weight).stored
        assert form.stores(weight != 0) <= stored  # padding of a kernel's own comes on top
        assert np.array_equal(form.build(weight).to_dense(), weight)


def test_ends_of_patterns() -> None:
    assert pattern_of(np.ones((5, 7), np.float32)) == "dense"
    trained = np.ones((64, 64), np.float32)
    trained[::16, ::16] = 0  # a zero here and there is no pattern
    assert pattern_of(trained) == "dense"
    assert pattern_of(np.zeros((5, 7), np.float32)) == "empty"
    assert [f.name for f in candidates(np.ones((5, 7), np.float32))] == ["dense"]
    drawn = picture(np.pad(np.ones((200, 3), np.float32), ((0, 57), (0, 0))))
    assert drawn.shape == (86, 3)
    assert drawn.dtype == np.uint8
    assert (drawn[0] == 255).all()
    assert (drawn[-1] == 0).all()
