"""The console command: what it accepts, prints, writes and answers, with a fake library behind it."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import workbench
from workbench import cli, data, lab, measure, weights
from workbench.commands import COMMANDS, _shared, evaluate, prune
from workbench.errors import Cancelled, DataError, ModelError
from workbench.jobs import Progress, Step
from workbench.prune import Citation, Recipe

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("lab", "prune", "eval", "models", "methods", "decoders", "generate", "check-lossless", "replicate")


def info(name: str, needs: tuple[str, ...] = ()) -> SimpleNamespace:
    citation = Citation("A. One, B. Two", "A paper", 2023, "2306.11695")
    return SimpleNamespace(
        name=name, title=name.title(), family="weights", units=("weight",), needs=needs, citation=citation,
        formula="|W| * ||X||", patterns=("2:4",), default_allocation="uniform", default_repair="none",
        parameters={"damp": 0.01},
    )  # fmt: skip


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """The library's functions replaced; the fixture records how they were called."""
    seen = SimpleNamespace(pruned=None, loaded=[], measured=[], calibrated=None, fail=None)
    recipe = {"method": "wanda", "sparsity": 0.5, "of": "non-embedding"}
    report = SimpleNamespace(
        parameters_before=1000, parameters_after=1000, removed=0, zeroed=400, base=800, of="non-embedding",
        true_sparsity=0.5,
    )  # fmt: skip
    pruned = SimpleNamespace(
        report=report,
        recipe=SimpleNamespace(**recipe),
        seconds=1.0,
        cpu_seconds=2.0,
        peak_bytes=3_000_000,
        to_dict=lambda: {"recipe": recipe},
    )

    def load(source: str | None = None) -> SimpleNamespace:
        if source == "missing":
            raise ModelError("source='missing': there is no such folder")
        seen.loaded.append(source)
        return SimpleNamespace(name=source)

    def do_prune(lm: Any, method: str, *, progress: Progress, **options: Any) -> SimpleNamespace:
        if seen.fail:
            raise seen.fail
        progress.step("pruning", 1, 2)
        seen.pruned = {"method": method, **options}
        return pruned

    def save(what: Any, folder: Path, progress: Progress) -> SimpleNamespace:
        folder.mkdir()
        return SimpleNamespace(folder=folder, kind="transformers", bytes=4000)

    def perplexity(lm: Any, windows: Any, *, progress: Progress) -> SimpleNamespace:
        seen.measured.append(lm.name)
        value = 20.0 if lm.name == "dense" else 25.0
        return SimpleNamespace(
            perplexity=value, low=value - 1, high=float("nan"), windows=4, tokens=2044, seconds=0.5,
            protocol={"text": "built in", "seqlen": 512}, nll_per_window=np.ones(4),
        )  # fmt: skip

    def size(lm: Any) -> SimpleNamespace:
        nonzero = 1000 if lm.name == "dense" else 600
        return SimpleNamespace(parameters=1000, nonzero_parameters=nonzero, embedding_parameters=200)

    windows = SimpleNamespace(provenance={"text": "t", "sha256": "ab", "span": [0, 9]})
    methods = (info("magnitude"), info("wanda", ("norm",)))
    fakes = {"load": load, "prune": do_prune, "perplexity": perplexity, "methods": lambda: methods}
    for name, fake in fakes.items():
        monkeypatch.setitem(vars(workbench), name, fake)
    monkeypatch.setitem(sys.modules, "workbench.checkpoint", SimpleNamespace(save=save))
    monkeypatch.setitem(vars(workbench), "checkpoint", SimpleNamespace(save=save))

    def calibrate(lm: Any, text: str | None, **options: int) -> str:
        seen.calibrated = (text, options)
        return "windows"

    monkeypatch.setattr(measure, "size", size)
    monkeypatch.setattr(data, "calibration", calibrate)
    monkeypatch.setattr(data, "evaluation", lambda lm, text, **options: windows)
    monkeypatch.setattr(weights, "default_model_dir", lambda progress: tmp_path)
    return seen


def run(*arguments: object) -> int:
    return cli.main([str(a) for a in arguments])


def test_every_subcommand_is_there_and_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    parser = cli.build_parser()
    assert len(COMMANDS) >= len(NAMES)
    for name in NAMES:
        with pytest.raises(SystemExit) as ended:
            parser.parse_args([name, "--help"])
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert "examples:" in text
        assert f"workbench {name}" in text


