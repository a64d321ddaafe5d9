"""Saving: whole or not at all, read back and compared; and a folder is what its config.json says."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import workbench
from workbench import checkpoint
from workbench.errors import Cancelled, ModelError, ResourceError
from workbench.jobs import Progress
from workbench.measure import peak_memory
from workbench.testing import logits, tiny_lm, tiny_tokens

# the families whose configuration cannot say that a bias was added
UNBIASED = ("qwen2", "mistral", "gemma2", "gemma3_text", "qwen3", "smollm3", "olmo2", "phi3")


def ragged(lm):
    return workbench.prune(lm, "flap", 0.3, calibration=tiny_tokens())


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def lm():
    return tiny_lm()


@pytest.fixture
def other():
    return tiny_lm(seed=1)


def test_a_plain_folder(lm, tmp_path):
    saved = workbench.save(lm, tmp_path / "out")
    assert saved.kind == "transformers"
    assert saved.folder == tmp_path / "out"
    assert saved.bytes == (tmp_path / "out" / "model.safetensors").stat().st_size
    assert saved.max_logit_difference == 0
    assert names(tmp_path / "out") == ["config.json", "generation_config.json", "model.safetensors"]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "per_layer_config" not in config
    module = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), lm.module.parameters(), strict=True))


def test_a_per_layer_folder(lm, tmp_path):
    pruned = ragged(lm)
    saved = workbench.save(pruned, tmp_path / "out")
    assert saved.kind == "per-layer"
    config, arch = json.loads((tmp_path / "out" / "config.json").read_text()), pruned.lm.architecture
    assert config["intermediate_size"] == 48
    assert config["per_layer_config"] == {
        str(i): {
            "intermediate_size": arch.neurons(i),
            "num_attention_heads": arch.query_heads(i),
            "num_key_value_heads": arch.kv_heads(i),
        }
        for i in range(4)
    }
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    shapes = {k: tuple(v.shape) for k, v in pruned.lm.module.state_dict().items()}
    assert {k: tuple(v.shape) for k, v in tensors.items()} == shapes


def test_a_bare_module_is_saved_too(lm, tmp_path):
    workbench.save(lm.module, tmp_path / "out")
    assert torch.equal(logits(workbench.load(tmp_path / "out")), logits(lm))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "opt", *UNBIASED])
def test_transformers_refuses_a_per_layer_folder(family, tmp_path):
    workbench.save(ragged(tiny_lm(family)), tmp_path / "out")
    with pytest.raises(Exception, match="per-layer attribute"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "out")


@pytest.mark.parametrize("family", UNBIASED)
def test_transformers_refuses_a_folder_with_biases_of_ours(family, tmp_path):
    """All sizes are the dense ones here: transformers would load the rest and drop the biases without a word."""
    lm = tiny_lm(family)
    pruned = workbench.prune(lm, "wanda", 0.3, repair="bias", calibration=tiny_tokens())
    saved = workbench.save(pruned, tmp_path / "out")
    assert saved.kind == "per-layer"
    with pytest.raises(Exception, match="per-layer attribute"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    again = workbench.load(tmp_path / "out")
    assert again.module.config.intermediate_size == lm.module.config.intermediate_size
    assert again.fingerprint == pruned.lm.fingerprint
    assert (logits(again) - logits(pruned.lm)).abs().max() <= 1e-4


def test_the_recipe_travels_along(lm, tmp_path):
    pruned = ragged(lm)
    workbench.save(pruned, tmp_path / "out")
    text = (tmp_path / "out" / "recipe.json").read_text()
    assert workbench.Recipe.from_json(text) == pruned.recipe


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_models(lm, dtype, tmp_path):
    workbench.save(workbench.wrap(lm.module.to(dtype)), tmp_path / "cast")
    half = workbench.load(tmp_path / "cast", dtype=dtype)
    saved = workbench.save(half, tmp_path / "out")
    assert saved.max_logit_difference == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    assert torch.equal(logits(workbench.load(tmp_path / "out", dtype=dtype)), logits(half))


def test_a_folder_with_content_is_refused_and_untouched(lm, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("notes", "file"):
        with pytest.raises(ModelError, match=r"holds something already: name a new one, or pass overwrite=True"):
            workbench.save(lm, tmp_path / name)
    assert (tmp_path / "notes" / "mine.txt").read_text() == (tmp_path / "file").read_text() == "mine"
    assert names(tmp_path) == ["file", "notes"]


def test_new_empty_and_nested_folders_will_do(lm, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        workbench.save(lm, folder)
        assert workbench.load(folder).fingerprint == lm.fingerprint
    assert names(tmp_path / "a" / "b") == ["c"]


def test_overwrite_replaces_the_whole_folder(lm, other, tmp_path):
    workbench.save(ragged(lm), tmp_path / "out")
    workbench.save(other, tmp_path / "out", overwrite=True)
    assert workbench.load(tmp_path / "out").fingerprint == other.fingerprint
    assert "recipe.json" not in names(tmp_path / "out")
    assert names(tmp_path) == ["out"]


def test_a_model_can_replace_the_folder_that_it_was_loaded_from(lm, tmp_path):
    workbench.save(lm, tmp_path / "out")
    workbench.save(ragged(workbench.load(tmp_path / "out")), tmp_path / "out", overwrite=True)
    assert workbench.load(tmp_path / "out").architecture.parameters() < lm.architecture.parameters()


def test_overwriting_a_link_leaves_what_it_points_to(lm, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_text("theirs")
    (tmp_path / "out").symlink_to(tmp_path / "theirs")
    workbench.save(lm, tmp_path / "out", overwrite=True)
    assert names(tmp_path / "theirs") == ["file"]
    assert not (tmp_path / "out").is_symlink()
    assert names(tmp_path) == ["out", "theirs"]


def test_no_space_leaves_nothing_behind(lm, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(ResourceError, match=r"needs .* 10 B are free: make room"):
        workbench.save(lm, tmp_path / "a" / "b")
    assert names(tmp_path) == []


def test_a_place_that_cannot_be_written(lm, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write"):
        workbench.save(lm, tmp_path / "file" / "out")


def broken(error):
    def fails(*_, **__):
        raise error

    return fails


CRASHES = [
    ("save_file", OSError(28, "No space left on device"), ResourceError),
    ("save_file", checkpoint.SafetensorError("I/O error: No space left on device"), ResourceError),
    ("save_file", KeyboardInterrupt(), KeyboardInterrupt),
    ("load", KeyboardInterrupt(), KeyboardInterrupt),
    ("load", ModelError("damaged"), ModelError),
    ("_compare", MemoryError(), MemoryError),
]


@pytest.mark.parametrize(("where", "what", "seen"), CRASHES)
def test_a_crash_leaves_the_old_folder_as_it_was(where, what, seen, lm, other, tmp_path, monkeypatch):
    workbench.save(lm, tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(checkpoint, where, broken(what))
    for folder in ("out", "new"):
        with pytest.raises(seen):
            workbench.save(other, tmp_path / folder, overwrite=True)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [OSError("gone"), KeyboardInterrupt()])
def test_a_crash_while_the_folders_change_places(error, lm, other, tmp_path, monkeypatch):
    workbench.save(lm, tmp_path / "out")
    rename = checkpoint.Path.rename

    def fails(self, target):
        if self.suffix == ".part":
            raise error
        return rename(self, target)

    monkeypatch.setattr(checkpoint.Path, "rename", fails)
    with pytest.raises((ResourceError, KeyboardInterrupt)):
        workbench.save(other, tmp_path / "out", overwrite=True)
    assert workbench.load(tmp_path / "out").fingerprint == lm.fingerprint
    assert names(tmp_path) == ["out"]


def test_cancelling_leaves_nothing(lm, tmp_path):
    progress = Progress()
    progress.cancel()
    with pytest.raises(Cancelled):
        workbench.save(lm, tmp_path / "out", progress=progress)
    assert names(tmp_path) == []


def test_progress_is_reported(lm, tmp_path):
    steps = []
    workbench.save(lm, tmp_path / "out", progress=Progress(steps.append))
    assert [(s.what, s.done, s.total) for s in steps] == [("read back", 1, 2), ("read back", 2, 2)]


@pytest.mark.parametrize("value", [0.01, float("nan")])
def test_what_was_written_wrongly_is_not_kept(value, lm, tmp_path, monkeypatch):
    stored = checkpoint.stored_tensors

    def wrong(*arguments):
        tensors = stored(*arguments)
        return tensors | {"model.norm.weight": tensors["model.norm.weight"] + value}

    monkeypatch.setattr(checkpoint, "stored_tensors", wrong)
    with pytest.raises(ModelError, match=r"read back, but its logits differ by .*: nothing was kept"):
        workbench.save(lm, tmp_path / "out")
    assert names(tmp_path) == []


def test_saving_needs_no_copy_but_the_one_read_back(tmp_path):
    lm = tiny_lm(hidden_size=512, intermediate_size=4096, num_hidden_layers=2, num_attention_heads=8, head_dim=64)
    workbench.save(tiny_lm(), tmp_path / "first")  # what is imported and allocated once
    size = sum(p.numel() * 4 for p in lm.module.parameters())
    with peak_memory() as memory:
        workbench.save(lm, tmp_path / "out")
    assert size > 40e6
    assert memory.over_start_bytes < 1.5 * size
