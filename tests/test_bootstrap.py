"""The set-up script: what it decides, without installing anything."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workbench import bootstrap

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ((3, 10), False),
        ((3, 11), True),
        ((3, 12, 4), True),
        ((3, 13), True),
        ((3, 14), False),
        ((4, 0), False),
    ],
)
def test_supported_pythons(version: tuple[int, ...], good: bool) -> None:
    assert bootstrap.is_supported(version) is good


def test_an_old_python_is_replaced_by_one_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: "/x/python3.12" if name == "python3.12" else None)
    assert bootstrap.find_python() == "/x/python3.12"


def test_no_fitting_python_says_which_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    with pytest.raises(bootstrap.SetupError, match=r"needs 3\.11 to 3\.13.*PYTHON=python3\.12"):
        bootstrap.find_python()


CPU = [bootstrap.TORCH, "--index-url", bootstrap.CPU_INDEX]
PLAIN = [bootstrap.TORCH]


@pytest.mark.parametrize(
    ("gpu", "system", "chosen", "reachable", "wanted"),
    [
        (False, "linux", None, True, [CPU, PLAIN]),
        (False, "linux", None, False, [PLAIN]),
        (True, "linux", None, False, [PLAIN]),
        (True, "linux", None, True, [PLAIN]),
        (False, "darwin", None, True, [PLAIN]),
        (True, "linux", "https://example.org/cu", True, [[*PLAIN, "--index-url", "https://example.org/cu"]]),
    ],
)
def test_torch_comes_from_the_right_place(
    gpu: bool, system: str, chosen: str | None, reachable: bool, wanted: list[list[str]]
) -> None:
    assert bootstrap.torch_sources(gpu, system, chosen, reachable) == wanted


def test_torch_version_is_the_pinned_one() -> None:
    assert re.search(rf"^{re.escape(bootstrap.TORCH)}$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def test_a_silent_server_costs_no_more_than_the_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.perf_counter()
        assert bootstrap.is_reachable(f"http://127.0.0.1:{server.getsockname()[1]}/", seconds=0.3) is False
        assert time.perf_counter() - start < 2


def test_a_refused_connection_is_not_reachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert bootstrap.is_reachable(f"http://127.0.0.1:{port}/", seconds=2) is False


def test_second_source_is_tried_when_the_first_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[list[str]] = []

    def fail_first(command: list[str], hint: str) -> None:
        tried.append(command)
        if len(tried) == 1:
            raise bootstrap.SetupError(hint)

    monkeypatch.setattr(bootstrap, "run", fail_first)
    monkeypatch.setattr(bootstrap, "has_gpu", lambda: False)
    monkeypatch.setattr(bootstrap, "is_reachable", lambda url: True)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    monkeypatch.setattr(bootstrap.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 1))
    bootstrap.install_torch(Path("python"))
    assert bootstrap.CPU_INDEX in tried[0]
    assert bootstrap.CPU_INDEX not in tried[1]
    assert all("--no-deps" in command for command in tried)


def make_root(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("a")
    (tmp_path / "constraints.txt").write_text("b")
    return tmp_path


def test_digest_changes_with_what_is_installed(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    first = bootstrap.digest(root, "lab", "/usr/bin/python3")
    assert bootstrap.digest(root, "lab", "/usr/bin/python3") == first
    assert bootstrap.digest(root, "test", "/usr/bin/python3") != first
    (root / "constraints.txt").write_text("c")
    assert bootstrap.digest(root, "lab", "/usr/bin/python3") != first


def test_second_run_installs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, calls = make_root(tmp_path), []
    python = bootstrap.venv_python(root / ".venv")

    def make(venv: Path, base: str, uv: str | None) -> None:
        python.parent.mkdir(parents=True)
        python.touch()

    monkeypatch.setattr(bootstrap, "make_venv", make)
    monkeypatch.setattr(bootstrap, "install_torch", lambda python: calls.append("torch"))
    monkeypatch.setattr(bootstrap, "install_rest", lambda *a: calls.append("rest"))
    monkeypatch.setattr(bootstrap, "fetch_model", lambda python: calls.append("model"))
    monkeypatch.setattr(bootstrap, "ensure_browser", lambda: calls.append("browser"))
    bootstrap.set_up(root, "test", "pip")
    assert calls == ["torch", "rest", "model", "browser"]
    calls.clear()
    bootstrap.set_up(root, "test", "pip")
    bootstrap.set_up(root, "lab", "pip")
    assert calls == ["model", "browser", "model"]


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    venv = tmp_path / ".venv"
    venv.mkdir()
    (venv / "mine.txt").touch()
    with pytest.raises(bootstrap.SetupError, match="is no virtual environment: move it away"):
        bootstrap.make_venv(venv, sys.executable, None)
    assert (venv / "mine.txt").exists()


def test_uv_asked_for_but_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    with pytest.raises(bootstrap.SetupError, match="uv is not on the path"):
        bootstrap.set_up(make_root(tmp_path), "lab", "uv")


@pytest.mark.parametrize(
    ("text", "debian"),
    [('PRETTY_NAME="x"\nID=debian\n', True), ("ID=ubuntu\nID_LIKE=debian\n", False), ("", False)],
)
def test_only_debian_itself_gets_chromium_from_apt(text: str, debian: bool) -> None:
    assert bootstrap.is_debian(text) is debian


def test_the_browser_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM", "/my/browser")
    assert bootstrap.find_browser() == "/my/browser"


def test_errors_are_plain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: object) -> None:
        raise bootstrap.SetupError("no disk")

    monkeypatch.setattr(bootstrap, "set_up", refuse)
    assert bootstrap.main(["--target", "lab"]) == 1
    assert capsys.readouterr().err == "[setup] ERROR: no disk\n"


def test_the_script_runs_isolated_with_the_standard_library_alone() -> None:
    script = ROOT / "workbench" / "bootstrap.py"
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(script), "--help"],
        capture_output=True,
        text=True,
        check=False,
        env={},
    )
    assert done.returncode == 0, done.stderr
    assert "--target" in done.stdout


def test_ci_calls_what_the_readme_says() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()
    assert script.read_text().splitlines()[-1] == "make test"