def test_examples_in_the_help_parse() -> None:
    parser = cli.build_parser()
    found = 0
    for module in (*COMMANDS, cli):
        for line in module.EPILOG.splitlines():
            words = line.split("  #")[0].split()
            if words[:1] == ["workbench"] and "--help" not in words:
                command = " ".join(line.strip().split("  ")[0].split()).replace("...", "")
                parser.parse_args(shlex.split(command)[1:])
                found += 1
    assert found > 15


def test_help_is_quick_because_torch_is_not_imported() -> None:
    code = "import sys; from workbench.cli import build_parser; build_parser(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prune", "--sparsity", "1", "--out", "x"], "'1' is no share of the parameters: give 0.5"),
        (["prune", "--sparsity", "half", "--out", "x"], "'half' is no share"),
        (["prune", "--sparsity", "nan", "--out", "x"], "'nan' is no share"),
        (["prune", "--samples", "0", "--out", "x"], "'0' is no whole number of at least 1"),
        (["prune", "--method", "wanda"], "--out"),
        (["eval", "--windows", "-3"], "windows"),
        (["nonsense"], "invalid choice"),
    ],
)
def test_wrong_arguments_end_with_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_prune_passes_everything_on(library: SimpleNamespace, tmp_path: Path) -> None:
    out, figures = tmp_path / "out", tmp_path / "f.json"
    status = run(
        "prune", "--method", "wanda", "--sparsity", 0.6, "--pattern", "2:4", "--units", "neuron, kv_group",
        "--allocation", "owl", "--repair", "bias", "--of", "all", "--calibration", "my.txt", "--samples", 3,
        "--seqlen", 64, "--seed", 7, "--model", "org/name", "--out", out, "--json", figures,
    )  # fmt: skip
    assert status == 0
    assert library.loaded == ["org/name"]
    assert library.calibrated == ("my.txt", {"samples": 3, "seqlen": 64, "seed": 7})
    assert library.pruned == {
        "method": "wanda", "sparsity": 0.6, "pattern": "2:4", "units": ("neuron", "kv_group"),
        "allocation": "owl", "repair": "bias", "of": "all", "calibration": "windows", "apply": "remove",
        "seed": 7, "inplace": True,
    }  # fmt: skip


