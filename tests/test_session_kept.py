"""Sessions that are kept: packing is exact, models are shared, a killed process loses nothing finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_lm import byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

import workbench
from workbench.architecture import matrix
from workbench.errors import ArgumentError, DataError, ModelError, ResourceError
from workbench.measure.memory import peak_memory
from workbench.models import as_lm
from workbench.session import Session, making
from workbench.session.codec import decode, encode
from workbench.session.packing import build, pack
from workbench.session.store import Store

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"samples": 4, "seqlen": 64, "windows": 3}
CASES = [
    ("magnitude", 0.5, {}),
    ("wanda", 0.5, {"pattern": "2:4"}),
    ("sparsegpt", 0.5, {}),
    ("wanda", 0.5, {"repair": "bias"}),
    ("flap", 0.3, {}),
    ("shortgpt", 0.3, {}),
]


def compilable(seed=0):
    """Small, with heads of 32 as the compiled runtime wants them."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=256, tie_word_embeddings=True,
        initializer_range=0.1,
    )  # fmt: skip
    return workbench.wrap(LlamaForCausalLM(config), byte_tokenizer())


@pytest.fixture(scope="module")
def lm():
    return compilable()


@pytest.fixture
def kept(lm, tmp_path):
    session = workbench.open(tmp_path / "kept", lm, **SIZES)
    yield session
    session.close()


def masks(model):
    arch = as_lm(model).architecture
    return [(matrix(m) == 0).numpy() for i in range(arch.num_layers) for m in arch.linears(i).values()]


@pytest.mark.parametrize(("method", "sparsity", "more"), CASES, ids=str)
def test_what_is_built_again_is_the_same_to_the_bit(lm, method, sparsity, more):
    calibration = workbench.calibration(lm, samples=4, seqlen=64)
    pruned = workbench.prune(lm, method, sparsity, calibration=calibration, **more)
    packed = pack(pruned.lm, lm)
    again = build(packed, lm)
    assert again.fingerprint == pruned.lm.fingerprint
    ids = torch.arange(1, 30)[None]
    with torch.no_grad():
        assert torch.equal(again.module(ids).logits, pruned.lm.module(ids).logits)
    if method in ("magnitude", "wanda") and "repair" not in more:
        assert not packed.stored, "a mask is all that a masked model needs"
        weights = sum(m.size for m in masks(lm))
        assert packed.nbytes <= weights / 8 + 64
    embedding = lm.module.get_input_embeddings().weight
    assert again.module.get_input_embeddings().weight.data_ptr() == embedding.data_ptr()


def test_only_what_is_known_is_decoded():
    value = {"a": (1, 2.5, None, np.arange(3.0)), "b": [float("inf"), "x"]}
    again = decode(json.loads(json.dumps(encode(value))))
    assert again["a"][:3] == (1, 2.5, None)
    assert again["b"] == [float("inf"), "x"]
    np.testing.assert_array_equal(again["a"][3], np.arange(3.0))
    for wrong in ({"class": "Popen", "fields": {}}, {"array": "", "dtype": "O", "shape": [0]}, {"other": 1}):
        with pytest.raises(DataError, match="not written by the workbench"):
            decode(wrong)
    with pytest.raises(DataError, match="cannot be kept"):
        encode(object())


def test_a_session_goes_on_where_it_was(lm, tmp_path):
    folder = tmp_path / "kept"
    session = workbench.open(folder, lm, **SIZES)
    session.prune(method="magnitude", sparsity=0.3)
    session.apply()
    session.prune(method="flap", sparsity=0.2, speed=False)
    compiled = session.compile("bitmap", variant=1, speed=False)
    session.prune(method="wanda", sparsity=0.5, speed=False)
    session.remove(4)
    session.prompt = "Once"
    session.save()
    with pytest.raises(ResourceError, match="open in another process"):
        workbench.open(folder, lm)
    before = [(v.name, v.after.perplexity, as_lm(v).fingerprint) for v in session.variants if not v.compiled]
    table, journal = session.compare().to_text(), [e.action for e in session.journal]
    session.close()

    again = workbench.open(folder, lm)
    assert [(v.name, v.after.perplexity, as_lm(v).fingerprint) for v in again.variants if not v.compiled] == before
    assert [v.number for v in again.variants] == [1, 2, 3]
    assert [e.action for e in again.journal] == journal
    assert again.compare().to_text() == table
    assert again.prompt == "Once"
    assert again.applied.number == 1
    assert again.choice.method == "wanda"
    np.testing.assert_array_equal(again.model(3).forward([1, 2, 3]), compiled.model.forward([1, 2, 3]))
    again.undo()
    assert [v.number for v in again.variants] == [1, 2, 3, 4], "removing is taken back"
    assert again.undo() is again.dense
    assert again.prune(speed=False).number == 5
    again.close()


