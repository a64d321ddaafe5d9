"""Loading: from anywhere, never from a pickle, and never a model that is not what the checkpoint says."""

from __future__ import annotations

import http.server
import json
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

import workbench
from tests import tiny_lm as byte_lm
from tests.checkpoints import Tensors, edit_config, edit_tensors, write_trap
from workbench import _sources
from workbench.errors import ArgumentError, ModelError, ResourceError
from workbench.models import as_lm, fingerprint
from workbench.testing import logits, tiny_lm, tiny_tokens

LAYER = "model.layers.1."


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A plain folder and a per-layer one."""
    root = tmp_path_factory.mktemp("saved")
    lm = tiny_lm()
    workbench.save(lm, root / "plain")
    kind = workbench.save(workbench.prune(lm, "flap", 0.3, calibration=tiny_tokens()), root / "per-layer").kind
    assert kind == "per-layer"
    return root


@pytest.fixture(params=["plain", "per-layer"])
def folder(request, saved, tmp_path):
    """A copy of either, to damage."""
    return Path(shutil.copytree(saved / request.param, tmp_path / "model"))


def test_a_folder_loads_as_path_and_as_text(folder):
    lm = workbench.load(folder)
    assert lm.source == str(folder)
    assert not lm.module.training
    assert lm.tokenizer is None
    assert torch.equal(logits(lm), logits(workbench.load(str(folder))))


def test_a_tokenizer_comes_along(tmp_path):
    lm = byte_lm.tiny_lm()
    for name, model in (
        ("plain", lm),
        ("ragged", workbench.prune(lm, "flap", 0.2, calibration=tiny_tokens(vocabulary=256))),
    ):
        workbench.save(model, tmp_path / name)
        again = workbench.load(tmp_path / name)
        assert again.tokenizer("sparse")["input_ids"] == lm.tokenizer("sparse")["input_ids"]


@pytest.mark.parametrize("size", [0, 4, 200, -5, -4000])
def test_truncated_weights(folder, size):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ModelError, match="damaged or truncated"):
        workbench.load(folder)


def test_corrupt_weights(folder):
    (folder / "model.safetensors").write_bytes(b"\x93no tensors" * 99)
    with pytest.raises(ModelError, match="damaged or truncated"):
        workbench.load(folder)


@pytest.mark.parametrize("name", [LAYER + "mlp.up_proj.weight", "model.embed_tokens.weight", "model.norm.weight"])
def test_missing_tensors_are_never_filled_with_random_numbers(folder, name):
    edit_tensors(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(ModelError, match=name):
        workbench.load(folder)


@pytest.mark.parametrize("name", ["model.layers.7.mlp.up_proj.weight", LAYER + "mlp.gate_proj.weight_2.bias"])
def test_tensors_without_a_place(folder, name):
    edit_tensors(folder, lambda tensors: tensors.update({name: torch.zeros(3)}))
    with pytest.raises(ModelError, match=r"no place for|does not hold this model|damaged"):
        workbench.load(folder)


def test_fewer_layers_in_the_configuration_than_in_the_file(folder):
    edit_config(folder, num_hidden_layers=2)
    with pytest.raises(ModelError, match=r"model\.layers\.2"):
        workbench.load(folder)


def test_harmless_extras_of_old_checkpoints(saved, tmp_path):
    folder = Path(shutil.copytree(saved / "plain", tmp_path / "model"))
    extras = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2), "transformer.h.0.attn.bias": torch.ones(2)}
    edit_tensors(folder, lambda tensors: tensors.update(extras))
    assert torch.equal(logits(workbench.load(folder)), logits(workbench.load(saved / "plain")))


def narrower(name: str, axis: int, size: int):
    def change(tensors: Tensors) -> None:
        tensors[name] = tensors[name].narrow(axis, 0, size).clone()

    return change


@pytest.mark.parametrize(
    "change",
    [
        narrower(LAYER + "mlp.up_proj.weight", 0, 7),
        narrower(LAYER + "mlp.up_proj.weight", 1, 16),
        narrower(LAYER + "mlp.down_proj.weight", 0, 1),  # one row would broadcast
        narrower(LAYER + "self_attn.o_proj.weight", 1, 6),
        narrower(LAYER + "self_attn.k_proj.weight", 0, 4),
        narrower(LAYER + "input_layernorm.weight", 0, 1),
        narrower("model.embed_tokens.weight", 0, 50),
        narrower("lm_head.weight", 0, 50),
        lambda t: t.update({LAYER + "mlp.gate_proj.weight": t[LAYER + "mlp.gate_proj.weight"][None].clone()}),
        lambda t: t.update({LAYER + "mlp.down_proj.weight": torch.ones(48)}),
        lambda t: t.update({LAYER + "mlp.up_proj.bias": torch.ones(3)}),
        lambda t: t.update({n: x[:0].clone() for n, x in t.items() if n.startswith(LAYER + "self_attn.")}),
    ],
)
def test_shapes_that_do_not_belong_together(folder, change):
    edit_tensors(folder, change)
    with pytest.raises(ModelError, match=r"damaged|does not fit|no place"):
        workbench.load(folder)


@pytest.mark.parametrize("content", [b"", b'{"model_type": "lla', b"\xff\xfe\x00", b"[1]", b"{}"])
def test_a_damaged_configuration(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"not JSON|not the settings|damaged"):
        workbench.load(folder)


@pytest.mark.parametrize(
    "changes", [{"hidden_size": "many"}, {"num_attention_heads": 0}, {"hidden_act": "nonsense"}, {"model_type": None}]
)
def test_a_configuration_that_contradicts_itself(folder, changes):
    edit_config(folder, **changes)
    with pytest.raises(ModelError):
        workbench.load(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_tokenizer(folder, name):
    (folder / name).write_text("{")
    with pytest.raises(ModelError, match="fetch or write it again"):
        workbench.load(folder)


def test_a_family_that_is_not_described(folder, tmp_path):
    edit_config(folder, model_type="bloom")
    with pytest.raises(ModelError, match=r"bloom|lacks transformer"):
        workbench.load(folder)
    config = BertConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    with pytest.raises(ModelError, match=r"'bert' is not described\. Described: gemma2.*families\.py"):
        workbench.wrap(BertModel(config))


def test_pickles_are_named_and_not_opened(saved, tmp_path):
    folder, marker = Path(shutil.copytree(saved / "plain", tmp_path / "m")), tmp_path / "opened"
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "consolidated.00.pth"):
        write_trap(folder / name, marker)
    with pytest.raises(ModelError, match=r"consolidated\.00\.pth, pytorch_model\.bin.*not read: convert"):
        workbench.load(folder)
    assert not marker.exists()


def test_pickles_beside_the_weights_are_not_opened(folder, tmp_path):
    marker, wanted = tmp_path / "opened", logits(workbench.load(folder))
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "adapter_model.bin", "scheduler.pkl"):
        write_trap(folder / name, marker)
    assert torch.equal(logits(workbench.load(folder)), wanted)
    assert not marker.exists()


def test_a_pickle_by_another_name_is_not_opened(folder, tmp_path):
    marker = tmp_path / "opened"
    write_trap(folder / "model.safetensors", marker)
    with pytest.raises(ModelError, match="damaged or truncated"):
        workbench.load(folder)
    assert not marker.exists()


@pytest.mark.parametrize("way", ["index", "configuration"])
def test_nothing_can_point_to_a_pickle(folder, way, tmp_path):
    marker = tmp_path / "opened"
    write_trap(folder / "pytorch_model.bin", marker)
    if way == "index":
        (folder / "model.safetensors").rename(folder / "other.safetensors")
        index = {"metadata": {}, "weight_map": {"model.norm.weight": "pytorch_model.bin"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        edit_config(folder, transformers_weights="pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickles \(pytorch_model\.bin\)"):
        workbench.load(folder)
    assert not marker.exists()


def test_a_damaged_index(folder):
    (folder / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    with pytest.raises(ModelError, match="is damaged"):
        workbench.load(folder)


@pytest.mark.parametrize("kind", ["llama", "my_own"])
def test_code_of_a_checkpoint_does_not_run_unless_asked(folder, kind, tmp_path):
    marker = tmp_path / "ran"
    code = f"from pathlib import Path\nPath({str(marker)!r}).write_text('code ran')\nclass Own: pass\n"
    for name in ("configuration_own.py", "modeling_own.py", "tokenization_own.py"):
        (folder / name).write_text(code)
    auto = {"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": "modeling_own.Own"}
    edit_config(folder, auto_map=auto, model_type=kind)
    if kind == "llama":
        workbench.load(folder)  # the family is known: our class is taken, not theirs
    else:
        with pytest.raises(ModelError):
            workbench.load(folder)
    assert not marker.exists()


def test_places_that_hold_no_model(saved, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text("{}")
    for source, said in (
        (tmp_path / "missing", "there is no such folder"),
        ("./missing", "there is no such folder"),
        ("a/b/c", "there is no such folder"),
        (tmp_path / "empty", "holds no config.json"),
        (tmp_path / "bare", r"holds no \*\.safetensors"),
        (saved / "plain" / "model.safetensors", "is a file but no GGUF: pass its folder"),
        ("not an id", "it is no Hugging Face id"),
    ):
        with pytest.raises(ModelError, match=said):
            workbench.load(source)


@pytest.mark.parametrize("content", [None, b"", b"GGUF" + bytes(10), b"no gguf at all, but long enough to look at"])
def test_a_gguf_file_that_is_none(content, tmp_path):
    file = tmp_path / "model.gguf"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ModelError, match=r"no such GGUF file|cannot load .*damaged or of an unknown kind"):
        workbench.load(file)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"source": 3}, "source=3 is neither a name nor a path"),
        ({"dtype": "float32"}, "dtype='float32': pass a floating-point dtype"),
        ({"dtype": torch.int8}, "pass a floating-point dtype"),
        ({"device": "nowhere"}, "device='nowhere' cannot be used here"),
    ],
)
def test_wrong_arguments(saved, arguments, said):
    with pytest.raises(ArgumentError, match=said):
        workbench.load(**{"source": saved / "plain"} | arguments)


def test_dtype(folder):
    wanted, lm = logits(workbench.load(folder)), workbench.load(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in lm.module.parameters()} == {torch.bfloat16}
    assert (logits(lm).float() - wanted).abs().max() < 0.1 * wanted.abs().max()


def test_too_little_memory(folder, monkeypatch):
    monkeypatch.setattr("workbench.measure.memory.available_memory", lambda: 1000)
    with pytest.raises(ResourceError, match=r"loading .* needs .* of memory"):
        workbench.load(folder)


def test_memory_that_runs_out_halfway(saved, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr("workbench.models.AutoModelForCausalLM.from_pretrained", full)
    with pytest.raises(ResourceError, match="too little memory"):
        workbench.load(saved / "plain")


def test_loading_leaves_transformers_as_talkative_as_it_was(saved):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    workbench.load(saved / "plain")
    with pytest.raises(ModelError):
        workbench.load(saved)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


# --- the hub ---------------------------------------------------------------------------------------------------


def test_an_id_offline_fails_at_once(monkeypatch):
    monkeypatch.setattr(_sources, "answers", lambda _: False)
    start = time.perf_counter()
    with pytest.raises(ModelError, match=r"'typo': there is no such folder, it is not in the cache .* does not answer"):
        workbench.load("typo")
    assert time.perf_counter() - start < 3


def test_a_cached_id_that_holds_pickles(tmp_path, monkeypatch):
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "config.json").write_text("{}")
    write_trap(snapshot / "pytorch_model.bin", tmp_path / "opened")
    monkeypatch.setattr(_sources, "answers", lambda _: False)
    monkeypatch.setattr(_sources, "try_to_load_from_cache", lambda *_: str(snapshot / "config.json"))
    with pytest.raises(ModelError, match="pickles"):
        workbench.load("org/old")
    assert not (tmp_path / "opened").exists()


def test_offline_mode_is_named(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(_sources, "answers", pytest.fail)
    with pytest.raises(ModelError, match="offline mode is on"):
        workbench.load("org/typo")


def test_a_cached_id_loads_without_the_hub(saved, tmp_path, monkeypatch):
    cache = tmp_path / "hub"
    snapshot = cache / "models--org--tiny" / "snapshots" / ("0" * 40)
    shutil.copytree(saved / "plain", snapshot)
    refs = cache / "models--org--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    byte_lm.byte_tokenizer().save_pretrained(snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(_sources, "answers", lambda _: False)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("the network was asked"))
    lm = workbench.load("org/tiny")
    assert lm.tokenizer is not None
    assert torch.equal(logits(lm), logits(workbench.load(saved / "plain")))


def test_an_id_that_the_hub_knows_is_left_to_transformers(monkeypatch):
    monkeypatch.setattr(_sources, "answers", lambda _: True)
    assert _sources.cached_folder("org/name") is None
    assert _sources.locate("org/name") == ("org/name", {"use_safetensors": True})


class Status(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_HEAD(self):
        self.send_response(int(self.path.strip("/")))
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Status) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [200, 401, 404, 503])
def test_any_answer_is_an_answer(server, status):
    assert _sources.answers(f"{server}/{status}", wait=5)


def test_silence_and_a_closed_door_are_none(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.perf_counter()
        port = silent.getsockname()[1]
        assert not _sources.answers(f"http://127.0.0.1:{port}/", wait=0.2)
        assert time.perf_counter() - start < 1
    assert not _sources.answers(f"http://127.0.0.1:{port}/", wait=5)


def test_a_name_server_that_hangs_does_not_hold_us(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(_sources, "_responds", lambda *_: release.wait(30))
    start = time.perf_counter()
    assert not _sources.answers("http://example.invalid/", wait=0.1)
    assert time.perf_counter() - start < 1
    release.set()


# --- the handle ------------------------------------------------------------------------------------------------


def test_fingerprint_notices_any_weight_and_the_configuration():
    lm = tiny_lm()
    before, seen = lm.fingerprint, set()
    assert len(before) == 64
    for parameter in lm.module.parameters():
        value = parameter.data.flatten()[-1].clone()
        parameter.data.view(-1)[-1] += 1e-3
        seen.add(lm.fingerprint)
        parameter.data.view(-1)[-1] = value
    assert before not in seen
    assert len(seen) == len(list(lm.module.parameters()))
    assert lm.fingerprint == before
    lm.module.config.rms_norm_eps = 1e-3
    assert lm.fingerprint != before


def test_fingerprint_survives_saving_and_any_number_of_threads(folder, tmp_path):
    lm = workbench.load(folder)
    prints = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        prints.append(lm.fingerprint)
    workbench.save(lm, tmp_path / "again")
    assert {*prints, workbench.load(tmp_path / "again").fingerprint} == {fingerprint(lm.module)}


def test_as_lm_takes_whatever_holds_a_model():
    lm = tiny_lm()
    pruned = workbench.prune(lm, "magnitude", 0.5)
    assert as_lm(lm) is lm
    assert as_lm(pruned) is pruned.lm
    assert as_lm(lm.module.train()).module is lm.module
    assert not lm.module.training
    with pytest.raises(ArgumentError, match=r"model='wanda' is not a model: pass workbench\.load"):
        as_lm("wanda")


def test_repr_is_one_line():
    assert repr(tiny_lm()) == "LM('tiny-llama', LlamaForCausalLM, 0.0 M parameters)"
