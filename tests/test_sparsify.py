"""Sparse layers compute what the masked model computes, in every family and format; the given model stays as it was."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from workbench_kernels.matmul import matmul_bound, matmul_reference

import workbench
from workbench.architecture import FAMILIES
from workbench.errors import ArgumentError, Cancelled, ModelError
from workbench.execute import SparseLinear, _choose
from workbench.execute._choose import Tried, verdict
from workbench.execute.forms import FORMS
from workbench.execute.patterns import random_weight
from workbench.jobs import Progress
from workbench.models import LM, as_lm, fingerprint
from workbench.testing import logits, tiny_lm, tiny_tokens


def masked(family: str = "llama", pattern: str = "16x1", **changes: Any) -> Any:
    return workbench.prune(tiny_lm(family, **changes), "magnitude", 0.5, pattern=pattern)


def sparse_layers(lm: LM) -> int:
    return sum(isinstance(m, SparseLinear) for m in lm.module.modules())


def assert_as_right_as_dense(sparse: LM, dense: LM) -> None:
    """Against the float64 model, the sparse one errs as the dense float32 one does: the same sums in another order."""
    truth = logits(LM(copy.deepcopy(dense.module).double(), None, "truth"))
    usual = float((logits(dense) - truth).abs().max())
    assert float((logits(sparse) - truth).abs().max()) <= 8 * usual


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family(family: str) -> None:
    pruned = masked(family)
    result = workbench.sparsify(pruned, "16x1")
    assert sparse_layers(result.lm) == len(result.layers) == 4 * len(pruned.lm.architecture.linear_paths)
    assert_as_right_as_dense(result.lm, pruned.lm)
    prompt = torch.from_numpy(tiny_tokens().ids[:2])
    said = [m.generate(prompt, max_new_tokens=6, do_sample=False) for m in (pruned.lm.module, result.module)]
    assert torch.equal(*said)
    assert result.lm.fingerprint == pruned.lm.fingerprint  # its state_dict is the dense one's


@pytest.mark.parametrize("form", sorted(FORMS))
def test_every_format(form: str) -> None:
    pruned = masked(pattern="2:4" if form == "2:4" else "16x1", gqa=True)
    result = workbench.sparsify(pruned, form)
    assert result.choices == {form: 28}
    assert all(np.isnan(x.ratio) and x.reason == "asked for" for x in result.layers)
    assert_as_right_as_dense(result.lm, pruned.lm)


@pytest.mark.parametrize("values", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_matches_the_reference_of_its_format(values: str, dtype: torch.dtype) -> None:
    built = FORMS["bitmap"].build(random_weight((33, 70), "unstructured", 0.6, 0), values)
    bias = torch.nn.Parameter(torch.linspace(-1, 1, 33).to(dtype))
    layer = SparseLinear(built, "bitmap", bias, dtype=dtype)
    x = torch.randn(2, 3, 70, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.no_grad():
        got = layer(x)
    assert (got.shape, got.dtype) == ((2, 3, 33), dtype)
    flat, shift = x.float().reshape(6, 70).numpy(), bias.detach().float().numpy()
    want = matmul_reference(built, flat, shift)
    allowed = matmul_bound(built, flat) + 2.0**-24 * np.abs(want)
    if dtype == torch.bfloat16:
        allowed += 2.0**-8 * np.abs(want)  # the output is rounded too
    assert (np.abs(got.float().reshape(6, 33).numpy() - want) <= allowed).all()


def test_the_given_model_is_untouched_and_everything_else_is_shared() -> None:
    pruned = masked()
    before = pruned.lm.fingerprint
    result = workbench.sparsify(pruned, "bitmap")
    assert sparse_layers(pruned.lm) == 0
    assert pruned.lm.fingerprint == before
    own, theirs = result.module.get_input_embeddings().weight, pruned.lm.module.get_input_embeddings().weight
    assert own is theirs
    assert as_lm(result) is result.lm
    assert result.recipe is pruned.recipe
    assert result.bytes_before == sum(4 * r * c for r, c in (x.shape for x in result.layers))
    assert result.bytes_after < result.bytes_before


def test_in_place() -> None:
    lm = tiny_lm()
    result = workbench.sparsify(lm, "dense", inplace=True)
    assert result.module is lm.module
    assert sparse_layers(lm) == 28
    with pytest.raises(ArgumentError, match=r"layers\.0\.self_attn\.q_proj is sparse already"):
        workbench.sparsify(lm)


@pytest.mark.parametrize("tied", [False, True])
def test_the_head_only_if_asked(tied: bool) -> None:
    lm = tiny_lm(tied=tied)
    assert not any(x.name == "head" for x in workbench.sparsify(lm, "dense").layers)
    result = workbench.sparsify(lm, "dense", head=True)
    assert result.layers[-1].name == "head"
    assert isinstance(result.module.get_output_embeddings(), SparseLinear)
    assert_as_right_as_dense(result.lm, lm)
    assert "head" in result.to_text()


class Fake:
    """Stands in for the clock: a format is as fast as the test says."""

    def __init__(self, **ms: float) -> None:
        self.ms, self.entered = ms, []  # type: ignore[var-annotated]

    def __call__(self, works: Any, repeats: int, *_: Any) -> Iterator[dict[str, list[float]]]:
        self.entered.append(sorted(works))
        for work in works.values():
            work()
        yield {name: [self.ms.get(name, 9.0)] * repeats for name in works}


def test_auto_takes_the_fastest_that_beats_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(**{"torch": 2.0, "bitmap": 1.2, "16x1": 1.0})
    monkeypatch.setattr(_choose, "rounds", fake)
    pruned = masked()
    result = workbench.sparsify(pruned, tokens=(1, 4))
    assert result.choices == {"16x1": 28}
    first = result.layers[0]
    assert [t.name for t in first.tried][:2] == ["16x1", "bitmap"]
    assert (first.ratio, first.tried[0].by_tokens) == (2.0, (2.0, 2.0))
    assert "16x1 is 2x as fast as torch" in first.reason
    assert {"16x1", "4x1", "bitmap", "csr", "csr-panels", "dense", "torch"} <= set(fake.entered[0])
    assert not {"bsr16", "bsr32", "2:4"} & set(fake.entered[0])
    assert ["16x1", "bitmap", "torch"] in fake.entered  # a layer like one before is timed with the near ones only
    assert_as_right_as_dense(result.lm, pruned.lm)


def test_auto_keeps_torch_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_choose, "rounds", Fake(torch=2.0, bitmap=2.5))
    pruned = masked()
    result = workbench.sparsify(pruned, tokens=1)
    assert result.choices == {"torch": 28}
    assert sparse_layers(result.lm) == 0
    assert "bitmap is 0.8x as fast as torch (0.80 to 0.80), is slower" in result.layers[0].reason
    assert torch.equal(logits(result.lm), logits(pruned.lm))
    for said in ("Left to torch, and why", "is slower", "0 of 28 layers sparse"):
        assert said in result.to_text()
        assert said in result.to_html()


def test_of_equally_fast_formats_the_smallest_is_taken() -> None:
    def tried(name: str, ratio: float, nbytes: int) -> Tried:
        return Tried(name, ratio, ratio - 0.2, ratio + 0.2, (ratio,), nbytes)

    near = [tried("4x1", 3.0, 120), tried("16x1", 2.95, 100), tried("csr", 2.8, 50)]
    assert verdict(near, "16x1")[1] == near[1]
    same = [tried("bitmap", 2.0, 70), tried("2:4", 2.0, 70)]
    assert verdict(same, "2:4")[1] == same[1]
    reason, winner = verdict([tried("bitmap", 1.1, 70), tried("csr", 0.7, 60)], "unstructured")
    assert winner is None
    assert reason == "the fastest, bitmap is 1.1x as fast as torch (0.90 to 1.30), is not certain to gain"
    assert verdict([], "unstructured") == ("no kernel matched its reference", None)


def test_lossy_values_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(torch=2.0, **{"16x1-int8": 1.0})
    monkeypatch.setattr(_choose, "rounds", fake)
    result = workbench.sparsify(masked(), values="int8", tokens=1)
    assert result.choices == {"16x1-int8": 28}
    assert all(name == "torch" or name.endswith("-int8") for names in fake.entered for name in names)


def test_measured_for_real() -> None:
    pruned = masked()
    result = workbench.sparsify(pruned, tokens=(1, 2))
    assert all(x.choice == "torch" or x.tried[0].low > 1 for x in result.layers)
    assert all(x.tried and x.pattern == "16x1" for x in result.layers)
    assert result.to_dict()["layers"][0]["name"] == "layers.0.self_attn.q_proj"
    assert_as_right_as_dense(result.lm, pruned.lm)


def test_cancel_and_errors_leave_the_model_as_it_was() -> None:
    pruned = masked()
    lm, steps = pruned.lm, []
    before = lm.fingerprint

    def listen(step: Any) -> None:
        steps.append(step)
        if step.done == 5:
            progress.cancel()

    progress = Progress(listen)
    with pytest.raises(Cancelled):
        workbench.sparsify(lm, "bitmap", inplace=True, progress=progress)
    assert steps[0].partial.name == "layers.0.self_attn.q_proj"
    with pytest.raises(ArgumentError, match=r"layers\.0\.self_attn\.q_proj: format='2:4'"):
        workbench.sparsify(lm, "2:4", inplace=True)
    assert sparse_layers(lm) == 0
    assert lm.fingerprint == before


def test_wrong_arguments() -> None:
    lm = tiny_lm()
    for arguments, message in (
        ({"format": "16x2"}, "unknown format '16x2': did you mean '16x1'"),
        ({"values": "int4"}, "unknown values 'int4': did you mean 'int8'"),
        ({"tokens": 0}, "tokens=0"),
        ({"threads": -1}, "threads=-1"),
    ):
        with pytest.raises(ArgumentError, match=message):
            workbench.sparsify(lm, **arguments)
    with pytest.raises(ArgumentError, match=r"is torch\.float16 on cpu: kernels run on the CPU in float32"):
        workbench.sparsify(workbench.wrap(tiny_lm().module.half()))


def test_a_layer_refuses_gradients_and_writing() -> None:
    result = workbench.sparsify(tiny_lm(), "dense")
    layer = result.module.model.layers[0].mlp.up_proj
    ids = torch.from_numpy(tiny_tokens().ids)
    with pytest.raises(ModelError, match=r"no gradient: run it within torch\.no_grad"):
        result.module(ids)
    with pytest.raises(ModelError, match="cannot be set"):
        layer.weight = torch.nn.Parameter(torch.zeros(48, 32))
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor"):
        layer.weight.zero_()
    with torch.no_grad():
        for x, message in (
            (torch.zeros(2, 31), "its last axis must be 32"),
            (torch.zeros(2, 32).half(), "takes float32 or bfloat16 on the CPU"),
            (torch.zeros(()), "its last axis must be 32"),
        ):
            with pytest.raises(ModelError, match=message):
                layer(x)
        assert layer(torch.zeros(0, 32)).shape == (0, 48)


def test_sparse_layers_come_last() -> None:
    result = workbench.sparsify(tiny_lm(), "dense")
    with pytest.raises(ArgumentError, match="prune the model that it was made from"):
        workbench.prune(result, "shortgpt", 0.3, calibration=tiny_tokens())


def test_copies_pickles_and_state_dicts(tmp_path: Any) -> None:
    pruned = masked("qwen2")  # biases
    result = workbench.sparsify(pruned, "16x1")
    want = logits(result.lm)
    twin = copy.deepcopy(result.module)
    assert twin.model.layers[0].mlp.up_proj.format is result.module.model.layers[0].mlp.up_proj.format
    again = pickle.loads(pickle.dumps(result.module))
    for module in (twin, again):
        assert torch.equal(logits(LM(module, None, "copy")), want)
    other = masked("qwen2", seed=1)
    again.load_state_dict(other.lm.module.state_dict())
    assert fingerprint(again) == other.lm.fingerprint
    with pytest.raises(RuntimeError, match=r"mlp\.up_proj\.weight"):
        again.load_state_dict({k: v for k, v in other.lm.module.state_dict().items() if "up_proj" not in k})
    workbench.save(result, tmp_path / "saved")
    assert workbench.load(tmp_path / "saved").fingerprint == pruned.lm.fingerprint


def test_bfloat16_models() -> None:
    lm = workbench.wrap(tiny_lm().module.to(torch.bfloat16))
    result = workbench.sparsify(lm, "dense", "bf16")
    assert result.lm.fingerprint == lm.fingerprint
    got, want = logits(result.lm), logits(lm)
    assert got.dtype == torch.bfloat16
    assert float((got - want).abs().max()) <= 0.05 * float(want.abs().max())
    wide = workbench.sparsify(tiny_lm(), "dense").module.to(torch.bfloat16)
    assert logits(workbench.wrap(wide)).dtype == torch.bfloat16


def test_size_and_cost_count_what_is_stored() -> None:
    pruned = masked()
    dense, sparse = workbench.size(pruned), workbench.size(workbench.sparsify(pruned, "16x1"))
    assert (sparse.parameters, sparse.nonzero_parameters) == (dense.parameters, dense.nonzero_parameters)
    assert sparse.weight_bytes < dense.weight_bytes
    dense_cost, sparse_cost = (workbench.cost(m) for m in (pruned, workbench.sparsify(pruned, "16x1")))
    assert sparse_cost.flops < dense_cost.flops
    assert sparse_cost.by_module["up_proj"][0] < 0.7 * dense_cost.by_module["up_proj"][0]


def test_quality_of_a_sparsified_model() -> None:
    pruned = masked()
    tokens = tiny_tokens()
    a, b = workbench.perplexity(pruned, tokens), workbench.perplexity(workbench.sparsify(pruned, "bitmap"), tokens)
    assert b.perplexity == pytest.approx(a.perplexity, rel=1e-5)


@pytest.mark.slow
def test_the_default_model_pruned_in_blocks() -> None:
    pruned = workbench.prune(workbench.load(), "magnitude", 0.8, pattern="16x1")
    result = workbench.sparsify(pruned)
    assert sum(x.choice != "torch" for x in result.layers) > 100
    assert result.bytes_after < 0.5 * result.bytes_before
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 1000, (1, 48)))
    with torch.no_grad():
        want, got = pruned.lm.module(ids).logits, result.module(ids).logits
    assert float((got - want).abs().max()) <= 1e-4 * float(want.abs().max())
    said = [m.generate(ids, max_new_tokens=12, do_sample=False) for m in (pruned.lm.module, result.module)]
    assert torch.equal(*said)