def test_another_model_is_refused(lm, kept, tmp_path):
    kept.prune(method="magnitude", speed=False)
    kept.close()
    with pytest.raises(ModelError, match="made with another model"):
        workbench.open(tmp_path / "kept", compilable(seed=5))
    with pytest.raises(ArgumentError, match="model in memory"):
        workbench.open(tmp_path / "kept")


def test_fresh_puts_the_old_one_aside(lm, kept, tmp_path):
    kept.prune(method="magnitude", speed=False)
    kept.close()
    anew = workbench.open(tmp_path / "kept", lm, fresh=True, **SIZES)
    assert anew.variants == ()
    anew.close()
    assert (tmp_path / "kept.before" / "variants" / "0001" / "variant.json").is_file()


def test_a_folder_with_something_else_is_left_alone(lm, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArgumentError, match="holds something else"):
        workbench.open(tmp_path, lm, fresh=True)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_damage_is_named(lm, kept, tmp_path):
    kept.prune(method="magnitude", speed=False)
    kept.close()
    (tmp_path / "kept" / "variants" / "0001" / "masks.safetensors").write_bytes(b"no")
    again = workbench.open(tmp_path / "kept", lm)
    with pytest.raises(DataError, match="is damaged"):
        _ = again.variants[0].pruned
    again.close()
    (tmp_path / "kept" / "session.json").write_text("{}")
    with pytest.raises(DataError, match=r"session\.json"):
        workbench.open(tmp_path / "kept", lm)


def test_few_models_are_in_memory_and_share_what_is_the_same(lm):
    session = Session(lm, keep=2, **SIZES)
    for sparsity in (0.1, 0.2, 0.3, 0.4):
        session.prune(method="magnitude", sparsity=sparsity, speed=False)
    models = session._keeper.models
    assert models.held == (3, 4)
    first = session.variants[0]
    assert first.pruned is first.pruned
    assert models.held == (4, 1)
    dense = session.dense.module.get_input_embeddings().weight
    assert all(as_lm(v).module.get_input_embeddings().weight.data_ptr() == dense.data_ptr() for v in session.variants)
    folder = models.store.folder
    session.close()
    assert not folder.exists()


def test_compiled_variants_are_measured_as_they_run(kept):
    base = kept.prune(method="magnitude", sparsity=0.5, speed=False)
    variant = kept.compile("bitmap", "int8", threads=1)
    assert variant.name == "2: magnitude 50 % + compiled bitmap-int8 on 1 threads"
    assert variant.after.protocol["dtype"] == "compiled bitmap-int8"
    assert variant.after.perplexity == pytest.approx(base.after.perplexity, rel=0.1)
    assert variant.size.weight_bytes < base.size.weight_bytes
    assert variant.speed.decode.ratio > 0
    assert variant.samples.pruned is not None
    for wrong in (kept.apply, kept.export):
        with pytest.raises(ArgumentError, match="compiled"):
            wrong(*(("out", 2) if wrong == kept.export else (2,)))
    with pytest.raises(ArgumentError, match="compiled already"):
        kept.compile("dense", variant=2)
    assert kept.compile("dense", variant=0, speed=False).lineage[-1].format == "dense"


def test_compiled_perplexity_is_that_of_the_same_weights(kept):
    base = kept.prune(method="magnitude", sparsity=0.5, speed=False)
    exact = kept.compile("dense", "fp32", speed=False)
    assert exact.after.perplexity == pytest.approx(base.after.perplexity, rel=1e-5)