def test_prune_writes_its_figures(library: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "f.json"
    assert run("prune", "--out", tmp_path / "out", "--json", figures) == 0
    found = json.loads(figures.read_text())
    assert found["sparsity_asked"] == found["sparsity_true"] == 0.5
    counts = [found[f"parameters_{name}"] for name in ("before", "after", "removed", "zeroed")]
    assert counts == [1000, 1000, 0, 400]
    assert found["prune_seconds"] == 1.0
    assert found["wall_seconds"] > 0
    assert found["cpu_seconds"] >= 0
    assert found["peak_memory_bytes"] > 1_000_000
    assert found["settings"]["samples"] == 16
    assert "torch" in found["versions"]
    printed = capsys.readouterr()
    assert "50.00% of 800 non-embedding parameters (wanda, asked 50.00%)" in printed.out
    assert "400 (no gain by itself)" in printed.out
    assert not list(tmp_path.glob(".*part"))


def test_a_method_without_data_reads_no_text(library: SimpleNamespace, tmp_path: Path) -> None:
    assert run("prune", "--method", "magnitude", "--out", tmp_path / "out") == 0
    assert library.calibrated is None
    assert library.pruned["calibration"] is None


def test_a_pattern_brings_its_own_sparsity(library: SimpleNamespace, tmp_path: Path) -> None:
    assert run("prune", "--pattern", "2:4", "--out", tmp_path / "out") == 0
    assert "sparsity" not in library.pruned


def test_unknown_method_is_told_before_a_model_is_loaded(
    library: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("prune", "--method", "wnda", "--out", tmp_path / "out") == 2
    assert "unknown method 'wnda': did you mean 'wanda'?" in capsys.readouterr().err
    assert library.loaded == []


def test_an_out_folder_with_content_is_refused(
    library: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").touch()
    assert run("prune", "--out", tmp_path) == 2
    assert "is not empty" in capsys.readouterr().err
    assert run("prune", "--out", tmp_path / "mine") == 2
    assert "is a file" in capsys.readouterr().err
    assert library.loaded == []


def test_json_into_a_missing_folder_is_refused_first(
    library: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("prune", "--out", tmp_path / "out", "--json", tmp_path / "no" / "f.json") == 2
    assert "there is no folder" in capsys.readouterr().err
    assert library.loaded == []


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (Cancelled("cancelled"), 130, "workbench: cancelled: nothing was changed\n"),
        (KeyboardInterrupt(), 130, "workbench: cancelled: nothing was changed\n"),
        (DataError("the text is too short"), 2, "workbench: error: the text is too short\n"),
    ],
)
def test_errors_are_one_line(
    library: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    said: str,
) -> None:
    library.fail = error
    assert run("prune", "--out", tmp_path / "out", "--json", tmp_path / "f.json") == status
    assert capsys.readouterr().err.endswith(said)
    assert list(tmp_path.iterdir()) == []


def pruned_folder(tmp_path: Path, **changes: Any) -> Path:
    folder = tmp_path / "half"
    folder.mkdir()
    asked = {"method": "wanda", "parameters": {}, "sparsity": 0.5, "source": "dense"} | changes
    (folder / "recipe.json").write_text(Recipe(**asked).to_json())
    return folder


def test_eval_shows_the_dense_model_beside(
    library: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, figures = pruned_folder(tmp_path), tmp_path / "f.json"
    assert run("eval", folder, "--json", figures) == 0
    assert library.loaded == [str(folder), "dense"]
    found = json.loads(figures.read_text())
    assert (found["perplexity"], found["dense"]["perplexity"], found["perplexity_ratio"]) == (
        25.0,
        20.0,
        1.25,
    )
    assert found["high"] is None  # NaN is not JSON
    assert (found["sparsity_asked"], found["sparsity_true"]) == (0.5, 0.5)
    assert found["parameters_zeroed"] == 400
    assert found["protocol"] == {"text": "built in", "seqlen": 512}
    printed = capsys.readouterr().out
    assert "25.000" in printed
    assert "20.000" in printed
    assert "protocol: text built in, seqlen 512" in printed


@pytest.mark.parametrize(
    ("arguments", "measured"),
    [(["--against", "none"], 1), (["--against", "other"], 2), ([], 2)],
)
def test_eval_against(library: SimpleNamespace, tmp_path: Path, arguments: list[str], measured: int) -> None:
    assert run("eval", pruned_folder(tmp_path), *arguments) == 0
    assert len(library.measured) == measured


def test_eval_of_a_model_without_a_recipe_stands_alone(library: SimpleNamespace) -> None:
    assert run("eval", "org/name") == 0
    assert library.loaded == ["org/name"]


def test_eval_refuses_the_text_of_the_calibration(
    library: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pruned_folder(tmp_path, calibration={"text": "t", "sha256": "ab", "span": [0, 9]})
    assert run("eval", folder) == 2
    assert "share 9 characters" in capsys.readouterr().err
    assert library.measured == []


def test_a_damaged_recipe_is_an_error(
    library: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pruned_folder(tmp_path)
    (folder / "recipe.json").write_text("{")
    assert run("eval", folder) == 2
    assert "not a recipe" in capsys.readouterr().err


def test_a_missing_model_is_an_error(library: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("eval", "missing") == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_methods_table_and_explanation(library: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("methods") == 0
    assert "wanda      weight   norm     A. One et al. 2023, arXiv:2306.11695" in capsys.readouterr().out
    assert run("methods", "wanda") == 0
    text = capsys.readouterr().out
    for part in ("|W| * ||X||", "A paper", "damp=0.01", "uniform"):
        assert part in text
    assert run("methods", "wnda") == 2


def test_models_lists_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr("workbench.commands.models.cached_on_hub", list)
    assert run("models") == 0
    text = capsys.readouterr().out
    assert "SmolLM2-135M-Instruct (default)" in text
    assert "workbench models --fetch" in text
    assert "llama" in text


def test_progress_in_a_log_is_a_line_per_stage() -> None:
    stream = io.StringIO()
    line = _shared.ProgressLine(stream)
    for done in range(5):
        line(Step("pruning", done, 4, 1.0))
    line(Step("writing", 1, 2, 2.0))
    line.close()
    assert stream.getvalue() == "pruning:   0%, 1 s\nwriting:  50%, 2 s\n"


def test_progress_in_a_terminal_is_written_over() -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True
    line = _shared.ProgressLine(stream)
    line(Step("pruning", 4, 4, 1.0))
    line.close()
    assert stream.getvalue() == "\r\x1b[Kpruning: 100%, 1 s\r\x1b[K"


def test_table_aligns_numbers_to_the_right() -> None:
    text = _shared.table([("model", "size"), ("a", "1,000"), ("bcd", "10")])
    assert text == "model   size\na      1,000\nbcd       10"


def test_json_is_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "f.json"
    target.write_text("old")
    with pytest.raises(TypeError):
        _shared.write_json(target, {"a": object()})
    assert target.read_text() == "old"
    _shared.write_json(target, {"a": 1})
    assert json.loads(target.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]


def test_ctrl_c_ends_with_130() -> None:
    code = (
        "import sys, time\nfrom workbench import cli\nfrom workbench.commands import methods\n"
        "def wait(given):\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "methods.run = wait\nsys.exit(cli.main(['methods']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        start = time.perf_counter()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said == "workbench: cancelled: nothing was changed\n"
    assert time.perf_counter() - start < 10  # and not the 60 s that it would have waited


def test_a_closed_pipe_is_no_traceback() -> None:
    code = "import sys; from workbench.cli import main; sys.exit(main(['models']))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert "Traceback" not in done.stderr


FIRST = "tutorials/00_tour.ipynb"


def notebooks(root: Path) -> Path:
    (root / "tutorials").mkdir(parents=True)
    (root / "tutorials" / "01_next.ipynb").write_text("{}")
    (root / FIRST).write_text("{}")
    return root


def test_lab_command_is_loopback_only_and_holds_no_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, called = notebooks(tmp_path / "n"), {}
    monkeypatch.setattr(lab, "notebooks_folder", lambda folder, **options: root)
    monkeypatch.setattr(lab.os, "execve", lambda path, command, environment: called.update(c=command, e=environment))
    monkeypatch.setattr(lab.subprocess, "call", lambda *a, **k: 0)
    monkeypatch.setattr(lab.warming, "beside", lambda: called.update(warming=True))
    assert run("lab", "--no-browser") == 0
    assert called["warming"]
    printed = capsys.readouterr().out.splitlines()[0]
    token = called["e"]["JUPYTER_TOKEN"]
    assert printed.startswith("Open http://127.0.0.1:")
    assert printed.endswith(f"/lab/tree/{FIRST}?token={token}")
    assert "--ServerApp.ip=127.0.0.1" in called["c"]
    assert f"--LabApp.default_url=/lab/tree/{FIRST}" in called["c"]
    assert "--no-browser" in called["c"]
    settings = Path(next(c for c in called["c"] if "app_settings_dir" in c).partition("=")[2])
    told = json.loads((settings / "overrides.json").read_text())
    assert told["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"  # nobody is asked about news
    assert token not in " ".join(called["c"])


def test_lab_names_the_notebooks_there_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = notebooks(tmp_path / "n")
    monkeypatch.setattr(lab, "notebooks_folder", lambda folder, **options: root)
    assert run("lab", "tutorials/99.ipynb") == 2
    assert f"there are: {FIRST}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], {"notebook": None, "fresh": False}),
        (["--fresh", "--no-browser"], {"notebook": None, "fresh": True, "browser": False}),
        (["lesson", "04", "--port", "9000"], {"notebook": "tutorials/04_decoding.ipynb", "port": 9000}),
        (["lesson", "pruning", "--fresh"], {"notebook": "labs/pruning.ipynb", "fresh": True}),
    ],
)
def test_the_command_alone_opens_the_first_lesson(
    monkeypatch: pytest.MonkeyPatch, words: list[str], wanted: dict[str, Any]
) -> None:
    called: dict[str, Any] = {}
    monkeypatch.setattr(lab, "serve", lambda notebook=None, **options: called.update(notebook=notebook, **options) or 0)
    assert run(*words) == 0
    assert wanted.items() <= called.items()


def test_a_taken_port_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(lab.ArgumentError, match=f"port {port} is taken"):
            lab.free_port(port)


@pytest.mark.parametrize(("variables", "wanted"), [({}, False), ({"DISPLAY": ":0"}, True)])
def test_display(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: bool) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert lab.has_display() is wanted


def test_command_modules_have_the_same_shape() -> None:
    assert prune.run is not evaluate.run
    for module in COMMANDS:
        assert callable(module.add_parser)
        assert callable(module.run)
        assert module.EPILOG.endswith("\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--version")
    assert capsys.readouterr().out == f"sparse-workbench {workbench.__version__}\n"


def test_layer_methods_read_text_even_without_statistics() -> None:
    plain, layers = info("magnitude"), info("shortened-llama")
    layers.family = "layers"
    assert not prune.reads_text(plain)
    assert prune.reads_text(layers)
    assert prune.reads_text(info("wanda", ("norm",)))