def test_variants_decode_and_draft(kept):
    kept.prune(method="magnitude", sparsity=0.2, speed=False)
    plain = kept.generate("ab", max_new_tokens=12, variant=0)
    drafted = kept.generate("ab", "draft-model", variant=0, draft=1, max_new_tokens=12)
    np.testing.assert_array_equal(drafted.tokens, plain.tokens)
    assert len(drafted.trace.rows("draft"))
    assert not len(plain.trace.rows("draft"))


def test_the_comparison_knows_what_nothing_beats(kept):
    for sparsity in (0.2, 0.6):
        kept.prune(method="magnitude", sparsity=sparsity, speed=False)
    compared = kept.compare()
    assert [r.number for r in compared.rows] == [0, 1, 2]
    assert compared.rows[0].ratio == 1
    worse = compared.rows[2]
    assert worse.low <= worse.ratio <= worse.high
    front = compared.pareto("weight_bytes")
    brute = {
        r.number
        for r in compared.rows
        if not any(
            o.perplexity <= r.perplexity
            and o.weight_bytes <= r.weight_bytes
            and (o.perplexity, o.weight_bytes) != (r.perplexity, r.weight_bytes)
            for o in compared.rows
        )
    }
    assert set(front) == brute
    assert "<svg" in compared.to_html()


def test_the_comparison_tells_compiled_code_from_zeros(kept):
    kept.prune(method="magnitude", sparsity=0.5, speed=False)
    sparse = kept.compile("auto", "fp32", variant=1)
    assert np.isnan([r.alike for r in kept.compare().rows]).all()
    assert "Compile dense with the same values" in kept.compare().note
    other, alone = kept.compile("dense", "int8", variant=0), kept.compile("dense", "fp32", variant=0)
    rows = {r.number: r for r in kept.compare().rows}
    assert rows[sparse.number].alike == sparse.speed.decode.ratio / alone.speed.decode.ratio
    assert (rows[other.number].alike, rows[alone.number].alike) == (1, 1)
    assert np.isnan(rows[1].alike)
    assert rows[0].decode_ms == np.median([v.speed.decode.dense_ms for v in (sparse, other, alone)])
    assert "what the zeros bring by themselves" in kept.compare().to_html()


def test_the_whole_session_as_python_in_a_fresh_process(tmp_path, lm):
    workbench.save(lm, tmp_path / "model")
    model = workbench.load(tmp_path / "model")
    session = Session(model, **SIZES)
    session.prune(method="magnitude", sparsity=0.3, speed=False)
    session.apply()
    session.prune(method="wanda", sparsity=0.6, speed=False)
    session.undo()
    session.prune(method="flap", sparsity=0.3, speed=False)
    session.compile("bitmap", variant=2, speed=False)
    session.apply(3)
    program = session.to_python() + textwrap.dedent("""
        import sys, numpy
        from workbench.architecture import matrix
        found = {}
        for name, pruned in (("v1", v1), ("v2", v2), ("v3", v3), ("current", current)):
            a = pruned.lm.architecture
            for i in range(a.num_layers):
                for part, m in a.linears(i).items():
                    found[f"{name}/{i}/{part}"] = (matrix(m) == 0).numpy()
        numpy.savez(sys.argv[1], compiled=v4.forward([1, 2, 3]), **found)
    """)
    roots = os.pathsep.join(str(ROOT / root) for root in ("", "kernels", "widgets"))
    environment = {**os.environ, "PYTHONPATH": roots}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "out.npz")], env=environment, check=True)
    found = np.load(tmp_path / "out.npz")
    for number, name in ((1, "v1"), (2, "v2"), (3, "v3"), (3, "current")):
        arch = as_lm(session.pick(number)).architecture
        for i in range(arch.num_layers):
            for part, module in arch.linears(i).items():
                np.testing.assert_array_equal(found[f"{name}/{i}/{part}"], (matrix(module) == 0).numpy())
    np.testing.assert_array_equal(found["compiled"], session.model(4).forward([1, 2, 3]))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="only POSIX systems kill like that")
def test_a_killed_process_loses_nothing_finished(tmp_path, lm):
    workbench.save(lm, tmp_path / "model")
    program = f"""
        import os, signal, workbench
        session = workbench.open({str(tmp_path / "kept")!r}, {str(tmp_path / "model")!r}, **{SIZES})
        session.prune(method="magnitude", sparsity=0.4, speed=False)
        session.apply()
        def die(step):
            if step.what == "perplexity":
                os.kill(os.getpid(), signal.SIGKILL)
        session.prune(workbench.Progress(die), method="wanda", sparsity=0.5)
    """
    roots = os.pathsep.join(str(ROOT / root) for root in ("", "kernels", "widgets"))
    command = [sys.executable, "-c", textwrap.dedent(program)]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": roots}, check=False).returncode == -signal.SIGKILL
    again = workbench.open(tmp_path / "kept")
    assert [v.name for v in again.variants] == ["1: magnitude 40 %"]
    assert again.applied.number == 1
    assert as_lm(again.variants[0]).fingerprint == as_lm(workbench.prune(again.dense, "magnitude", 0.4)).fingerprint
    again.close()


def test_two_notebooks_at_once_have_a_session_each(lm, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    workbench.save(lm, tmp_path / "model")
    first, second = (workbench.open(tmp_path / "model", **SIZES) for _ in range(2))
    assert first.folder != second.folder
    assert second.folder.name == first.folder.name + "-2"
    first.close()
    second.close()
    with pytest.raises(ArgumentError, match="in memory only"):
        workbench.open(model=lm)


def test_a_store_that_dies_in_the_middle_leaves_no_variant(lm, tmp_path, monkeypatch):
    session = workbench.open(tmp_path / "kept", lm, **SIZES)

    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr("workbench.session.store.save_file", full)
    with pytest.raises(ResourceError, match="free some space"):
        session.prune(method="magnitude", speed=False)
    monkeypatch.undo()
    assert session.variants == ()
    assert Store.figures(session._keeper.models.store) == []
    assert session.prune(speed=False).number == 1
    session.close()


@pytest.mark.slow
def test_ten_variants_of_the_default_model_do_not_take_ten_models_of_memory(monkeypatch):
    default_lm = workbench.load()
    figures = {"before": None, "after": None, "dense_size": None, "size": None, "speed": None, "samples": None}
    monkeypatch.setattr("workbench.session.making.measured", lambda *_, **__: figures)
    session = Session(default_lm, samples=1, seqlen=32, keep=2)
    model = workbench.size(default_lm).weight_bytes
    session.prune(method="magnitude", sparsity=0.05)
    with peak_memory() as memory:
        for n in range(2, 11):
            session.prune(sparsity=0.05 * n)
    assert len(session.variants) == 10
    assert len(session._keeper.models.held) == 2
    assert memory.over_start_bytes < 3 * model, repr(memory)
    assert as_lm(session.variants[3]).fingerprint != as_lm(session.variants[8]).fingerprint
    session.close()


def test_a_model_in_bfloat16_is_opened_again_in_bfloat16(tmp_path, lm):
    workbench.save(lm, tmp_path / "model")
    given = workbench.load(tmp_path / "model", dtype=torch.bfloat16)
    session = workbench.open(tmp_path / "kept", given, **SIZES)
    variant = session.prune(method="magnitude", sparsity=0.5, speed=False)
    program = session.to_python()
    session.close()
    again = workbench.open(tmp_path / "kept")
    assert again.dense.module.dtype == torch.bfloat16
    assert again.variants[0].after.perplexity == variant.after.perplexity
    again.close()
    names: dict = {}
    exec(program, names)  # says the dtype, or the masks would come from other weights
    assert names["v1"].lm.fingerprint == variant.lm.fingerprint


def test_a_model_is_let_go_before_the_next_one_is_made(lm, monkeypatch):
    session = Session(lm, keep=1, **SIZES)
    models, seen = session._keeper.models, []
    session.prune(method="magnitude", sparsity=0.5, speed=False)

    def compiled(model, step, progress=None, _compile=making.compiled):
        seen.append(models.held)
        return _compile(model, step, progress)

    monkeypatch.setattr(making, "compiled", compiled)
    session.compile("bitmap", variant=1, speed=False)
    session.compile("dense", variant=0, speed=False)
    assert seen == [(1,), ()]  # what it is made from stays, the rest goes
    assert models.held == (3,)
